//! The statements of a text that is to be run, without an outer BEGIN and COMMIT, and what stands in
//! the way of running it.

use std::borrow::Cow;
use std::ops::Range;

use super::class::{Class, NO_CONTROL, NO_CONTROL_OUTSIDE};
use super::comment::{Header, Note, header};
use super::position::Position;
use super::split::{Split, Statement, split};
use super::unsupported::{Unsupported, UnsupportedKind};
use super::words::significant;

/// How a script is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In one transaction, which its row in the ledger is part of.
    Transaction,
    /// Statement by statement, each recorded by itself: where the header says so, or where every statement is one that
    /// PostgreSQL refuses in a transaction.
    NoTransaction,
}

/// What a text that may be run consists of.
pub(super) struct Read {
    pub header: Header,
    pub mode: Mode,
    pub statements: Vec<Statement>,
    pub notes: Vec<Note>,
    pub blanks: Vec<Range<usize>>,
    pub unterminated: bool,
    pub unsupported: Option<Unsupported>,
}

impl Read {
    pub fn of(text: &str) -> Self {
        Self::marked(text, false)
    }

    /// The same, of a text that is marked to run outside a transaction by what is not in it, or not in Belay's words.
    pub fn marked(text: &str, no_transaction: bool) -> Self {
        let mut split = split(text);
        let (mut header, directives) = header(text, &split.notes);
        header.no_transaction |= no_transaction;
        let mut blanks = std::mem::take(&mut split.psql_lines);
        let unterminated = split.faults.iter().any(|fault| fault.kind == UnsupportedKind::Unterminated);
        let mut faults = std::mem::take(&mut split.faults);
        faults.extend(directives);
        let pair = if header.no_transaction { None } else { outer_pair(text, &mut split, &mut faults) };
        for fault in faults.iter_mut().filter(|fault| header.no_transaction && fault.remedy == NO_CONTROL) {
            fault.remedy = NO_CONTROL_OUTSIDE.to_owned();
        }
        let in_pair = pair.is_some();
        blanks.extend(pair.into_iter().flatten());
        if split.statements.is_empty() && faults.is_empty() {
            faults.push(empty());
        }
        let mode = mode(&header, &split.statements, in_pair);
        if mode == Mode::Transaction {
            faults.extend(split.statements.iter().filter(|statement| statement.class.is_outside()).map(mixed));
        }
        Self {
            header,
            mode,
            statements: split.statements,
            notes: split.notes,
            blanks,
            unterminated,
            unsupported: faults.into_iter().min_by_key(|fault| fault.position),
        }
    }

    /// One more thing that stands in the way; the first in the text is told.
    pub fn refuse(&mut self, unsupported: Unsupported) {
        if self.unsupported.as_ref().is_none_or(|first| unsupported.position < first.position) {
            self.unsupported = Some(unsupported);
        }
    }
}

/// Takes an outer BEGIN and COMMIT out of the statements, and gives the bytes to blank.
fn outer_pair(text: &str, split: &mut Split, faults: &mut Vec<Unsupported>) -> Option<Vec<Range<usize>>> {
    let last = split.statements.len().checked_sub(1).filter(|last| *last > 0)?;
    let (begin, commit) = (&split.statements[0], &split.statements[last]);
    if begin.class != Class::TransactionControl || commit.class != Class::TransactionControl {
        return None;
    }
    let words = |statement: &Statement| {
        let text = &text[statement.range.clone()];
        let words = significant(text).take(4).map(|(token, _)| text[token.start..token.end].to_ascii_uppercase());
        words.collect::<Vec<_>>().join(" ")
    };
    let closes = matches!(
        words(commit).as_str(),
        "COMMIT" | "COMMIT WORK" | "COMMIT TRANSACTION" | "END" | "END WORK" | "END TRANSACTION"
    );
    if !closes {
        return None;
    }
    let written = words(begin);
    let opens = matches!(written.as_str(), "BEGIN" | "BEGIN WORK" | "BEGIN TRANSACTION" | "START TRANSACTION");
    if !opens {
        if written.starts_with("BEGIN") || written.starts_with("START TRANSACTION") {
            for fault in faults.iter_mut().filter(|fault| fault.position == begin.start) {
                fault.what = format!("{} comes with a mode, and the transaction is Belay's", begin.command);
                fault.remedy = "write a plain BEGIN".to_owned();
            }
        }
        return None;
    }
    let (first, end) = (begin.start, commit.start);
    faults.retain(|fault| {
        fault.kind != UnsupportedKind::TransactionControl || fault.position != first && fault.position != end
    });
    let mut blanks = Vec::new();
    for at in [0, last] {
        let range = &split.statements[at].range;
        let tokens = significant(&text[range.clone()]);
        blanks.extend(tokens.map(|(token, _)| range.start + token.start..range.start + token.end));
        blanks.extend(split.semicolons[at].map(|at| at..at + 1));
    }
    for at in [last, 0] {
        split.statements.remove(at);
        split.semicolons.remove(at);
    }
    Some(blanks)
}

fn mode(header: &Header, statements: &[Statement], in_pair: bool) -> Mode {
    let outside = || !statements.is_empty() && statements.iter().all(|statement| statement.class.is_outside());
    if header.no_transaction || !in_pair && outside() { Mode::NoTransaction } else { Mode::Transaction }
}

fn mixed(statement: &Statement) -> Unsupported {
    Unsupported {
        kind: UnsupportedKind::Mixed,
        position: statement.start,
        what: format!("PostgreSQL refuses this {} in a transaction, and the script is run in one", statement.command),
        remedy: "move it into a script of its own, without BEGIN and COMMIT; or write -- belay: no-transaction at the \
                 top, and each statement is run and recorded by itself"
            .to_owned(),
    }
}

fn empty() -> Unsupported {
    Unsupported {
        kind: UnsupportedKind::Empty,
        position: Position { line: 1, column: 1 },
        what: "there is no statement in it".to_owned(),
        remedy: "write the SQL, or SELECT 1 if nothing is to be done".to_owned(),
    }
}

/// The text with these ranges, which hold ASCII only, as blanks.
pub(super) fn blanked<'a>(text: &'a str, ranges: &[Range<usize>]) -> Cow<'a, str> {
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut ranges: Vec<_> = ranges.to_vec();
    ranges.sort_by_key(|range| range.start);
    let mut sent = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        sent.push_str(&text[at..range.start]);
        sent.extend(std::iter::repeat_n(' ', range.len()));
        at = range.end;
    }
    sent.push_str(&text[at..]);
    Cow::Owned(sent)
}
