//! Comments that say something to Belay: the header, directives, and rollback lines.

use std::ops::Range;

use memchr::memmem;

use super::password::prose_without_passwords;
use super::position::Cursor;
use super::unsupported::{Unsupported, UnsupportedKind};

/// What a script says about itself in the comments before its first statement. Without passwords: it is shown, and kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// `-- Migration:`
    pub migration: Option<String>,
    /// `-- Description:`
    pub description: Option<String>,
    /// `-- Author:`
    pub author: Option<String>,
    /// `-- Date:`, as it was written
    pub date: Option<String>,
    /// `-- belay: no-transaction`
    pub no_transaction: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    Migration,
    Description,
    Author,
    Date,
    Belay,
    Rollback,
}

const KEYS: &[(&str, Key)] = &[
    ("migration", Key::Migration),
    ("description", Key::Description),
    ("author", Key::Author),
    ("date", Key::Date),
    ("belay", Key::Belay),
    ("rollback", Key::Rollback),
];

/// A line comment with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    pub key: Key,
    /// The whole comment, without the end of its line.
    pub range: Range<usize>,
    /// What stands behind the colon, trimmed.
    pub value: Range<usize>,
    /// Before the first statement.
    pub in_header: bool,
}

impl Note {
    /// The note in a line comment, if its first word is a key with a colon, in any case.
    pub fn read(text: &str, range: Range<usize>, in_header: bool) -> Option<Self> {
        let comment = text.get(range.clone())?;
        let body = comment.trim_start_matches('-').trim_start();
        let (word, value) = body.split_once(':')?;
        let word = word.trim_end();
        let (_, key) = KEYS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word))?;
        if !in_header && !matches!(key, Key::Belay | Key::Rollback) {
            return None;
        }
        let start = range.end - value.trim_start().len();
        let value = start..start + value.trim().len();
        Some(Self { key: *key, range, value, in_header })
    }
}

/// What is hashed, in pieces: the text with CRLF as LF, without rollback lines and trailing newlines.
///
/// A rollback comment that has a line to itself goes with its line; one behind SQL goes with the
/// blanks before it. No byte that the server would run is ever left out.
pub(super) fn hashed<'a>(text: &'a str, notes: &[Note]) -> Vec<&'a str> {
    let mut kept = Vec::new();
    let mut at = 0;
    for note in notes.iter().filter(|note| note.key == Key::Rollback) {
        let before = text[at..note.range.start].trim_end_matches([' ', '\t']);
        // Each piece by itself: what a comment stood between is no line's end afterwards.
        without_returns(before, &mut kept);
        at = note.range.end;
        if kept.last().is_none_or(|last| last.ends_with('\n')) {
            let behind = &text[at..];
            at += ["\r\n", "\n"].iter().find(|end| behind.starts_with(**end)).map_or(0, |end| end.len());
        }
    }
    without_returns(&text[at..], &mut kept);
    while let Some(last) = kept.last_mut() {
        *last = last.trim_end_matches('\n');
        if !last.is_empty() {
            break;
        }
        kept.pop();
    }
    kept
}

/// A text in pieces that leave out each carriage return before a line feed. None of them is empty.
fn without_returns<'a>(text: &'a str, pieces: &mut Vec<&'a str>) {
    let mut at = 0;
    let mut keep = |piece: &'a str| pieces.extend(Some(piece).filter(|piece| !piece.is_empty()));
    for end in memmem::find_iter(text.as_bytes(), b"\r\n") {
        keep(&text[at..end]);
        at = end + 1;
    }
    keep(&text[at..]);
}

/// The header, and what is wrong with directives in it or behind it.
pub(super) fn header(text: &str, notes: &[Note]) -> (Header, Vec<Unsupported>) {
    let mut header = Header::default();
    let mut faults = Vec::new();
    let mut cursor = Cursor::new(text);
    for note in notes {
        let value = &text[note.value.clone()];
        let field = match note.key {
            Key::Migration => &mut header.migration,
            Key::Description => &mut header.description,
            Key::Author => &mut header.author,
            Key::Date => &mut header.date,
            Key::Rollback => continue,
            Key::Belay => {
                let known = value.eq_ignore_ascii_case("no-transaction");
                header.no_transaction |= known && note.in_header;
                if known && note.in_header {
                    continue;
                }
                let (what, remedy) = match known {
                    true => (
                        "this directive counts only before the first statement".to_owned(),
                        "move the line to the top of the script",
                    ),
                    false => (
                        format!("-- belay: {} is no directive", value.chars().take(40).collect::<String>()),
                        "the only one is -- belay: no-transaction",
                    ),
                };
                let kind = UnsupportedKind::UnknownDirective;
                let position = cursor.position(note.range.start);
                faults.push(Unsupported { kind, position, what, remedy: remedy.to_owned() });
                continue;
            }
        };
        if field.is_none() && !value.is_empty() {
            *field = Some(prose_without_passwords(value).into_owned());
        }
    }
    (header, faults)
}
