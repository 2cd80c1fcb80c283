//! Statements that PostgreSQL refuses in a transaction: which they are, and what their text alone tells about running
//! them where nothing is undone.

use super::lexer::Kind;
use super::words::Words;

/// What is known of a statement that PostgreSQL refuses in a transaction (SQLSTATE 25001).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outside {
    /// How it is found out whether it was done, when the server's answer was lost.
    pub settle: Settle,
    /// Its waits for locks hold up nobody's everyday work: SHARE UPDATE EXCLUSIVE and weaker locks, and the end of
    /// older transactions. A build of hours must not end with a short lock_timeout.
    pub patient: bool,
}

/// How it is found out whether a statement was done. Names are as they were written: what they mean depends on the
/// search_path that the script has set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settle {
    /// Doing it twice is doing it once: VACUUM, ALTER SYSTEM.
    Repeat,
    /// REINDEX: the same, but it may have left invalid indexes of its own behind.
    Reindex,
    /// CREATE INDEX CONCURRENTLY: it may have left an invalid index behind.
    CreateIndex(IndexDefinition),
    /// DROP INDEX CONCURRENTLY: done when none of these is there, and each was before.
    DropIndexes(Vec<String>),
    /// Done when one of this name is there, and was not before.
    Create(Object, String),
    /// Done when none of this name is there, and one was before.
    Drop(Object, String),
    /// DETACH PARTITION … CONCURRENTLY: done when the one is no longer the other's partition, and was
    /// before. May be left pending, and is then to be finalized.
    Detach { table: String, partition: String },
    /// Nothing in the catalogue tells.
    Unknown,
}

/// What has a catalogue of its own, and a name without a schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Object {
    Database,
    Tablespace,
    Subscription,
}

/// The parts of a CREATE INDEX CONCURRENTLY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexDefinition {
    /// None: the server chooses one.
    pub name: Option<String>,
    pub table: String,
    pub unique: bool,
    /// What stands behind the table: `USING btree (a) WHERE b`.
    pub rest: String,
}

/// One kind of statement that is refused in a transaction.
struct Rule {
    /// As [`Words::after`] takes it.
    pattern: &'static str,
    /// What must hold besides.
    when: fn(&Words) -> bool,
    /// See [`Outside::patient`].
    patient: fn(&Words) -> bool,
    /// None: its names cannot be read.
    settle: fn(&Words) -> Option<Settle>,
}

fn always(_: &Words) -> bool {
    true
}

fn never(_: &Words) -> bool {
    false
}

/// Every command that PostgreSQL 14 to 19 refuse in a transaction, as far as its text tells. What only the catalogue
/// tells (CLUSTER or REINDEX of a partitioned table, a procedure that commits) the server refuses itself, and the
/// script's transaction with it: `-- belay: no-transaction` is for these.
const RULES: &[Rule] = &[
    Rule {
        pattern: "CREATE [UNIQUE] INDEX CONCURRENTLY",
        when: always,
        patient: always,
        settle: |words| index_definition(words).map(Settle::CreateIndex),
    },
    Rule {
        pattern: "DROP INDEX CONCURRENTLY",
        when: always,
        patient: always,
        settle: |words| {
            let at = words.after(3, "[IF|EXISTS]")?;
            names(words, at).map(Settle::DropIndexes)
        },
    },
    Rule { pattern: "REINDEX", when: reindex, patient: is_concurrent, settle: |_| Some(Settle::Reindex) },
    Rule { pattern: "VACUUM", when: always, patient: |words| !is_full(words), settle: |_| Some(Settle::Repeat) },
    Rule { pattern: "CLUSTER", when: whole_database, patient: never, settle: |_| Some(Settle::Repeat) },
    Rule { pattern: "REPACK", when: repack, patient: is_concurrent, settle: |_| Some(Settle::Repeat) },
    Rule {
        pattern: "CREATE DATABASE",
        when: always,
        patient: never,
        settle: |words| name(words, 2).map(|(name, _)| Settle::Create(Object::Database, name)),
    },
    Rule {
        pattern: "DROP DATABASE",
        when: always,
        patient: never,
        settle: |words| dropped(words).map(|name| Settle::Drop(Object::Database, name)),
    },
    Rule { pattern: "ALTER DATABASE", when: set_tablespace, patient: never, settle: |_| Some(Settle::Repeat) },
    Rule {
        pattern: "CREATE TABLESPACE",
        when: always,
        patient: never,
        settle: |words| name(words, 2).map(|(name, _)| Settle::Create(Object::Tablespace, name)),
    },
    Rule {
        pattern: "DROP TABLESPACE",
        when: always,
        patient: never,
        settle: |words| dropped(words).map(|name| Settle::Drop(Object::Tablespace, name)),
    },
    Rule { pattern: "ALTER SYSTEM", when: always, patient: never, settle: |_| Some(Settle::Repeat) },
    Rule {
        pattern: "CREATE SUBSCRIPTION",
        when: |words| !words.option_is_off("connect") && !words.option_is_off("create_slot"),
        patient: never,
        settle: |words| name(words, 2).map(|(name, _)| Settle::Create(Object::Subscription, name)),
    },
    Rule {
        pattern: "DROP SUBSCRIPTION",
        when: always,
        patient: never,
        settle: |words| dropped(words).map(|name| Settle::Drop(Object::Subscription, name)),
    },
    Rule {
        pattern: "ALTER SUBSCRIPTION",
        when: alter_subscription,
        patient: never,
        // ADD and DROP of a publication fail when they are done twice, and what another did looks the same.
        settle: |words| {
            let again = words.find(3, "ADD").is_none() && words.find(3, "DROP").is_none();
            Some(if again { Settle::Repeat } else { Settle::Unknown })
        },
    },
    Rule { pattern: "ALTER TABLE", when: detach_concurrently, patient: always, settle: detach },
];

