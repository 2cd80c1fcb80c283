//! What an edit of an applied script changed: the lines, and whether a statement is among them.

use std::sync::Arc;

use super::output::printable;
use crate::postgres::{is_whole, kept_text, without_passwords};
use crate::script::{History, Script};

/// The most lines that are shown of an edit.
const SHOWN: usize = 20;

/// What an edit comes to.
pub struct Edit {
    /// Else only comments and blanks.
    pub statements_differ: bool,
    /// For people, indented.
    pub lines: String,
}

/// Compares the text that the ledger keeps with what it would keep of the script as it is now.
pub fn compare(before: &str, now: &Arc<Script>) -> Edit {
    let now = now.whole().unwrap_or_else(|_| now.clone());
    let now = kept_text(&now);
    // An earlier Belay may have kept passwords that this one knows.
    let before = &*without_passwords(before);
    let known = tokens(before) != tokens(&now);
    // It is not the text that it was; if not in what was kept, then in what was not.
    let statements_differ = known || before == now && !is_whole(before);
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), now.lines().collect());
    // Where they begin and end alike is left out: an edit without effect is small.
    let start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let end = old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let removed = old[start..old.len() - end].iter().map(|line| format!("- {line}"));
    let added = new[start..new.len() - end].iter().map(|line| format!("+ {line}"));
    let changed: Vec<String> =
        removed.chain(added).filter(|line| !line.to_ascii_lowercase().contains("password")).collect();

    let mut lines = match statements_differ {
        true if !known => "       It differs in what the ledger does not keep: passwords, COPY's data, what is beyond the first MiB. Be sure that \
             the database is as the new text has it.\n"
            .to_owned(),
        true => "       Its statements differ: be sure that the database is as the new text has it.\n".to_owned(),
        false => "       Only comments, blanks or ends of lines differ.\n".to_owned(),
    };
    if !changed.is_empty() {
        lines.push_str(&format!("       From line {}:\n", start + 1));
    }
    for line in changed.iter().take(SHOWN) {
        lines.push_str(&format!("       {}\n", printable(line)));
    }
    if changed.len() > SHOWN {
        lines.push_str(&format!("       … and {} more lines\n", changed.len() - SHOWN));
    }
    Edit { statements_differ, lines }
}

/// The statements of a text, blanks between words made one. Comments inside a statement count, rather than be missed.
fn tokens(text: &str) -> Vec<String> {
    let history = History::from_files([("1_x.sql".to_owned(), text.as_bytes().to_vec())]);
    let Some(script) = history.ok().and_then(|history| history.latest().cloned()) else { return vec![text.to_owned()] };
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    script.statements.iter().map(|statement| words(script.statement_text(statement))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(before: &str, now: &str) -> Edit {
        let history = History::from_files([("1_x.sql".to_owned(), now.as_bytes().to_vec())]).unwrap();
        compare(before, history.latest().unwrap())
    }

    #[test]
    fn an_edit_of_comments_and_blanks_is_told_from_one_of_statements() {
        let before = "-- one\nCREATE TABLE a (b int);\nSELECT 1;\n";
        let comment = edit(before, "-- two\nCREATE TABLE a (b  int);\nSELECT 1;\n");
        assert!(!comment.statements_differ);
        let statement = edit(before, "-- one\nCREATE TABLE a (b bigint);\nSELECT 1;\n");
        assert!(statement.statements_differ);
        assert!(
            statement
                .lines
                .contains("From line 2:\n       - CREATE TABLE a (b int);\n       + CREATE TABLE a (b bigint);\n")
        );
        assert!(!statement.lines.contains("SELECT 1"), "{}", statement.lines);
    }

    #[test]
    fn an_edit_of_what_the_ledger_does_not_keep_is_none_of_comments() {
        let text = |row: &str| format!("COPY t FROM stdin;\n{row}\n\\.\n");
        let history = History::from_files([("1_x.sql".to_owned(), text("1").into_bytes())]).unwrap();
        let before = kept_text(history.latest().unwrap()).into_owned();
        let changed = edit(&before, &text("2"));
        assert!(changed.statements_differ && changed.lines.contains("COPY's data"), "{}", changed.lines);
    }

    #[test]
    fn lines_with_passwords_are_not_shown() {
        let changed = edit("ALTER ROLE a PASSWORD '********';\n", "ALTER ROLE a PASSWORD 'hunter2';\n");
        assert!(!changed.lines.contains("hunter2"));
        let kept_before = edit("ALTER ROLE a PASSWORD\n-- x\n'hunter2';\n", "ALTER ROLE a PASSWORD\n-- x\n 'new';\n");
        assert!(kept_before.lines.contains("'********'") && !kept_before.lines.contains("hunter2"));
    }

    #[test]
    fn texts_of_any_length_are_compared() {
        for (before, now) in [("", "a"), ("a", ""), ("a\na", "a"), ("a", "a\na"), ("", "")] {
            edit(before, now);
        }
    }
}
