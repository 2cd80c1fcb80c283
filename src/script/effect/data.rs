//! Statements that read and write rows.

use super::super::words::Words;
use super::form::{Form, Loss, call_loss, form, query_loss};
use super::mode::LockMode::{AccessExclusive, AccessShare, RowExclusive};
use super::names::Operand::Named;

/// A DELETE or an UPDATE with a WHERE is not counted: it names the rows that it is meant for. So does `ON CONFLICT DO UPDATE`,
/// and so does a MERGE, unless it deletes.
///
/// A function that is not PostgreSQL's own, or that is not known to leave everything as it was (setval), may do anything.
pub(super) const FORMS: &[Form] = &[
    form("INSERT", &["INSERT INTO"], &[]).query().loses(Loss::If(values_loss)),
    form("UPDATE", &["UPDATE"], &[]).query().loses(Loss::If(query_loss)),
    form("DELETE", &["DELETE FROM"], &[]).query().loses(Loss::If(query_loss)),
    form("MERGE", &["MERGE INTO"], &[]).query().loses(Loss::If(query_loss)),
    form("WITH", &["WITH"], &[]).query().loses(Loss::If(query_loss)),
    form("SELECT … INTO", &["SELECT"], &[])
        .when(|words, at, _| words.find(at, "INTO").is_some())
        .query()
        .loses(Loss::If(query_loss)),
    form("SELECT … FOR UPDATE", &["SELECT"], &[])
        .when(|words, _, to| (1..to).any(|i| words.after(i, "FOR [NO|KEY] UPDATE|SHARE").is_some()))
        .query()
        .loses(Loss::If(query_loss)),
    form("SELECT", &["SELECT"], &[]).query().loses(Loss::If(query_loss)),
    form("VALUES", &["VALUES"], &[]).query().loses(Loss::If(call_loss)),
    form("TABLE", &["TABLE"], &[(Named, AccessShare)]),
    form("COPY (query)", &["COPY"], &[])
        .when(|words, at, _| words.depth(at + 1) > 0)
        .query()
        .loses(Loss::If(copy_loss)),
    form("COPY … TO", &["COPY [BINARY]"], &[(Named, AccessShare)])
        .when(|words, at, _| words.find(at, "TO").is_some())
        .loses(Loss::If(copy_loss)),
    form("COPY … FROM", &["COPY [BINARY]"], &[(Named, RowExclusive)]).loses(Loss::If(copy_loss)),
    form("TRUNCATE", &["TRUNCATE [TABLE]"], &[(Named, AccessExclusive)]).loses(Loss::Yes),
    form("LOCK", &["LOCK [TABLE]"], &[(Named, AccessExclusive)]),
    form("PREPARE", &["PREPARE"], &[]).when(|words, at, _| !words.is(at, "TRANSACTION")).query(),
    form("DECLARE CURSOR", &["DECLARE"], &[]).query().loses(Loss::If(query_loss)),
    // What they run is not in the statement.
    form("EXECUTE", &["EXECUTE"], &[]).more(BODY).loses(Loss::Yes),
    form("CALL", &["CALL"], &[]).more(BODY).loses(Loss::Yes),
    form("DO", &["DO"], &[]).more(BODY).loses(Loss::Yes),
];

const BODY: &str = "what its body names";

type Why = Option<std::borrow::Cow<'static, str>>;

/// Rows that stand in the statement may be more than are looked at: what the first of them call, the others do.
fn values_loss(words: &Words, at: usize, to: usize) -> Why {
    let rows = words.find(at, "SELECT").is_none() && words.find(at, "VALUES").is_some();
    query_loss(words, at, if rows { to.min(super::super::words::MOST - 1) } else { to })
}

/// A program may do anything.
fn copy_loss(words: &Words, at: usize, to: usize) -> Why {
    let program = |i: usize| words.depth(i) == 0 && words.is(i, "PROGRAM");
    if (at..to).any(program) {
        return Some("COPY … PROGRAM".into());
    }
    if words.depth(at + 1) > 0 { query_loss(words, at, to) } else { None }
}