/// What is known of a statement, if PostgreSQL refuses it in a transaction; and whether its names could be read.
pub(super) fn read(words: &Words) -> Option<(Outside, bool)> {
    let rule = RULES.iter().find(|rule| words.starts(rule.pattern) && (rule.when)(words))?;
    let settle = (rule.settle)(words);
    let is_read = settle.is_some();
    Some((Outside { settle: settle.unwrap_or(Settle::Unknown), patient: (rule.patient)(words) }, is_read))
}

/// Behind the options and VERBOSE of a REINDEX.
fn reindexed(words: &Words) -> usize {
    let mut at = 1;
    if words.kind(at) == Some(Kind::OpenParen) {
        at = (at..words.len()).find(|&i| words.kind(i) == Some(Kind::CloseParen)).unwrap_or(at) + 1;
    }
    words.after(at, "[VERBOSE]").unwrap_or(at)
}

fn reindex(words: &Words) -> bool {
    let at = reindexed(words);
    words.after(at, "SCHEMA|DATABASE|SYSTEM").is_some() || is_concurrent(words)
}

/// REINDEX and REPACK have it as an option, and REINDEX as a word behind what is reindexed too.
fn is_concurrent(words: &Words) -> bool {
    let option = words.option("CONCURRENTLY").is_some() && !words.option_is_off("CONCURRENTLY");
    option || words.is(0, "REINDEX") && words.is(reindexed(words) + 1, "CONCURRENTLY")
}

fn is_full(words: &Words) -> bool {
    words.is(1, "FULL") || words.option("FULL").is_some() && !words.option_is_off("FULL")
}

/// Nothing but options behind the verb.
fn whole_database(words: &Words) -> bool {
    (1..words.len()).all(|i| words.depth(i) > 0 || words.kind(i) != Some(Kind::Word) || words.is(i, "VERBOSE"))
        && !(1..words.len()).any(|i| words.depth(i) == 0 && words.text(i).starts_with('"'))
}

fn repack(words: &Words) -> bool {
    whole_database(words) || is_concurrent(words)
}

fn set_tablespace(words: &Words) -> bool {
    words.find(3, "SET").is_some_and(|set| words.is(set + 1, "TABLESPACE"))
}

fn alter_subscription(words: &Words) -> bool {
    let refreshes =
        words.find(3, "REFRESH").is_some() || words.find(3, "PUBLICATION").is_some() && !words.option_is_off("refresh");
    let slot = ["failover", "two_phase"].iter().any(|option| words.option(option).is_some());
    refreshes || slot
}

fn detach_concurrently(words: &Words) -> bool {
    words
        .find(2, "DETACH")
        .is_some_and(|detach| words.is(detach + 1, "PARTITION") && words.find(detach + 2, "CONCURRENTLY").is_some())
}

fn detach(words: &Words) -> Option<Settle> {
    let (table, _) = name(words, words.after(2, "[IF|EXISTS|ONLY]")?)?;
    let (partition, _) = name(words, words.find(2, "DETACH")? + 2)?;
    Some(Settle::Detach { table, partition })
}

fn index_definition(words: &Words) -> Option<IndexDefinition> {
    let unique = words.is(1, "UNIQUE");
    let at = words.after(0, "CREATE [UNIQUE] INDEX CONCURRENTLY [IF|NOT|EXISTS]")?;
    let (index, at) =
        if words.is(at, "ON") { (None, at) } else { name(words, at).map(|(name, at)| (Some(name), at))? };
    let (table, at) = name(words, words.after(at, "ON [ONLY]")?)?;
    Some(IndexDefinition { name: index, table, unique, rest: words.from(at).to_owned() })
}

fn dropped(words: &Words) -> Option<String> {
    Some(name(words, words.after(2, "[IF|EXISTS]")?)?.0)
}

/// The name at a token, with its schema if it has one, and where the statement goes on behind it.
fn name(words: &Words, at: usize) -> Option<(String, usize)> {
    let mut name = part(words, at)?.to_owned();
    let mut next = at + 1;
    while words.kind(next) == Some(Kind::Dot) {
        name.push('.');
        name.push_str(part(words, next + 1)?);
        next += 2;
    }
    Some((name, next))
}

/// Names with commas between them.
fn names(words: &Words, mut at: usize) -> Option<Vec<String>> {
    let mut names = Vec::new();
    loop {
        let (one, next) = name(words, at)?;
        names.push(one);
        if words.text(next) != "," {
            return Some(names);
        }
        at = next + 1;
    }
}

/// One part of a name: a word, or a quoted identifier. `U&"…"` is not read.
fn part<'a>(words: &Words<'a>, at: usize) -> Option<&'a str> {
    let text = words.text(at);
    (words.kind(at) == Some(Kind::Word) || text.starts_with('"')).then_some(text)
}

#[cfg(test)]
pub(super) fn patterns() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|rule| rule.pattern)
}
