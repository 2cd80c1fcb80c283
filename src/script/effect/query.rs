//! What queries read and write: the relations behind FROM, JOIN, INTO and UPDATE, at every depth.

use super::super::lexer::Kind;
use super::super::words::{MOST, Words};
use super::TableLock;
use super::mode::LockMode;
use super::names::{behind_group, is_comma, is_part, name, part, table};

/// The relations that a query locks. Names of WITH, functions and aliases are none.
pub(super) fn locks(words: &Words) -> Vec<TableLock> {
    let mut reader = Reader {
        words,
        with: names_of_with(words),
        level: Level { query: true, ..Level::default() },
        outer: Vec::new(),
        found: Vec::new(),
        count: 0,
    };
    let mut at = 0;
    while at < words.len() {
        at = reader.token(at);
    }
    reader.found.into_iter().map(|found| found.lock).collect()
}

/// Why rows that no condition names could be gone or changed: a DELETE or an UPDATE of all rows, a MERGE that deletes.
pub(super) fn of_all_rows(words: &Words) -> Option<&'static str> {
    (0..words.len()).filter(|&at| words.kind(at) == Some(Kind::Word)).find_map(|at| {
        if words.is(at, "DELETE") && words.is(at + 1, "FROM") {
            return unbounded(words, at, "DELETE without WHERE");
        }
        if update(words, at).is_some() {
            return unbounded(words, at, "UPDATE without WHERE");
        }
        (words.is(at, "THEN") && words.is(at + 1, "DELETE")).then_some("MERGE that deletes")
    })
}

