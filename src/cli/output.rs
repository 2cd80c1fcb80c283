//! How answers are written: a table for people, a document with stable field names for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::error::CliError;
use super::yaml;

/// What an answer looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document, also when the command fails.
    Json,
    /// One YAML document, also when the command fails.
    Yaml,
}

/// Writes to standard output. A reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

/// Writes a line for people to standard error, whether or not anyone reads it.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A value as a document. Empty under [`Format::Table`], which is no document.
pub fn document<T: Serialize>(format: Format, value: &T) -> String {
    let text = match format {
        Format::Table => return String::new(),
        Format::Json => serde_json::to_string_pretty(value).map(|text| text + "\n").ok(),
        Format::Yaml => yaml::to_string(value).ok(),
    };
    // Only maps with keys that are no strings do not serialize; there are none.
    text.unwrap_or_default()
}

/// Aligned columns, two spaces apart, without trailing blanks.
pub fn table(header: Option<&[&str]>, rows: &[Vec<String>], indent: &str) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if let Some(header) = header {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{indent}{}\n", line.trim_end())).collect()
}

/// Text of others, fit for a terminal: no control characters, but for line ends.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{FFFD}' } else { c }).collect()
}

/// A description as people write one: with a capital.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// `1 script`, `2 scripts`.
pub fn count(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// A moment to the second, in UTC.
pub fn moment(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let rows =
            [vec!["1".into(), "long description".into(), "x".into()], vec!["22".into(), "short".into(), "".into()]];
        assert_eq!(table(None, &rows, "  "), "  1   long description  x\n  22  short\n");
        assert_eq!(table(Some(&["A", "B"]), &[vec!["1".into(), "2".into()]], ""), "A  B\n1  2\n");
    }

    #[test]
    fn the_text_of_others_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\u{FFFD}[2Jb\nc");
    }

    #[test]
    fn a_version_stays_text_in_yaml() {
        let text = document(Format::Yaml, &std::collections::BTreeMap::from([("version", "002")]));
        let back: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(back["version"], "002", "{text}");
        assert!(text.contains('\'') || text.contains('"'), "{text}");
    }
}
