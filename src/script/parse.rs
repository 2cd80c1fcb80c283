use std::borrow::Cow;
use std::ops::Range;

use super::comment::{Header, hashed};
use super::history::SourceFile;
use super::position::{Cursor, Position};
use super::read::{Mode, Read, blanked};
use super::rollback::{self, Rollback};
use super::split::Statement;
use super::unsupported::Unsupported;
use super::{Checksum, Version};

/// One file of a history: what it is called, what it says about itself, and what it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    pub version: Version,
    /// From the file's name, with spaces. What the header says is in `header`.
    pub description: String,
    pub file_name: String,
    pub header: Header,
    pub mode: Mode,
    /// As it was written, but for a byte order mark.
    pub text: String,
    /// In order, without an outer BEGIN and COMMIT: the n-th is the n-th that the server answers.
    pub statements: Vec<Statement>,
    pub rollback: Rollback,
    pub checksum: Checksum,
    /// The first thing in it that this Belay can't run. Ask for it before the script is run.
    pub unsupported: Option<Unsupported>,
    /// What is sent as blanks: the outer pair and psql's harmless lines.
    blanks: Vec<Range<usize>>,
}

impl Script {
    /// What people call it: the header's description, else the one in the file's name.
    pub fn title(&self) -> &str {
        self.header.description.as_deref().unwrap_or(&self.description)
    }

    /// Reads a script whose name and bytes are already known to be right. Its rollback file goes before rollback lines.
    pub(super) fn read(source: SourceFile) -> Self {
        let SourceFile { version, description, file_name, text, down, no_transaction, unsupported } = source;
        let mut read = Read::marked(&text, no_transaction);
        if let Some(unsupported) = unsupported {
            read.refuse(unsupported);
        }
        let rollback = match &down {
            Some((_, down)) => rollback::judge(down),
            None => match rollback::lines(&text, &read.notes) {
                Some(lines) => rollback::judge(&lines),
                None => Rollback::None,
            },
        };
        let checksum = Checksum::of(hashed(&text, &read.notes).into_iter().map(str::as_bytes));
        Self {
            version,
            description,
            file_name,
            header: read.header,
            mode: read.mode,
            statements: read.statements,
            rollback,
            checksum,
            unsupported: read.unsupported,
            blanks: read.blanks,
            text,
        }
    }

    /// The text to send: an outer BEGIN and COMMIT and psql's harmless lines are blanks in it, so
    /// that every offset and every position is the script's own.
    pub fn executable(&self) -> Cow<'_, str> {
        blanked(&self.text, &self.blanks)
    }

    /// The statement's own text.
    pub fn statement_text(&self, statement: &Statement) -> &str {
        self.text.get(statement.range.clone()).unwrap_or_default()
    }

    /// The first byte behind the data of a COPY and the line that ends it.
    pub fn behind_copy(&self, data: &Range<usize>) -> usize {
        let behind = self.text.get(data.end..).unwrap_or_default();
        behind.find('\n').map_or(self.text.len(), |end| data.end + end)
    }

    /// The line and column of a byte offset.
    pub fn position_of(&self, byte: usize) -> Position {
        Cursor::new(&self.text).position(byte)
    }

    /// The byte offset of a character, counted from 1, as PostgreSQL gives an error's position in
    /// the text that was sent to it. Beyond the end it is the end.
    pub fn byte_of_char(&self, character: usize) -> usize {
        let before = character.saturating_sub(1);
        self.text.char_indices().nth(before).map_or(self.text.len(), |(byte, _)| byte)
    }

    /// How many characters stand before a byte offset.
    pub fn characters(&self, byte: usize) -> usize {
        self.text.get(..byte).map_or(0, |before| before.chars().count())
    }

    /// The line and column of a character, counted from 1.
    pub fn position_of_char(&self, character: usize) -> Position {
        self.position_of(self.byte_of_char(character))
    }

    /// The last statement that begins at or before a byte offset, with its number from 1.
    pub fn statement_at(&self, byte: usize) -> Option<(usize, &Statement)> {
        let number = self.statements.partition_point(|statement| statement.range.start <= byte);
        Some((number, self.statements.get(number.checked_sub(1)?)?))
    }
}
