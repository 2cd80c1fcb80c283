//! The line of a script that an error is about, with a caret below the column.

use super::output::printable;
use crate::postgres::part_without_passwords;
use crate::script::Script;

/// The most of a line that is shown, in characters.
const WIDTH: usize = 100;

/// ```text
///    17 | UPDATE orders SET total = 1;
///       |                   ^
/// ```
///
/// `None` when there is no such line, when it is one of COPY's data, and when it has the word password: what a terminal shows, a pipeline keeps. Other
/// lines are shown as the ledger keeps them, for a URI has a password without the word, and a value may be a line
/// below it.
pub fn excerpt(script: &Script, line: u32, column: Option<u32>) -> Option<String> {
    let before = usize::try_from(line).ok()?.checked_sub(1)?;
    let start: usize = script.text.split_inclusive('\n').take(before).map(str::len).sum();
    let source = script.text.get(start..)?.lines().next()?;
    let is_data = script.statements.iter().filter_map(|one| one.copy_data.as_ref()).any(|data| data.contains(&start));
    if is_data || source.to_ascii_lowercase().contains("password") {
        return None;
    }
    let at = column.and_then(|column| usize::try_from(column).ok()?.checked_sub(1)).map(|at| {
        let byte = source.char_indices().nth(at).map_or(source.len(), |(byte, _)| byte);
        part_without_passwords(script, start..start + byte).chars().count()
    });
    let source = part_without_passwords(script, start..start + source.len());
    // A window around the column, when the line is longer than that.
    let skip = at.map_or(0, |at| at.saturating_sub(WIDTH * 3 / 4));
    let shown: String = source.chars().skip(skip).take(WIDTH).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let number = line.to_string();
    let mut out = format!("  {number} | {}", printable(shown.trim_end()));
    if let Some(at) = at {
        out.push_str(&format!("\n  {} | {}^", " ".repeat(number.len()), " ".repeat(at - skip)));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::History;

    fn excerpt_of(text: &str, line: u32, column: Option<u32>) -> Option<String> {
        let history = History::from_files([("1_x.sql".to_owned(), text.as_bytes().to_vec())]).unwrap();
        excerpt(history.latest().unwrap(), line, column)
    }

    #[test]
    fn the_caret_stands_below_the_column_counted_in_characters() {
        let text = "select 1;\nselect 'é', \ttotal;\n";
        assert_eq!(excerpt_of(text, 2, Some(14)).unwrap(), "  2 | select 'é',  total;\n    |              ^");
        assert_eq!(excerpt_of(text, 1, None).unwrap(), "  1 | select 1;");
        assert_eq!(excerpt_of(text, 9, Some(1)), None);
        assert_eq!(excerpt_of(text, 0, Some(0)), None);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_column_is_shown() {
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let shown = excerpt_of(&text, 1, Some(5001)).unwrap();
        let (line, caret) = shown.split_once('\n').unwrap();
        assert_eq!(line.chars().nth(caret.chars().count() - 1), Some('X'), "{shown}");
        assert!(line.len() < 120);
    }

    #[test]
    fn a_line_of_data_is_not_shown() {
        let text = "COPY t (a) FROM STDIN;\nhunter2\n\\.\nSELECT 1;\n";
        assert_eq!(excerpt_of(text, 2, Some(1)), None);
        assert_eq!(excerpt_of(text, 1, Some(1)).unwrap(), "  1 | COPY t (a) FROM STDIN;\n    | ^");
        assert_eq!(excerpt_of(text, 4, None).unwrap(), "  4 | SELECT 1;");
    }

    #[test]
    fn a_line_with_a_password_is_not_shown() {
        assert_eq!(excerpt_of("create role a Password 'hunter2'", 1, Some(1)), None);
    }

    #[test]
    fn a_password_without_the_word_on_its_line_is_left_out_and_the_caret_stays_with_its_column() {
        for (text, at, expected) in [
            (
                "SELECT é('postgres://u:hunter2@h/x'), nofn();",
                "nofn",
                "  1 | SELECT é('postgres://u:********@h/x'), nofn();\n    |                                        ^",
            ),
            (
                "ALTER ROLE x PASSWORD\n  'hunter2' VALIDX;",
                "VALIDX",
                "  2 |   '********' VALIDX;\n    |              ^",
            ),
            (
                "COPY t FROM stdin;\nit's\n\\.\nALTER ROLE x PASSWORD /*\n*/'hunter2'\n 'hunter2' VALIDX;",
                "VALIDX",
                "  6 |  '********' VALIDX;\n    |             ^",
            ),
        ] {
            let before = &text[..text.find(at).unwrap()];
            let line = before.split('\n').count();
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            let excerpt = excerpt_of(text, line.try_into().unwrap(), Some(column.try_into().unwrap()));
            assert_eq!(excerpt.as_deref(), Some(expected));
        }
    }
}
