//! The line of a script that an error is about, with a caret below the column.

use super::output::printable;

/// The most of a line that is shown, in characters.
const WIDTH: usize = 100;

/// ```text
///    17 | UPDATE orders SET total = 1;
///       |                   ^
/// ```
///
/// `None` when there is no such line, and when the line may hold a password: what a terminal shows, a pipeline keeps.
pub fn excerpt(text: &str, line: u32, column: Option<u32>) -> Option<String> {
    let source = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    if source.to_ascii_lowercase().contains("password") {
        return None;
    }
    let at = column.and_then(|column| usize::try_from(column).ok()?.checked_sub(1));
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

    #[test]
    fn the_caret_stands_below_the_column_counted_in_characters() {
        let text = "select 1;\nselect 'é', \ttotal;\n";
        assert_eq!(excerpt(text, 2, Some(14)).unwrap(), "  2 | select 'é',  total;\n    |              ^");
        assert_eq!(excerpt(text, 1, None).unwrap(), "  1 | select 1;");
        assert_eq!(excerpt(text, 9, Some(1)), None);
        assert_eq!(excerpt(text, 0, Some(0)), None);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_column_is_shown() {
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let shown = excerpt(&text, 1, Some(5001)).unwrap();
        let (line, caret) = shown.split_once('\n').unwrap();
        assert_eq!(line.chars().nth(caret.chars().count() - 1), Some('X'), "{shown}");
        assert!(line.len() < 120);
    }

    #[test]
    fn a_line_with_a_password_is_not_shown() {
        assert_eq!(excerpt("create role a Password 'hunter2'", 1, Some(1)), None);
    }
}
