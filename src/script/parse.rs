use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::comment::{Header, Key, hashed};
use super::content::Elsewhere;
use super::history::{SourceFile, decode};
use super::position::{Cursor, Position};
use super::read::{Mode, Read, blanked};
use super::rollback::{self, Rollback};
use super::setting;
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
    /// As it was written, but for a byte order mark. Empty where it was not kept: see [`Script::whole`].
    pub text: String,
    /// In order, without an outer BEGIN and COMMIT: the n-th is the n-th that the server answers. Where the text was not kept,
    /// one of each kind is there.
    pub statements: Vec<Statement>,
    /// How many there are.
    pub statement_count: usize,
    /// Of a script that is run statement by statement: each one's line and checksum, None for one that only sets up the session,
    /// which the ledger does not keep.
    kept_of: Vec<Option<(u32, Checksum)>>,
    pub rollback: Rollback,
    pub checksum: Checksum,
    /// The first thing in it that this Belay can't run. Ask for it before the script is run.
    pub unsupported: Option<Unsupported>,
    /// What is sent as blanks: the outer pair and psql's harmless lines.
    blanks: Vec<Range<usize>>,
    elsewhere: Option<Elsewhere>,
    kept: bool,
}

/// In bytes: longer texts, which no ConfigMap holds, are hashed on two threads.
const LONG: usize = 2 * 1024 * 1024;

/// Why a script whose text was not kept could not be read again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reread {
    #[error("{file} cannot be read again: {why}")]
    Unreadable { file: String, why: String },
    #[error("{file} is not what it was when the run was planned")]
    Changed { file: String },
}

impl Script {
    /// What people call it: the header's description, else the one in the file's name.
    pub fn title(&self) -> &str {
        self.header.description.as_deref().unwrap_or(&self.description)
    }

    /// Reads a script whose name and bytes are already known to be right. Its rollback file goes before rollback lines.
    pub(super) fn read(source: SourceFile) -> Self {
        Self::read_beside(source, |_| {})
    }

    /// The same, and what else there is to do with its text: beside it, where that is long.
    pub(super) fn read_beside(source: SourceFile, also: impl FnOnce(&str) + Send) -> Self {
        let SourceFile { version, description, file_name, text, down, .. } = source;
        let SourceFile { rollback_lines, no_transaction, unsupported, elsewhere, .. } = source;
        let (read, rollback, checksum) = std::thread::scope(|scope| {
            match text.len() > LONG {
                true => drop(scope.spawn(|| also(&text))),
                false => also(&text),
            }
            let mut read = Read::marked(&text, no_transaction);
            read.notes.retain(|note| rollback_lines || note.key != Key::Rollback);
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
            (read, rollback, checksum)
        });
        let kept_of = kept_of(&read, &text);
        Self {
            version,
            description,
            file_name,
            header: read.header,
            mode: read.mode,
            statement_count: read.statements.len(),
            kept_of,
            statements: read.statements,
            rollback,
            checksum,
            unsupported: read.unsupported,
            blanks: read.blanks,
            text,
            elsewhere,
            kept: true,
        }
    }

    /// About what it takes in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.text.len() + self.statements.len() * (size_of::<Statement>() + 64)
    }

    /// Lets go of the text, if it can be had again, and of statements that say of the script what others say too.
    pub(super) fn let_go(&mut self) {
        if self.elsewhere.is_some() {
            let mut said = HashSet::new();
            self.statements.retain(|statement| said.insert((statement.command.clone(), statement.effect.clone())));
            self.statements.shrink_to_fit();
            self.text = String::new();
            self.kept = false;
        }
    }

    /// The same script with its text and all its statements, which are read again if they were not kept.
    ///
    /// # Errors
    /// When that cannot be done, or gives something else than before.
    pub fn whole(self: &Arc<Self>) -> Result<Arc<Self>, Reread> {
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|_| !self.kept) else { return Ok(self.clone()) };
        let file = || self.file_name.clone();
        let bytes = elsewhere.read().map_err(|why| Reread::Unreadable { file: file(), why })?;
        let text = decode(&self.file_name, bytes).map_err(|_| Reread::Changed { file: file() })?;
        let read = Self::read(SourceFile {
            version: self.version.clone(),
            description: self.description.clone(),
            file_name: file(),
            text,
            down: None,
            // Of other layouts all is kept.
            rollback_lines: true,
            no_transaction: self.header.no_transaction,
            unsupported: None,
            elsewhere: None,
        });
        match read.checksum == self.checksum {
            true => Ok(Arc::new(Self { rollback: self.rollback.clone(), ..read })),
            false => Err(Reread::Changed { file: file() }),
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

    /// The checksum of statement `number` (from 0), by which the ledger knows it. None: the script has no such statement, is
    /// not run statement by statement, or the ledger does not keep this one.
    pub fn kept_checksum(&self, number: usize) -> Option<Checksum> {
        self.kept_of.get(number).copied().flatten().map(|(_, checksum)| checksum)
    }

    /// The line on which statement `number` (from 0) of a script begins that is run statement by statement.
    pub fn line_of(&self, number: usize) -> Option<u32> {
        self.kept_of.get(number).copied().flatten().map(|(line, _)| line)
    }

    /// The statements, from 0, that set up the session for statement `number` of a script that is run one by one: those right
    /// before it, and of the others what still holds.
    pub fn set_up(&self, number: usize) -> Vec<usize> {
        let sets = |n: &usize| self.statements.get(*n).is_some_and(Statement::sets_session);
        let since = (0..number).rev().take_while(sets).last().unwrap_or(number);
        let mut holds: Vec<(usize, String)> = Vec::new();
        for n in (0..since).filter(sets) {
            if let Some(subject) = setting::subject(self.statement_text(&self.statements[n])) {
                holds.retain(|(_, earlier)| !setting::covers(&subject, earlier));
                holds.push((n, subject));
            }
        }
        holds.into_iter().map(|(n, _)| n).chain(since..number).collect()
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

/// See [`Script::kept_of`]. What decides in which schema a statement works, and as whom, is a part of it.
fn kept_of(read: &Read, text: &str) -> Vec<Option<(u32, Checksum)>> {
    if read.mode == Mode::Transaction {
        return Vec::new();
    }
    let bytes = |range: &Range<usize>| text.as_bytes().get(range.clone()).unwrap_or_default();
    let mut under: Vec<(String, &Range<usize>)> = Vec::new();
    let mut kept = Vec::new();
    for statement in &read.statements {
        if !statement.sets_session() {
            let data = statement.copy_data.as_ref().map(bytes);
            let pieces = under.iter().map(|(_, setting)| bytes(setting)).chain([bytes(&statement.range)]).chain(data);
            kept.push(Some((statement.start.line, Checksum::of(pieces))));
            continue;
        }
        kept.push(None);
        if let Some(subject) = text.get(statement.range.clone()).and_then(setting::subject) {
            under.retain(|(earlier, _)| !setting::covers(&subject, earlier));
            if setting::says_where(&subject) {
                under.push((subject, &statement.range));
            }
        }
    }
    kept
}
