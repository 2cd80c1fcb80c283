//! golang-migrate: `<version>_<name>.up.sql` and `.down.sql`. The whole file is one message, in no transaction but its own.

use super::{Named, Rules, digits_and_name, no_settings, strip_ending, whole};

pub(super) const RULES: Rules =
    Rules { form: "<version>_<description>.up.sql", name, sections: whole, settings: no_settings };

/// Also sqlx's reversible scripts are called so.
pub(super) fn name(name: &str) -> Named {
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
