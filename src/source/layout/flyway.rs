//! Flyway: `V<version>__<description>.sql`, its undo `U<version>__<description>.sql`, and `<script>.conf` beside it.
//!
//! Versions may have parts, with dots or underscores between. Where one of a source does, all of them become numbers by
//! the same rule: three parts, of which the second and the third have three digits: `V1.2` is 1002000, `V1.2.10` is
//! 1002010. Repeatable scripts, baselines and callbacks have no like in Belay, and are refused by name.

use super::sections::lines;
use super::{Fault, Named, Rules, Sections, strip_ending, whole};
use crate::script::{Position, Unsupported, UnsupportedKind, Version};

pub(super) const RULES: Rules = Rules { form: "V<version>__<description>.sql", name, sections, settings };

/// What Flyway calls its callbacks by, at the beginning.
const CALLBACKS: &[&str] = &["before", "after", "createSchema", "sqlMigration"];

fn name(name: &str) -> Named {
    let (script, settings) = match strip_ending(name, ".conf") {
        Some(script) => (script, true),
        None => (name, false),
    };
    if strip_ending(script, ".java").is_some_and(|stem| stem.starts_with(['V', 'R', 'U']) && stem.contains("__")) {
        return Named::Wrong("Belay runs no Java: write it in SQL".to_owned());
    }
    let Some(stem) = strip_ending(script, ".sql") else { return Named::Ignored };
    let wrong = |why: &str| Named::Wrong(why.to_owned());
    if name.contains('/') {
        return wrong("it lies in a folder below: put it beside the others");
    }
    if !script.ends_with(".sql") {
        return wrong("its ending must be written .sql");
    }
    let (kind, rest) = match stem.chars().next() {
        _ if CALLBACKS.iter().any(|callback| stem.starts_with(callback)) => {
            return wrong("it is a callback of Flyway's, and Belay has none: leave it out, or write it as a script");
        }
        Some('R') if stem.starts_with("R__") => {
            return wrong(
                "it is repeatable, and Belay applies a script once: write each change as a script with a version",
            );
        }
        Some('B') => {
            return wrong("it is a baseline of Flyway's: leave it out, and keep the scripts that it stands for");
        }
        Some(kind @ ('V' | 'U')) => (kind, &stem[1..]),
        _ => return wrong("it does not begin with V"),
    };
    let Some((written, description)) = rest.split_once("__").filter(|(_, description)| !description.is_empty()) else {
        return wrong("behind the version come two underscores and a description");
    };
    let parts: Vec<_> = written.split(['.', '_']).collect();
    if !parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())) {
        return wrong("the version is of digits, with single dots or underscores between");
    }
    let version = parts.join(".");
    match (kind, settings) {
        ('V', true) => Named::Settings { script: script.to_owned() },
        ('V', false) => Named::Script { version, description: description.to_owned() },
        (_, true) => Named::Ignored,
        (_, false) => Named::Down { version },
    }
}

/// Placeholders are Flyway's to fill in.
fn sections(text: &str) -> Result<Sections, Fault> {
    let placeholder = |line: &str| {
        let at = line.find("${")?;
        let length = line[at..].find('}')?;
        Some((at, line[at..at + length + 1].chars().take(40).collect::<String>()))
    };
    let found = lines(text).find_map(|line| Some((line.number, line.text, placeholder(line.text)?)));
    let unsupported = found.map(|(line, text, (at, name))| Unsupported {
        kind: UnsupportedKind::Layout,
        position: Position { line, column: u32::try_from(text[..at].chars().count() + 1).unwrap_or(u32::MAX) },
        what: format!("{name} is a placeholder, which Flyway would fill in"),
        remedy: "write the value itself".to_owned(),
    });
    Ok(Sections { unsupported, ..whole(text)? })
}

fn settings(text: &str) -> Result<bool, Fault> {
    let mut outside = false;
    for line in lines(text) {
        let setting = line.text.trim();
        match setting.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            _ if setting.is_empty() || setting.starts_with(['#', '!']) => {}
            Some(("executeInTransaction", "false")) => outside = true,
            Some(("executeInTransaction", "true")) => outside = false,
            _ => {
                let why = "the only setting that Belay knows here is executeInTransaction, true or false".to_owned();
                return Err(Fault { line: line.number, why });
            }
        }
    }
    Ok(outside)
}

/// How a source's versions become numbers: as they are, or, where one has parts, all of them by parts.
pub(super) struct Parts {
    dotted: bool,
}

/// The digits of each part behind the first, and how many of those there are.
const DIGITS: usize = 3;
const BEHIND: usize = 2;

impl Parts {
    pub fn of<'a>(mut versions: impl Iterator<Item = &'a str>) -> Self {
        Self { dotted: versions.any(|version| version.contains('.')) }
    }

    /// The number of a version whose parts have dots between.
    pub fn version(&self, written: &str) -> Result<Version, String> {
        let too_long = |_| "its version has more than 100 digits".to_owned();
        if !self.dotted {
            return written.parse().map_err(too_long);
        }
        let mut parts = written.split('.');
        let mut number = parts.next().unwrap_or_default().to_owned();
        for _ in 0..BEHIND {
            let part = parts.next().unwrap_or_default().trim_start_matches('0');
            if part.len() > DIGITS {
                return Err(format!("Belay reads at most {DIGITS} digits behind each dot of a version"));
            }
            number.push_str(&format!("{part:0>DIGITS$}"));
        }
        match parts.all(|part| part.bytes().all(|byte| byte == b'0')) {
            true => number.parse().map_err(too_long),
            false => Err(format!("Belay reads at most {} parts of a version", BEHIND + 1)),
        }
    }
}
