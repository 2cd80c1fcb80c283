//! What the room promises, as tables of hard cases and as properties.

mod classes;
mod effects;
mod histories;
mod properties;
mod scripts;
mod splitting;

use super::{Script, SourceFile};

/// A script of this text.
fn script(text: &str) -> Script {
    Script::read(SourceFile {
        version: "1".parse().unwrap(),
        description: "test".to_owned(),
        file_name: "001_test.sql".to_owned(),
        text: text.to_owned(),
        down: None,
        rollback_lines: true,
        no_transaction: false,
        unsupported: None,
        elsewhere: None,
    })
}

/// The statements' own texts.
fn statements(text: &str) -> Vec<String> {
    super::split::split(text).statements.iter().map(|statement| text[statement.range.clone()].to_owned()).collect()
}