fn unbounded(words: &Words, at: usize, what: &'static str) -> Option<&'static str> {
    match is_bounded(words, at) {
        true => None,
        false if words.len() >= MOST => Some("an UPDATE or DELETE that is too long to be read to its end"),
        false => Some(what),
    }
}

/// Whether a WHERE that says something stands at the statement's own depth.
fn is_bounded(words: &Words, at: usize) -> bool {
    let depth = words.depth(at);
    let end = (at..words.len()).find(|&i| words.depth(i) < depth).unwrap_or(words.len());
    let condition = (at..end).find(|&i| words.depth(i) == depth && words.is(i, "WHERE")).map(|at| at + 1);
    condition.is_some_and(|condition| {
        let always = if words.is(condition, "TRUE") {
            Some(condition + 1)
        } else {
            let equal = words.kind(condition + 1) == Some(Kind::Equals);
            let literal = words.text(condition).starts_with(|c: char| c.is_ascii_digit());
            (equal && literal && words.text(condition) == words.text(condition + 2)).then_some(condition + 3)
        };
        always.is_none_or(|behind| behind < end && !words.is(behind, "RETURNING"))
    })
}

/// The table of an UPDATE that is a statement, not part of `FOR UPDATE`, `ON UPDATE` or `DO UPDATE`.
fn update(words: &Words, at: usize) -> Option<(String, usize)> {
    let part_of_another =
        |i: usize| ["FOR", "KEY", "ON", "DO", "THEN", "OR", "BEFORE", "AFTER"].iter().any(|w| words.is(i, w));
    if !words.is(at, "UPDATE") || at.checked_sub(1).is_some_and(part_of_another) {
        return None;
    }
    let (name, after) = table(words, at + 1)?;
    let depth = words.depth(at);
    let sets = (after..words.len()).take_while(|&i| words.depth(i) >= depth).take(4).any(|i| words.is(i, "SET"));
    sets.then_some((name, after))
}

/// The names that WITH gives to queries.
fn names_of_with(words: &Words) -> Vec<String> {
    (1..words.len()).filter(|&i| is_name_of_with(words, i)).filter_map(|i| part(words, i)).collect()
}

/// `name [(columns)] AS [[NOT] MATERIALIZED] (`, behind WITH, RECURSIVE or a comma.
pub(super) fn is_name_of_with(words: &Words, at: usize) -> bool {
    let begins = |i: usize| words.is(i, "WITH") || words.is(i, "RECURSIVE") || is_comma(words, i);
    if !is_part(words, at) || !at.checked_sub(1).is_some_and(begins) {
        return false;
    }
    let behind = words.after(behind_group(words, at + 1), "AS [NOT|MATERIALIZED]");
    behind.is_some_and(|behind| words.kind(behind) == Some(Kind::OpenParen))
}

/// What begins a query.
const QUERY: [&str; 7] = ["SELECT", "WITH", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE"];
/// What ends the list behind FROM.
const ENDS_FROM: [&str; 15] = [
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "WINDOW",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "RETURNING",
    "SET",
    "WHEN",
    "SELECT",
];
/// Functions that take FROM among their arguments.
const WITH_FROM: [&str; 6] = ["EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION", "NORMALIZE"];
/// What may follow a relation and is no alias of it.
const NO_ALIAS: [&str; 24] = [
    "ON",
    "USING",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "FULL",
    "CROSS",
    "NATURAL",
    "WHERE",
    "SET",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "FOR",
    "WINDOW",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "TABLESAMPLE",
    "RETURNING",
];

/// One depth of parentheses.
#[derive(Clone, Default)]
struct Level {
    /// It holds a query, so that FROM is a list of relations.
    query: bool,
    in_from: bool,
    /// A relation comes next.
    expecting: bool,
    /// Who a FOR UPDATE at this level is for: its own relations, and those of subqueries behind its FROM.
    owner: usize,
    /// Where its relations begin.
    start: usize,
}

struct Found {
    lock: TableLock,
    alias: Option<String>,
    owner: usize,
}

struct Reader<'a, 'b> {
    words: &'b Words<'a>,
    with: Vec<String>,
    level: Level,
    outer: Vec<Level>,
    found: Vec<Found>,
    /// Gives owners their numbers.
    count: usize,
}

impl Reader<'_, '_> {
    fn is_any(&self, at: usize, any: &[&str]) -> bool {
        any.iter().any(|word| self.words.is(at, word))
    }

    /// Reads the token at `at`, and says which is next.
    fn token(&mut self, at: usize) -> usize {
        match self.words.kind(at) {
            Some(Kind::OpenParen) => self.open(at),
            Some(Kind::CloseParen) => self.level = self.outer.pop().unwrap_or_default(),
            Some(Kind::Word) => return self.word(at),
            Some(Kind::Other) if is_comma(self.words, at) => {
                self.level.expecting = self.level.in_from;
            }
            Some(Kind::Other) if self.level.expecting => return self.relation(at),
            _ => {}
        }
        at + 1
    }

    fn open(&mut self, at: usize) {
        let start = self.found.len();
        let takes_from = at.checked_sub(1).is_some_and(|before| self.is_any(before, &WITH_FROM));
        let queries = self.is_any(at + 1, &QUERY) || self.words.kind(at + 1) == Some(Kind::OpenParen);
        let parent = &mut self.level;
        let (expecting, owner) = (parent.expecting, parent.owner);
        parent.expecting = false;
        self.count += usize::from(!expecting);
        let owner = if expecting { owner } else { self.count };
        let query = expecting || queries && !takes_from;
        let inner = Level { query, in_from: expecting, expecting, owner, start };
        self.outer.push(std::mem::replace(&mut self.level, inner));
    }

    fn word(&mut self, at: usize) -> usize {
        let words = self.words;
        let writes = |verb: &str, behind: &str| words.is(at, verb) && words.is(at + 1, behind);
        if writes("DELETE", "FROM") || writes("INSERT", "INTO") || writes("MERGE", "INTO") {
            let level = &mut self.level;
            (level.in_from, level.expecting) = (!words.is(at, "INSERT"), false);
            return self.take(at + 2, LockMode::RowExclusive);
        }
        if let Some((_, after)) = update(words, at) {
            let level = &mut self.level;
            (level.in_from, level.expecting) = (false, false);
            self.take(at + 1, LockMode::RowExclusive);
            return after;
        }
        if self.is_any(at, &ENDS_FROM) {
            let level = &mut self.level;
            (level.in_from, level.expecting) = (false, false);
            level.query |= words.is(at, "SELECT");
        } else if words.is(at, "FROM") {
            let distinct = at.checked_sub(1).is_some_and(|before| words.is(before, "DISTINCT"));
            let level = &mut self.level;
            let begins = level.query && !distinct;
            (level.in_from, level.expecting) = (begins, begins);
        } else if words.is(at, "JOIN") {
            let level = &mut self.level;
            level.expecting = level.in_from;
        } else if words.is(at, "USING") {
            let columns = words.kind(at + 1) == Some(Kind::OpenParen) && !self.is_any(at + 2, &QUERY);
            let level = &mut self.level;
            level.expecting = level.in_from && !columns;
        } else if words.is(at, "FOR") {
            self.rows_locked(at);
        } else if words.is(at, "TABLE") && self.is_table_query(at) {
            return self.take(at + 1, LockMode::AccessShare);
        } else if self.level.expecting && !words.is(at, "LATERAL") {
            return self.relation(at);
        }
        at + 1
    }

    /// `TABLE t` where a query may begin.
    fn is_table_query(&self, at: usize) -> bool {
        let before = at.checked_sub(1);
        before.is_none_or(|before| {
            self.words.kind(before) == Some(Kind::OpenParen)
                || self.is_any(before, &["UNION", "ALL", "EXCEPT", "INTERSECT", "AS", "FOR"])
        })
    }

    /// A relation behind FROM, JOIN or a comma; or a function, which is none.
    fn relation(&mut self, at: usize) -> usize {
        self.level.expecting = false;
        if let Some(functions) = self.words.after(at, "ROWS FROM") {
            return functions;
        }
        match name(self.words, at) {
            Some((_, after)) if self.words.kind(after) == Some(Kind::OpenParen) && !self.words.is(at, "ONLY") => after,
            Some(_) => self.take(at, LockMode::AccessShare),
            None => at + 1,
        }
    }

    /// Notes the relation that is named at `at`, with its alias.
    fn take(&mut self, at: usize, mode: LockMode) -> usize {
        let Some((relation, after)) = table(self.words, at) else { return at + 1 };
        if self.with.contains(&relation) {
            return after;
        }
        let behind_as = self.words.after(after, "AS").unwrap_or(after);
        let alias = part(self.words, behind_as).filter(|_| !self.is_any(behind_as, &NO_ALIAS));
        let owner = self.level.owner;
        self.found.push(Found { lock: TableLock { relation, mode }, alias, owner });
        after
    }

    /// `FOR [NO KEY] UPDATE`, `FOR [KEY] SHARE`, with or without OF.
    fn rows_locked(&mut self, at: usize) {
        let words = self.words;
        let Some(behind) = words.after(at, "FOR [NO|KEY] UPDATE|SHARE") else { return };
        let level = &mut self.level;
        (level.in_from, level.expecting) = (false, false);
        let (owner, start) = (level.owner, level.start);
        let mut of = Vec::new();
        if let Some(mut at) = words.after(behind, "OF") {
            while let Some((name, after)) = name(words, at) {
                of.push(name);
                if !is_comma(words, after) {
                    break;
                }
                at = after + 1;
            }
        }
        for found in self.found.iter_mut().skip(start).filter(|found| found.owner == owner) {
            let called = found.alias.as_ref().unwrap_or(&found.lock.relation);
            let last = called.rsplit_once('.').map_or(called.as_str(), |(_, last)| last);
            if of.is_empty() || of.iter().any(|name| name == called || name == last) {
                found.lock.mode = found.lock.mode.max(LockMode::RowShare);
            }
        }
    }
}
