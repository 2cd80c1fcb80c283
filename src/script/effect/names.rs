//! Names of relations in a statement: how they are read, and which of them a form of statement locks.

use super::super::lexer::Kind;
use super::super::words::Words;

/// Which relations of a statement are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    /// What stands behind the form's words, a list of it where there is one: `DROP TABLE a, b`.
    Named,
    /// The relation whose column is named there: `COMMENT ON COLUMN t.c`.
    Column,
    /// What stands behind the first ON outside parentheses: `CREATE INDEX ON t`.
    On,
    /// What stands behind the first TO: `CREATE RULE … TO t`.
    To,
    /// What stands behind the first FROM, a list of it where there is one.
    From,
    /// What stands behind TABLE, a list of it where there is one: `FOR TABLE a, b`.
    Table,
    /// What foreign keys name.
    References,
    /// What stands behind PARTITION OF.
    PartitionOf,
    /// What stands behind `LIKE` in a list of columns.
    Like,
    /// What stands behind INHERITS.
    Inherits,
    /// The table of a column behind OWNED BY.
    OwnedBy,
}

/// A comma.
pub(super) fn is_comma(words: &Words, at: usize) -> bool {
    words.text(at) == ","
}

/// Where the group that the parenthesis at `open` begins is closed.
pub(super) fn close(words: &Words, open: usize) -> usize {
    let depth = words.depth(open);
    let closes = |i: &usize| words.kind(*i) == Some(Kind::CloseParen) && words.depth(*i) == depth;
    (open + 1..words.len()).find(closes).unwrap_or(words.len())
}

/// Where a group of parentheses ends, if one begins here; else here.
pub(super) fn behind_group(words: &Words, at: usize) -> usize {
    if words.kind(at) == Some(Kind::OpenParen) { close(words, at) + 1 } else { at }
}

/// Whether a part of a name stands here.
pub(super) fn is_part(words: &Words, at: usize) -> bool {
    match words.kind(at) {
        Some(Kind::Word) => true,
        Some(Kind::Other) => match words.text(at).as_bytes() {
            [b'"', rest @ ..] => rest.len() > 1,
            [b'u' | b'U', b'&', b'"', rest @ ..] => rest.len() > 1,
            _ => false,
        },
        _ => false,
    }
}

/// One part of a name, as PostgreSQL folds it. What needs its quotes keeps them.
pub(super) fn part(words: &Words, at: usize) -> Option<String> {
    let text = words.text(at);
    if !is_part(words, at) {
        return None;
    }
    if words.kind(at) == Some(Kind::Word) {
        return Some(text.to_lowercase());
    }
    let inner = text.trim_matches('"');
    let simple = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    let plain =
        inner.len() + 2 == text.len() && inner.chars().all(simple) && !inner.starts_with(|c: char| c.is_ascii_digit());
    Some(if plain { inner.to_owned() } else { text.to_owned() })
}

/// Where the statement goes on behind the name that stands here, with its schema if that is written.
pub(super) fn behind_name(words: &Words, at: usize) -> Option<usize> {
    let mut end = is_part(words, at).then_some(at + 1)?;
    while words.kind(end) == Some(Kind::Dot) && is_part(words, end + 1) {
        end += 2;
    }
    Some(end)
}

/// The same, and the name.
pub(super) fn name(words: &Words, at: usize) -> Option<(String, usize)> {
    let end = behind_name(words, at)?;
    let parts: Vec<_> = (at..end).step_by(2).filter_map(|at| part(words, at)).collect();
    Some((parts.join("."), end))
}

/// A name behind `ONLY`, which may have parentheses or a star: `ONLY (t)`, `t *`.
pub(super) fn table(words: &Words, at: usize) -> Option<(String, usize)> {
    let at = words.after(at, "ONLY").unwrap_or(at);
    let parenthesised = words.kind(at) == Some(Kind::OpenParen);
    let (name, after) = name(words, at + usize::from(parenthesised))?;
    let after = after + usize::from(parenthesised);
    Some((name, if words.text(after) == "*" { after + 1 } else { after }))
}

/// Names with commas between them.
pub(super) fn list(words: &Words, mut at: usize) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((name, after)) = table(words, at) {
        names.push(name);
        // The columns that VACUUM, ANALYZE and publications take, and a publication's condition.
        let after = behind_group(words, after);
        let after = words.after(after, "WHERE").map_or(after, |condition| behind_group(words, condition));
        if !is_comma(words, after) {
            break;
        }
        at = after + 1;
    }
    names
}

/// Where a name stands behind a form's words: CONCURRENTLY and IF [NOT] EXISTS are passed.
pub(super) fn passed(words: &Words, at: usize) -> usize {
    let at = words.after(at, "CONCURRENTLY").unwrap_or(at);
    words.after(at, "IF NOT EXISTS").or_else(|| words.after(at, "IF EXISTS")).unwrap_or(at)
}

impl Operand {
    /// These relations of the words `from..to` of a statement whose form ends at `from`.
    pub fn find(self, words: &Words, from: usize, to: usize) -> Vec<String> {
        let one = |at: Option<usize>| at.and_then(|at| table(words, at)).map(|(name, _)| name).into_iter().collect();
        let after = |pattern: &str| (from..to).find_map(|i| words.after(i, pattern));
        match self {
            Self::Named => list(words, passed(words, from)),
            Self::Column | Self::OwnedBy => {
                let at = if self == Self::Column { Some(from) } else { after("OWNED BY") };
                let column = at.and_then(|at| name(words, at)).map(|(column, _)| column);
                column.and_then(|column| Some(column.rsplit_once('.')?.0.to_owned())).into_iter().collect()
            }
            Self::On => one(words.find(from, "ON").map(|on| on + 1)),
            Self::To => one(words.find(from, "TO").map(|to| to + 1)),
            Self::From => words.find(from, "FROM").map(|at| list(words, at + 1)).unwrap_or_default(),
            Self::Table => tables(words, from),
            Self::PartitionOf => one(after("PARTITION OF")),
            Self::References => every(words, from..to, "REFERENCES"),
            Self::Like => every(words, from..to, "LIKE"),
            Self::Inherits => {
                let open = after("INHERITS").filter(|at| words.kind(*at) == Some(Kind::OpenParen));
                open.map(|open| list(words, open + 1)).unwrap_or_default()
            }
        }
    }
}

/// `ADD TABLE a, TABLE b, c`, as publications list them.
fn tables(words: &Words, from: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = from;
    while let Some(word) = words.find(at, "TABLE") {
        names.extend(list(words, word + 1));
        at = word + 1;
    }
    names
}

/// What stands behind each of these words. `LIKE` begins an element of a list of columns.
fn every(words: &Words, range: std::ops::Range<usize>, word: &str) -> Vec<String> {
    let begins = |i: usize| word != "LIKE" || words.kind(i - 1) == Some(Kind::OpenParen) || is_comma(words, i - 1);
    let found = range.filter(|&i| i > 0 && words.is(i, word) && begins(i));
    found.filter_map(|i| Some(table(words, i + 1)?.0)).collect()
}
