//! A script's text as the ledger keeps it: without the data of COPY and without passwords, and of a very long one the
//! beginning.

use std::borrow::Cow;
use std::iter;
use std::ops::Range;

use crate::script::{Rollback, Script, WITHHELD, passwords, prose_without_passwords, withheld};

/// The most that is kept of a text, in bytes: as much as a ConfigMap can hold. Whoever seeds a table by a script of many
/// megabytes has it once in the database, and not twice.
const MOST: usize = 1024 * 1024;

/// How the line begins that stands where something was left out.
const LEFT_OUT: &str = "-- Belay left ";

/// A script's text as the ledger keeps it.
pub fn kept_text(script: &Script) -> Cow<'_, str> {
    let text = script.text.as_str();
    let mut kept = Cow::Borrowed("");
    let mut at = 0;
    for data in script.statements.iter().filter_map(|statement| statement.copy_data.clone()) {
        if !data.is_empty() {
            kept += &text[at..data.start];
            kept.to_mut().push_str(&format!("{LEFT_OUT}the data out\n"));
            at = data.end;
        }
    }
    kept += &text[at..];
    match kept {
        Cow::Borrowed(kept) => beginning(kept),
        Cow::Owned(kept) => Cow::Owned(beginning(&kept).into_owned()),
    }
}

/// Whether a text that was kept is all of the script's.
pub fn is_whole(kept: &str) -> bool {
    !kept.contains(LEFT_OUT) && !kept.contains(WITHHELD)
}

/// As many lines of it as are kept, without passwords.
fn beginning(text: &str) -> Cow<'_, str> {
    if text.len() <= MOST {
        return without_passwords(text);
    }
    let most = text.floor_char_boundary(MOST);
    let end = text[..most].rfind('\n').unwrap_or(most);
    let kept = without_passwords(&text[..end]);
    Cow::Owned(format!("{kept}\n{LEFT_OUT}the other {} bytes out\n", text.len() - end))
}

/// A rollback's text.
pub(super) fn rollback(rollback: &Rollback) -> Option<Cow<'_, str>> {
    let text = rollback.text()?;
    Some(match rollback.sql() {
        Some(sql) => withheld(text, &passwords(sql)),
        None => prose_without_passwords(text),
    })
}

/// A part of a script's text without the passwords of the whole.
pub fn part_without_passwords(script: &Script, bytes: Range<usize>) -> String {
    let mut secrets = Vec::new();
    let mut at = 0;
    // Each stretch between data by itself: data have quotes of their own.
    let data = script.statements.iter().filter_map(|statement| statement.copy_data.clone());
    for data in data.chain(iter::once(script.text.len()..script.text.len())) {
        let found = passwords(&script.text[at..data.start]);
        secrets.extend(found.into_iter().map(|secret| at + secret.start..at + secret.end));
        at = data.end;
    }
    let within = |secret: Range<usize>| secret.start.max(bytes.start)..secret.end.min(bytes.end);
    let secrets = secrets.into_iter().map(within).filter(|secret| !secret.is_empty());
    let secrets: Vec<_> = secrets.map(|secret| secret.start - bytes.start..secret.end - bytes.start).collect();
    withheld(&script.text[bytes], &secrets).into_owned()
}

/// SQL without its passwords.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    withheld(text, &passwords(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::History;

    fn kept(text: &str) -> String {
        let history = History::from_files([("1_x.sql".to_owned(), text.as_bytes().to_vec())]).unwrap();
        kept_text(history.latest().unwrap()).into_owned()
    }

    #[test]
    fn of_a_very_long_script_the_first_mebibyte_is_kept_and_it_says_so() {
        let line = "INSERT INTO t VALUES ('é');\n";
        let kept = kept(&line.repeat(100_000));
        assert!(kept.len() <= MOST + 100, "{}", kept.len());
        let (text, note) = kept.split_at(kept.find(LEFT_OUT).unwrap());
        assert!(text.len() + line.len() >= MOST && text.lines().all(|kept| kept == line.trim_end()));
        assert_eq!(note, format!("{LEFT_OUT}the other {} bytes out\n", line.len() * 100_000 - text.len() + 1));
    }

    #[test]
    fn the_data_of_copy_are_left_out_and_what_stands_around_them_is_kept() {
        let text = "SELECT 1;\nCOPY t FROM stdin;\n1\n2\n\\.\nSELECT 2;\nCOPY t FROM stdin;\n\\.\n";
        assert_eq!(kept(text), text.replace("1\n2\n", "-- Belay left the data out\n"));
    }

    #[test]
    fn a_rollback_is_kept_without_passwords_be_it_sql_or_prose() {
        let kept = |text: &str| {
            let down = ("1_x.down.sql".to_owned(), text.as_bytes().to_vec());
            let history = History::from_files([("1_x.sql".to_owned(), b"SELECT 1;".to_vec()), down]).unwrap();
            rollback(&history.latest().unwrap().rollback).unwrap().into_owned()
        };
        assert_eq!(kept("ALTER ROLE x PASSWORD 'hunter2' LOGIN;"), "ALTER ROLE x PASSWORD '********' LOGIN;");
        assert_eq!(kept("Don't: PASSWORD 'hunter2'"), "Don't: PASSWORD ********");
    }

    #[test]
    fn a_part_has_the_passwords_out_that_the_whole_tells() {
        let text = "COPY t FROM stdin;\nit's\n\\.\nALTER ROLE x PASSWORD\n 'hunter2' VALIDX;\n";
        let history = History::from_files([("1_x.sql".to_owned(), text.as_bytes().to_vec())]).unwrap();
        let part = |part: &str| {
            let at = text.find(part).unwrap();
            part_without_passwords(history.latest().unwrap(), at..at + part.len())
        };
        assert_eq!(part(" 'hunter2' VALIDX;"), " '********' VALIDX;");
        assert_eq!(part("nter"), "********");
        assert_eq!(part("ROLE x"), "ROLE x");
        assert_eq!(kept(text), text.replace("it's", "-- Belay left the data out").replace("hunter2", WITHHELD));
    }
}
