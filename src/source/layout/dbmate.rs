//! dbmate: `<version>_<name>.sql`, with a line `-- migrate:up`, behind which `transaction:false` may stand, and one
//! `-- migrate:down`.

use super::sections::lines;
use super::{Fault, Named, Rules, Sections, leading_digits, no_settings, strip_ending};

pub(super) const RULES: Rules = Rules { form: "<version>_<description>.sql", name, sections, settings: no_settings };

fn name(name: &str) -> Named {
    let Some(stem) = strip_ending(name, ".sql").filter(|_| !name.contains('/')) else { return Named::Ignored };
    match leading_digits(stem) {
        _ if !name.ends_with(".sql") => Named::Wrong("its ending must be written .sql".to_owned()),
        ("", _) => Named::Wrong("it does not begin with a version in digits".to_owned()),
        (version, rest) => {
            let description = match rest.trim_start_matches(['_', '-']) {
                "" => stem,
                description => description,
            };
            Named::Script { version: version.to_owned(), description: description.to_owned() }
        }
    }
}

/// What stands behind `-- migrate:up` or `-- migrate:down`, when the line is one.
pub(super) fn mark<'a>(line: &'a str, which: &str) -> Option<&'a str> {
    let behind = line.strip_prefix("--")?.trim_start_matches([' ', '\t']).strip_prefix("migrate:")?;
    let options = behind.strip_prefix(which)?;
    (options.is_empty() || options.starts_with([' ', '\t'])).then(|| options.trim())
}

fn sections(text: &str) -> Result<Sections, Fault> {
    let mut out = Sections { end: text.len(), ..Sections::default() };
    let mut up = false;
    for line in lines(text) {
        let fault = |why: &str| Err(Fault { line: line.number, why: why.to_owned() });
        if out.down.is_some() {
            // dbmate runs every block of a file.
            if ["up", "down"].iter().any(|which| mark(line.text, which).is_some()) {
                return fault("Belay reads one up and one down of a file: give each pair a file of its own");
            }
        } else if let Some(options) = mark(line.text, "up") {
            if std::mem::replace(&mut up, true) {
                return fault("-- migrate:up is there twice: keep one of them");
            }
            for option in options.split_whitespace() {
                match option {
                    "transaction:false" => out.no_transaction = true,
                    "transaction:true" => {}
                    _ => return fault("the only option of -- migrate:up that Belay knows is transaction:false"),
                }
            }
        } else if mark(line.text, "down").is_some() {
            if !up {
                return fault("-- migrate:up comes before -- migrate:down");
            }
            out.end = line.start;
            out.down = Some(text[line.end..].to_owned());
        } else if !up && !line.text.trim().is_empty() && !line.text.trim_start().starts_with("--") {
            return fault("-- migrate:up is missing before the first statement");
        }
    }
    match up {
        true => Ok(out),
        false => Err(Fault { line: 1, why: "-- migrate:up is missing".to_owned() }),
    }
}
