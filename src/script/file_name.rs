//! The rule for file names, and what a near miss should have been.

use std::collections::HashSet;

use super::Version;

/// What a file is by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum FileName {
    Script(Parts),
    /// The rollback of a script, in a file of its own.
    Down(Parts),
    /// Not a script, and not meant to be one.
    Ignored,
    /// Meant to be a script, and named wrongly.
    Wrong {
        why: String,
        better: String,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parts {
    pub version: Version,
    /// As it is written in the name.
    pub description: String,
}

const DOWN: &str = ".down";

/// `<version>_<description>.sql` or `<version>_<description>.down.sql`; what does not end in
/// `.sql`, in any case, is ignored.
pub(super) fn read(name: &str) -> FileName {
    let Some(at) = name.len().checked_sub(".sql".len()).filter(|at| name.is_char_boundary(*at)) else {
        return FileName::Ignored;
    };
    let (stem, ending) = name.split_at(at);
    if !ending.eq_ignore_ascii_case(".sql") {
        return FileName::Ignored;
    }
    if ending != ".sql" {
        return FileName::Wrong { why: format!("{ending} must be written .sql"), better: suggestion(stem) };
    }
    let (parts, file): (_, fn(Parts) -> FileName) = match stem.strip_suffix(DOWN) {
        Some(stem) => (stem, FileName::Down),
        None => (stem, FileName::Script),
    };
    match split(parts) {
        Ok(parts) => file(parts),
        Err(why) => FileName::Wrong { why: why.to_owned(), better: suggestion(stem) },
    }
}

fn split(stem: &str) -> Result<Parts, &'static str> {
    let digits = stem.find(|c: char| !c.is_ascii_digit()).unwrap_or(stem.len());
    let (version, rest) = stem.split_at(digits);
    if version.is_empty() {
        return Err("it does not begin with a version in digits");
    }
    let Some(description) = rest.strip_prefix('_').filter(|description| !description.is_empty()) else {
        return Err(if rest.is_empty() || rest == "_" {
            "a description is missing behind the version"
        } else {
            "the version must be digits only, with an underscore behind it"
        });
    };
    if !description.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
        return Err("the description must be of the letters A to Z and a to z, digits, _ and -");
    }
    let version = version.parse().map_err(|_| "the version has more than 100 digits")?;
    Ok(Parts { version, description: description.to_owned() })
}

/// A name that would do, as near to this stem as it can be.
fn suggestion(stem: &str) -> String {
    let lower = stem.to_ascii_lowercase();
    let (stem, ending) = match () {
        () if lower.ends_with(DOWN) => (&stem[..stem.len() - DOWN.len()], ".down.sql"),
        () if lower.ends_with(".up") => (&stem[..stem.len() - ".up".len()], ".sql"),
        () => (stem, ".sql"),
    };
    let without_letter = stem.trim_start_matches(['V', 'v', 'U', 'R', '.', '_', '-', ' ']);
    let stem = if without_letter.starts_with(|c: char| c.is_ascii_digit()) { without_letter } else { stem };
    let digits = stem.find(|c: char| !c.is_ascii_digit()).unwrap_or(stem.len());
    let (version, rest) = stem.split_at(digits);
    let version = match version.len() {
        0 => "001",
        1..=100 => version,
        _ => &version[..100],
    };
    let mut description = String::new();
    for c in rest.chars() {
        if c.is_ascii_alphanumeric() || c == '-' && !description.is_empty() {
            description.push(c);
        } else if !description.is_empty() && !description.ends_with('_') {
            description.push('_');
        }
    }
    let description = match description.trim_end_matches(['_', '-']) {
        "" => "what_it_does",
        description => description,
    };
    format!("{version}_{description}{ending}")
}

/// The names that a source has, so that none of them is suggested for another file.
pub(super) struct Names(HashSet<(Version, bool)>);

impl Names {
    pub fn of(names: &[String]) -> Self {
        Self(names.iter().filter_map(|name| key(name)).collect())
    }

    /// What is wrong with a name, and what to call the file, if no other one is called so.
    pub fn advice(&mut self, why: &str, better: &str) -> String {
        match key(better).is_some_and(|key| self.0.insert(key)) {
            true => format!("{why}; call it {better}"),
            false => why.to_owned(),
        }
    }
}

/// What no two files may have: a version, of a script or of a rollback.
fn key(name: &str) -> Option<(Version, bool)> {
    match read(name) {
        FileName::Script(parts) => Some((parts.version, false)),
        FileName::Down(parts) => Some((parts.version, true)),
        _ => None,
    }
}

impl Parts {
    /// The description as people read it.
    pub fn spoken(&self) -> String {
        match self.description.replace('_', " ").trim() {
            "" => self.description.clone(),
            spoken => spoken.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_called_version_underscore_description() {
        for (name, version, description) in [
            ("001_initial_schema.sql", "001", "initial schema"),
            ("20251215103000_Add-user.sql", "20251215103000", "Add-user"),
            ("1__x.sql", "1", "x"),
            ("0___.sql", "0", "__"),
        ] {
            let FileName::Script(parts) = read(name) else { panic!("{name}: {:?}", read(name)) };
            assert_eq!((parts.version.as_written(), parts.spoken().as_str()), (version, description));
        }
        assert!(matches!(read("001_x.down.sql"), FileName::Down(_)));
    }

    #[test]
    fn a_near_miss_is_told_a_name_that_would_do() {
        for (name, better) in [
            ("V1__create_users.sql", "1_create_users.sql"),
            ("v2.1__x.sql", "2_1_x.sql"),
            ("1-x.sql", "1_x.sql"),
            ("001 add user.sql", "001_add_user.sql"),
            ("x.sql", "001_x.sql"),
            ("001_x.SQL", "001_x.sql"),
            ("001_x.Sql", "001_x.sql"),
            ("001.sql", "001_what_it_does.sql"),
            ("001_.sql", "001_what_it_does.sql"),
            ("001_größe.sql", "001_gr_e.sql"),
            ("001_x.up.sql", "001_x.sql"),
            ("001_x.DOWN.sql", "001_x.down.sql"),
            ("down.sql", "001_down.sql"),
            ("1-x.down.sql", "1_x.down.sql"),
            (".sql", "001_what_it_does.sql"),
            ("._001_x.sql", "001_x.sql"),
            ("１_x.sql", "001_x.sql"),
            ("001_x\n.sql", "001_x.sql"),
        ] {
            let FileName::Wrong { better: suggested, .. } = read(name) else { panic!("{name}: {:?}", read(name)) };
            assert_eq!(suggested, better, "{name}");
            assert!(matches!(read(better), FileName::Script(_) | FileName::Down(_)), "{better}");
        }
    }

    #[test]
    fn what_does_not_end_in_sql_is_ignored() {
        for name in ["README.md", "001_x.sql.bak", "sql", "", "é", "001_x.sqlé", "001_x.psql"] {
            assert_eq!(read(name), FileName::Ignored, "{name}");
        }
    }

    #[test]
    fn a_version_too_long_is_refused_with_a_shorter_one() {
        assert!(matches!(read(&format!("{}_x.sql", "1".repeat(100))), FileName::Script(_)));
        assert!(matches!(read(&format!("{}_x.sql", "1".repeat(101))), FileName::Wrong { .. }));
    }
}
