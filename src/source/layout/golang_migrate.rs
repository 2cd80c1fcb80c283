//! golang-migrate: `<version>_<name>.up.sql` and `.down.sql`. The whole file is one message, in no transaction but its own.

use super::{Fault, Named, Rules, Sections, digits_and_name, leading_digits, no_settings, strip_ending, whole};
use crate::script::statement_ranges;

pub(super) const RULES: Rules = Rules { form: "<version>_<description>.up.sql", name, sections, settings: no_settings };

fn name(name: &str) -> Named {
    match reversible(name) {
        Named::Ignored if is_run(name) => Named::Wrong(
            "golang-migrate runs it, whatever its ending: call it .sql, or take it out of the folder".to_owned(),
        ),
        Named::Script { version, .. } | Named::Down { version } if version.parse::<u64>().is_err() => {
            Named::Wrong(format!("golang-migrate passes over versions above {}: give it a lower one", u64::MAX))
        }
        named => named,
    }
}

/// As golang-migrate has it: `<digits>_`, and behind that somewhere `.up.` or `.down.`.
fn is_run(name: &str) -> bool {
    let (version, rest) = leading_digits(name);
    let direction = || [".up.", ".down."].iter().any(|direction| rest.contains(direction));
    !version.is_empty() && rest.starts_with('_') && !name.contains('/') && direction()
}

/// Also sqlx's reversible scripts are called so.
pub(super) fn reversible(name: &str) -> Named {
    let Some(stem) = strip_ending(name, ".sql").filter(|_| !name.contains('/')) else { return Named::Ignored };
    let (stem, down) = match (stem.strip_suffix(".up"), stem.strip_suffix(".down")) {
        (Some(stem), _) => (stem, false),
        (_, Some(stem)) => (stem, true),
        _ => return Named::Wrong("it ends neither in .up.sql nor in .down.sql".to_owned()),
    };
    match digits_and_name(stem) {
        _ if !name.ends_with(".sql") => Named::Wrong("its ending must be written .sql".to_owned()),
        Ok((version, _)) if down => Named::Down { version },
        Ok((version, description)) => Named::Script { version, description },
        Err(why) => Named::Wrong(why),
    }
}

/// A statement that has the message to itself is in no transaction, and may commit.
fn sections(text: &str) -> Result<Sections, Fault> {
    let no_transaction = match &statement_ranges(text)[..] {
        [only] => may_commit(&text[only.clone()]),
        _ => false,
    };
    Ok(Sections { no_transaction, ..whole(text)? })
}

/// What a procedure does is not in the script; what a block does is.
fn may_commit(statement: &str) -> bool {
    let statement = statement.to_ascii_lowercase();
    let mut words = statement.split(|c: char| !c.is_ascii_alphabetic());
    match words.next() {
        Some("call") => true,
        Some("do") => words.any(|word| ["commit", "rollback", "call"].contains(&word)),
        _ => false,
    }
}
