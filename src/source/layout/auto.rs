//! Which layout a folder has, by its files.

use super::{Named, canonical, dbmate, goose, reaches, rules, sqlx};
use crate::api::Layout;
use crate::script::InvalidFile;

/// The one layout that fits all of the files.
///
/// # Errors
/// When none does, or more than one: then a person has to name it.
pub(super) fn recognise(files: &[(String, Vec<u8>)]) -> Result<Layout, InvalidFile> {
    let Some(first) = files.iter().map(|(name, _)| name).filter(|name| is_sql(name)).min() else {
        return Ok(Layout::Belay);
    };
    let fits: Vec<_> = Layout::NAMED.iter().copied().filter(|layout| fits(*layout, files)).collect();
    match fits[..] {
        [layout] => Ok(layout),
        _ => Err(InvalidFile::Unrecognised {
            file: first.clone(),
            fits: fits.iter().map(|layout| layout.as_str()).collect(),
        }),
    }
}

fn is_sql(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".sql")
}

/// Whether every file is one of the layout's by its name, and every script has the marks of that layout and no other's.
fn fits(layout: Layout, files: &[(String, Vec<u8>)]) -> bool {
    let mut scripts = 0;
    for (name, bytes) in files.iter().filter(|(name, _)| reaches(layout, name)) {
        let name = canonical(layout, name.clone());
        match named(layout, &name) {
            // Of what is no SQL a layout that does not know it says nothing.
            Named::Wrong(_) if is_sql(&name) => return false,
            Named::Script { .. } => scripts += 1,
            // Settings of a script are Flyway's alone.
            Named::Ignored if is_sql(name.trim_end_matches(".conf")) => return false,
            _ => continue,
        }
        let text = String::from_utf8_lossy(bytes);
        let goose = text.lines().any(goose::is_mark);
        let dbmate = text.lines().any(|line| dbmate::mark(line, "up").is_some());
        if goose != (layout == Layout::Goose) || dbmate != (layout == Layout::Dbmate) {
            return false;
        }
    }
    scripts > 0 && (layout != Layout::Sqlx || has_sign_of_sqlx(files))
}

fn named(layout: Layout, name: &str) -> Named {
    match rules(layout) {
        Some(rules) => (rules.name)(name),
        // Belay's own names are sqlx's simple ones, and a rollback beside them.
        None => {
            let simple = name.strip_suffix(".down.sql").or_else(|| name.strip_suffix(".sql"));
            match simple.map(super::digits_and_name) {
                Some(Ok((version, _))) if name.ends_with(".down.sql") => Named::Down { version },
                Some(Ok((_, description))) if description.contains(['.', '/']) => Named::Wrong(description),
                Some(Ok((version, description))) => Named::Script { version, description },
                Some(Err(why)) => Named::Wrong(why),
                None => Named::Ignored,
            }
        }
    }
}

/// A simple script of sqlx's is read as Belay's own; only these are read otherwise.
fn has_sign_of_sqlx(files: &[(String, Vec<u8>)]) -> bool {
    files.iter().any(|(name, bytes)| name.ends_with(".up.sql") || bytes.starts_with(sqlx::NO_TRANSACTION.as_bytes()))
}
