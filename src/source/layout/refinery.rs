//! refinery: `V<version>__<name>.sql`, and `U<version>__<name>.sql`, which there is a script too, one that may come late.
//! One with a line `-- refinery:noTransaction` runs outside a transaction.

use super::{Fault, Named, Rules, Sections, leading_digits, no_settings, strip_ending, whole};

pub(super) const RULES: Rules = Rules { form: "V<version>__<description>.sql", name, sections, settings: no_settings };

fn name(name: &str) -> Named {
    let own = name.rsplit('/').next().unwrap_or(name);
    if strip_ending(own, ".rs").is_some_and(|stem| stem.starts_with(['V', 'U'])) {
        return Named::Wrong("Belay runs no Rust: write it in SQL".to_owned());
    }
    let Some(stem) = strip_ending(name, ".sql") else { return Named::Ignored };
    if name.contains('/') {
        return Named::Wrong("it lies in a folder below: put it beside the others".to_owned());
    }
    if !name.ends_with(".sql") {
        return Named::Wrong("its ending must be written .sql".to_owned());
    }
    let Some(rest) = stem.strip_prefix(['V', 'U']) else {
        return Named::Wrong("it does not begin with V or U".to_owned());
    };
    match leading_digits(rest) {
        ("", _) => Named::Wrong("behind its first letter comes a version in digits".to_owned()),
        (version, rest) => match rest.strip_prefix("__").filter(|description| !description.is_empty()) {
            Some(description) if !description.chars().all(|c| c.is_alphanumeric() || c == '_') => Named::Wrong(
                "refinery passes over a name with anything but letters, digits and underscores: rename it".to_owned(),
            ),
            Some(description) => Named::Script { version: version.to_owned(), description: description.to_owned() },
            None => Named::Wrong("behind the version come two underscores and a description".to_owned()),
        },
    }
}

fn sections(text: &str) -> Result<Sections, Fault> {
    Ok(Sections { no_transaction: text.lines().any(is_no_transaction), ..whole(text)? })
}

/// `-- refinery:noTransaction` and nothing else, with two hyphens or more and at most one blank.
fn is_no_transaction(line: &str) -> bool {
    let behind = line.trim_start_matches('-');
    let blank = behind.strip_prefix(char::is_whitespace).unwrap_or(behind);
    line.len() - behind.len() >= 2 && blank == "refinery:noTransaction"
}
