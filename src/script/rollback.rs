//! How to undo a script, as it says itself.

use super::command;
use super::comment::{Key, Note};
use super::position::{Cursor, Position};
use super::read::{Read, blanked};
use super::split::{Statement, split};
use super::unsupported::Unsupported;
use super::words::{MOST, Words, significant};

/// How to undo a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rollback {
    /// None is given.
    None,
    /// SQL, ready to be sent.
    Sql(String),
    /// SQL that this Belay can't run, and why; positions are in this text.
    Unsupported(String, Unsupported),
    /// Prose. It counts as none.
    NotSql(String),
}

impl Rollback {
    /// The text as it was written; none if there is none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Sql(text) | Self::Unsupported(text, _) | Self::NotSql(text) => Some(text),
        }
    }

    /// What can be run.
    pub fn sql(&self) -> Option<&str> {
        match self {
            Self::Sql(text) => Some(text),
            _ => None,
        }
    }
}

/// Whether rollback lines stand in a text, and where the first is.
pub(super) fn first_line(text: &str) -> Option<Position> {
    let note = split(text).notes.into_iter().find(|note| note.key == Key::Rollback)?;
    Some(Cursor::new(text).position(note.range.start))
}

/// The rollback lines of a script, joined; none if they say nothing.
pub(super) fn lines(text: &str, notes: &[Note]) -> Option<String> {
    let lines: Vec<&str> =
        notes.iter().filter(|note| note.key == Key::Rollback).map(|note| &text[note.value.clone()]).collect();
    lines.iter().any(|line| !line.is_empty()).then(|| lines.join("\n"))
}

/// What a rollback's text is worth.
pub(super) fn judge(text: &str) -> Rollback {
    if text.trim().is_empty() {
        return Rollback::None;
    }
    let read = Read::of(text);
    if read.statements.is_empty() || read.unterminated || !read.statements.iter().all(|one| is_command(text, one)) {
        return Rollback::NotSql(text.to_owned());
    }
    match read.unsupported {
        Some(unsupported) => Rollback::Unsupported(text.to_owned(), unsupported),
        None => Rollback::Sql(blanked(text, &read.blanks).into_owned()),
    }
}

/// Whether a statement begins as a command of PostgreSQL does; prose doesn't.
fn is_command(text: &str, statement: &Statement) -> bool {
    let text = text.get(statement.range.clone()).unwrap_or_default();
    let tokens: Vec<_> = significant(text).take(MOST).collect();
    command::is_known(&Words::new(text, &tokens))
}
