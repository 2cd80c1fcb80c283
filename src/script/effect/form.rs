//! What a row of the tables says, and how it is found.

use std::borrow::Cow;

use super::super::command;
use super::super::words::Words;
use super::calls;
use super::mode::LockMode;
use super::names::{Operand, behind_group, part};
use super::query;

/// A form of statement, and what it does. One row of a table.
pub(super) struct Form {
    /// As people write it; names the row.
    pub name: &'static str,
    /// What it begins with: as [`Words::after`] takes it, and `~` for options in parentheses, `*` for any name.
    pub patterns: &'static [&'static str],
    /// What must hold besides; it is given where the pattern ends, and where the statement or the part does.
    pub when: fn(&Words, usize, usize) -> bool,
    pub locks: &'static [(Operand, LockMode)],
    /// Relations are locked as in the queries that it holds, too.
    pub query: bool,
    /// What else is locked, which the text does not tell.
    pub more: Option<&'static str>,
    pub loss: Loss,
    /// It makes the relation that is named.
    pub creates: bool,
}

/// Whether data that was there could be gone, or not be what it was, afterwards.
#[derive(Clone, Copy)]
pub(super) enum Loss {
    No,
    /// It could; people are told what the command is called.
    Yes,
    /// It could, if CASCADE reaches what is not named.
    OnCascade,
    /// It could; an action is told by its own name.
    Action,
    /// The same, if CASCADE reaches what is not named.
    ActionOnCascade,
    /// It could for this reason, if there is one.
    If(fn(&Words, usize, usize) -> Option<Cow<'static, str>>),
}

/// A row that always matches, locks this, and is not destructive.
pub(super) const fn form(
    name: &'static str,
    patterns: &'static [&'static str],
    locks: &'static [(Operand, LockMode)],
) -> Form {
    Form { name, patterns, when: |_, _, _| true, locks, query: false, more: None, loss: Loss::No, creates: false }
}

impl Form {
    pub const fn when(self, when: fn(&Words, usize, usize) -> bool) -> Self {
        Self { when, ..self }
    }

    pub const fn query(self) -> Self {
        Self { query: true, ..self }
    }

    pub const fn more(self, more: &'static str) -> Self {
        Self { more: Some(more), ..self }
    }

    pub const fn loses(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    pub const fn creates(self) -> Self {
        Self { creates: true, ..self }
    }

    /// Where the pattern ends, if the form is this one.
    pub fn matches(&self, words: &Words, at: usize, to: usize) -> Option<usize> {
        let end = self.patterns.iter().find_map(|pattern| behind(words, at, pattern)).filter(|end| *end <= to)?;
        (self.when)(words, end, to).then_some(end)
    }

    /// What it loses, as it stands there.
    pub fn destroys(&self, words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
        match self.loss {
            Loss::No => None,
            Loss::Yes => Some(command::name(words).into()),
            Loss::OnCascade => cascades(words, at, to).then(|| format!("{} … CASCADE", command::name(words)).into()),
            Loss::Action => Some(self.name.into()),
            Loss::ActionOnCascade => cascades(words, at, to).then(|| format!("{} … CASCADE", self.name).into()),
            Loss::If(why) => why(words, at, to),
        }
    }
}

/// Where the statement goes on behind a form's pattern.
pub(super) fn behind(words: &Words, mut at: usize, pattern: &str) -> Option<usize> {
    // Nearly all rows are done with at a glance.
    if let (Some(first @ b'A'..=b'Z'), Some(word)) = (pattern.as_bytes().first(), words.text(at).as_bytes().first())
        && word.to_ascii_uppercase() != *first
        && !pattern.split(' ').next().is_some_and(|choice| choice.contains('|'))
    {
        return None;
    }
    for one in pattern.split(' ') {
        at = match one {
            "~" => behind_group(words, at),
            "*" => part(words, at).map(|_| at + 1)?,
            words_of_it => words.after(at, words_of_it)?,
        };
    }
    Some(at)
}

pub(super) fn cascades(words: &Words, at: usize, to: usize) -> bool {
    words.find(at, "CASCADE").is_some_and(|cascade| cascade < to)
}

/// What a query destroys: all rows of a table, or what a function that it calls may.
pub(super) fn query_loss(words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
    query::of_all_rows(words).map(Cow::Borrowed).or_else(|| call_loss(words, at, to))
}

/// What is told of a function that may do anything.
pub(super) fn call_loss(words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
    calls::unknown(words, at, to).map(|called| format!("a call of {called}").into())
}
