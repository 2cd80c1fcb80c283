//! What the room promises, as tables of hard cases and as properties.

mod classes;
mod effects;
mod histories;
mod properties;
mod scripts;
mod splitting;

use super::Script;

/// A script of this text.
fn script(text: &str) -> Script {
    Script::read("1".parse().unwrap(), "test".to_owned(), "001_test.sql".to_owned(), text.to_owned(), None)
}

/// The statements' own texts.
fn statements(text: &str) -> Vec<String> {
    super::split::split(text).statements.iter().map(|statement| text[statement.range.clone()].to_owned()).collect()
}
