//! What a statement does to what is there: the relations that it locks, and whether data could be lost.
//!
//! Told from the text alone, by tables with a row for each form of statement. What the catalogue alone tells is left out:
//! indexes go with their table, and so do partitions, children, and what triggers, foreign keys, rules and views reach. Where a
//! form by its nature locks what it does not name, the effect says so. A statement that no row knows counts as destructive.

mod alter_table;
mod calls;
mod change;
mod create;
mod data;
mod drop;
mod form;
mod mode;
mod names;
mod other;
mod query;
mod summary;

use std::borrow::Cow;

use super::lexer::Kind;
use super::words::{MOST, Words};
use form::Form;
pub use mode::LockMode;
use names::{behind_group, list, passed};
pub use summary::ScriptLock;

/// What one statement does.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Effect {
    /// The rows that told it. None: no row knows the statement.
    pub forms: Vec<&'static str>,
    /// The tables, views and sequences that it names and locks, and indexes that it names; each once, with the strongest mode.
    pub locks: Vec<TableLock>,
    /// What else it locks, in words: its text does not name it.
    pub more: Option<&'static str>,
    /// How data that was there could be gone, or not be what it was, afterwards: `DROP TABLE`, `DELETE without WHERE`.
    pub destructive: Option<Cow<'static, str>>,
    /// The relation that it makes, and that nobody else can have locked. None where IF NOT EXISTS leaves that open.
    pub creates: Option<String>,
}

/// A relation, as it is written but folded as PostgreSQL does, and how it is locked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TableLock {
    pub relation: String,
    pub mode: LockMode,
}

/// The rows for whole statements, the more particular before the more general.
const TABLES: &[&[Form]] = &[data::FORMS, create::FORMS, change::FORMS, drop::FORMS, other::FORMS];

/// The names of all rows, each once.
pub fn statement_forms() -> impl Iterator<Item = &'static str> {
    TABLES.iter().copied().flatten().chain(alter_table::ACTIONS.iter().map(|(_, form)| form)).map(|form| form.name)
}

/// Functions that a statement may call without counting as destructive.
pub fn harmless_functions() -> impl Iterator<Item = &'static str> {
    calls::functions()
}

/// The effect of a statement.
pub(super) fn of(words: &Words) -> Effect {
    let open = (0..words.len()).take_while(|&i| words.kind(i) == Some(Kind::OpenParen)).count();
    let words = &words.tail(open);
    if !words.starts("EXPLAIN") {
        return told(words);
    }
    // EXPLAIN plans a statement, and takes its locks; with ANALYZE it runs it.
    let at = words.after(behind_group(words, 1), "[ANALYZE|ANALYSE|VERBOSE]").unwrap_or(1);
    let on = |option: &str| words.option(option).is_some() && !words.option_is_off(option);
    let analyze = |i: usize| words.depth(i) == 0 && (words.is(i, "ANALYZE") || words.is(i, "ANALYSE"));
    let grouped = words.kind(1) == Some(Kind::OpenParen) && (on("ANALYZE") || on("ANALYSE"));
    let mut effect = told(&words.tail(at));
    if !grouped && !(1..at).any(analyze) && !effect.forms.is_empty() {
        effect.destructive = None;
    }
    effect
}

/// As the tables tell it.
fn told(words: &Words) -> Effect {
    let mut effect = match alter_table::of(words) {
        Some(effect) => effect,
        None => TABLES
            .iter()
            .copied()
            .flatten()
            .find_map(|form| Some(of_form(form, words, form.matches(words, 0, words.len())?)))
            .unwrap_or_else(unknown),
    };
    // Of a longer statement the end was not kept. The rows of a long INSERT are like its first ones.
    if words.len() >= MOST && !words.starts("INSERT INTO") {
        effect.more.get_or_insert("what its end names");
        if !words.starts("CREATE") {
            effect.destructive.get_or_insert("a statement that is too long to be read to its end".into());
        }
    }
    strongest(&mut effect.locks);
    effect
}

fn unknown() -> Effect {
    Effect {
        more: Some("what it reaches"),
        destructive: Some("a statement that Belay does not know".into()),
        ..Effect::default()
    }
}

fn of_form(form: &Form, words: &Words, at: usize) -> Effect {
    let to = words.len();
    let mut locks = locks(form, words, at, to);
    if form.name == "LOCK" {
        let mode = written_mode(words, at);
        locks.iter_mut().for_each(|lock| lock.mode = mode);
    }
    let cascade = form::cascades(words, at, to).then_some("what CASCADE reaches");
    let name = || list(words, passed(words, at)).into_iter().next();
    let creates = form.creates && words.after(at, "IF").is_none() && !words.is(at, "ON");
    Effect {
        forms: vec![form.name],
        locks,
        more: form.more.or(cascade),
        destructive: form.destroys(words, at, to),
        creates: creates.then(name).flatten(),
    }
}

/// What one row locks, whose pattern ends at `at`.
fn locks(form: &Form, words: &Words, at: usize, to: usize) -> Vec<TableLock> {
    let of_row = form.locks.iter().flat_map(|(operand, mode)| {
        operand.find(words, at, to).into_iter().map(|relation| TableLock { relation, mode: *mode })
    });
    let mut locks: Vec<_> = of_row.collect();
    if form.query {
        locks.extend(query::locks(words));
    }
    locks
}

/// `LOCK TABLE a IN … MODE`, and what it is without.
fn written_mode(words: &Words, at: usize) -> LockMode {
    let Some(mode) = words.find(at, "IN").map(|at| at + 1) else { return LockMode::AccessExclusive };
    let is = |known: &LockMode| words.after(mode, known.as_str()).is_some_and(|end| words.is(end, "MODE"));
    LockMode::ALL.into_iter().find(is).unwrap_or(LockMode::AccessExclusive)
}

/// Each relation once, with its strongest mode, the strongest first.
fn strongest(locks: &mut Vec<TableLock>) {
    locks.sort_by_key(|lock| std::cmp::Reverse(lock.mode));
    let mut seen = std::collections::HashSet::new();
    locks.retain(|lock| seen.insert(lock.relation.clone()));
}
