//! What one statement asks of the transaction that a script is run in.

use super::lexer::Kind;
use super::unsupported::UnsupportedKind;
use super::words::Words;
use super::{command, setting};

/// Whether PostgreSQL takes a statement inside a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It runs in a transaction, and is undone with it.
    InTransaction,
    /// PostgreSQL refuses it in a transaction (SQLSTATE 25001).
    OutsideTransaction,
    /// It begins, ends, divides or shapes a transaction.
    TransactionControl,
}

/// What is told of a statement from its tokens.
pub(super) struct Classified {
    pub command: String,
    pub class: Class,
    /// Data lines follow it.
    pub copy_from_stdin: bool,
    /// Why Belay can't run it: kind, what, remedy.
    pub refusal: Option<(UnsupportedKind, String, &'static str)>,
}

struct Rule {
    /// As [`Words::after`] takes it.
    pattern: &'static str,
    /// What must hold besides.
    when: fn(&Words) -> bool,
    /// As it is called in the refusal.
    name: &'static str,
    remedy: &'static str,
}

fn always(_: &Words) -> bool {
    true
}

const CONCURRENT_BUILD: &str = "leave out CONCURRENTLY (writes to the table then wait while the index is built), or build the \
     index by hand and write CREATE INDEX IF NOT EXISTS here";
const BY_HAND: &str = "take it out of the scripts, and run it by hand or from a job of its own";
const REINDEX: &str = "name one index or table, without CONCURRENTLY, or run it by hand";
const SUBSCRIPTION: &str = "add WITH (refresh = false) and refresh the subscription by hand";

/// Every command that PostgreSQL 14 to 19 refuse in a transaction, as far as its text tells. What
/// only the catalogue tells (CLUSTER or REINDEX of a partitioned table, a procedure that commits)
/// the server refuses itself, and the script's transaction with it.
const OUTSIDE: &[Rule] = &[
    Rule {
        pattern: "CREATE [UNIQUE] INDEX CONCURRENTLY",
        when: always,
        name: "CREATE INDEX CONCURRENTLY",
        remedy: CONCURRENT_BUILD,
    },
    Rule {
        pattern: "DROP INDEX CONCURRENTLY",
        when: always,
        name: "DROP INDEX CONCURRENTLY",
        remedy: "leave out CONCURRENTLY (it takes an ACCESS EXCLUSIVE lock for a moment), or drop the index by hand and \
                 write DROP INDEX IF EXISTS here",
    },
    Rule { pattern: "REINDEX", when: reindex, name: "this REINDEX", remedy: REINDEX },
    Rule {
        pattern: "VACUUM",
        when: always,
        name: "VACUUM",
        remedy: "write ANALYZE, if statistics are what it is for, or run VACUUM by hand",
    },
    Rule { pattern: "CLUSTER", when: whole_database, name: "CLUSTER without a table", remedy: "name the table" },
    Rule {
        pattern: "REPACK",
        when: repack,
        name: "this REPACK",
        remedy: "name the table and leave out CONCURRENTLY, or run it by hand",
    },
    Rule { pattern: "CREATE DATABASE", when: always, name: "CREATE DATABASE", remedy: BY_HAND },
    Rule { pattern: "DROP DATABASE", when: always, name: "DROP DATABASE", remedy: BY_HAND },
    Rule {
        pattern: "ALTER DATABASE", when: set_tablespace, name: "ALTER DATABASE … SET TABLESPACE", remedy: BY_HAND
    },
    Rule { pattern: "CREATE TABLESPACE", when: always, name: "CREATE TABLESPACE", remedy: BY_HAND },
    Rule { pattern: "DROP TABLESPACE", when: always, name: "DROP TABLESPACE", remedy: BY_HAND },
    Rule {
        pattern: "ALTER SYSTEM",
        when: always,
        name: "ALTER SYSTEM",
        remedy: "write ALTER DATABASE … SET, or change the server's configuration",
    },
    Rule {
        pattern: "CREATE SUBSCRIPTION",
        when: |words| !words.option_is_off("connect") && !words.option_is_off("create_slot"),
        name: "CREATE SUBSCRIPTION with a new slot",
        remedy: "create the slot on the publisher first, and add WITH (create_slot = false, slot_name = …)",
    },
    Rule { pattern: "DROP SUBSCRIPTION", when: always, name: "DROP SUBSCRIPTION", remedy: BY_HAND },
    Rule {
        pattern: "ALTER SUBSCRIPTION",
        when: alter_subscription,
        name: "this ALTER SUBSCRIPTION",
        remedy: SUBSCRIPTION,
    },
    Rule {
        pattern: "ALTER TABLE",
        when: detach_concurrently,
        name: "DETACH PARTITION … CONCURRENTLY",
        remedy: "leave out CONCURRENTLY (it takes an ACCESS EXCLUSIVE lock for a moment)",
    },
];

fn reindex(words: &Words) -> bool {
    let mut at = 1;
    if words.kind(at) == Some(Kind::OpenParen) {
        if words.option("CONCURRENTLY").is_some() && !words.option_is_off("CONCURRENTLY") {
            return true;
        }
        at = (at..words.len()).find(|&i| words.kind(i) == Some(Kind::CloseParen)).unwrap_or(at) + 1;
    }
    let at = words.after(at, "[VERBOSE]").unwrap_or(at);
    words.after(at, "SCHEMA|DATABASE|SYSTEM").is_some() || words.is(at + 1, "CONCURRENTLY")
}

/// Nothing but options behind the verb.
fn whole_database(words: &Words) -> bool {
    (1..words.len()).all(|i| words.depth(i) > 0 || words.kind(i) != Some(Kind::Word) || words.is(i, "VERBOSE"))
        && !(1..words.len()).any(|i| words.depth(i) == 0 && words.text(i).starts_with('"'))
}

fn repack(words: &Words) -> bool {
    whole_database(words) || words.option("CONCURRENTLY").is_some() && !words.option_is_off("CONCURRENTLY")
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

/// What begins, ends, divides or shapes a transaction.
const CONTROL: &[&str] = &[
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE TRANSACTION",
    "SET [LOCAL] TRANSACTION",
    "SET SESSION CHARACTERISTICS",
    "SET SESSION TRANSACTION",
];

const NO_CONTROL: &str = "leave it out: Belay runs every script in a transaction of its own, which a BEGIN as the first \
     and a COMMIT as the last statement may show; what must be committed apart goes into a script of its own";

pub(super) fn classify(words: &Words) -> Classified {
    let command = command::name(words);
    let mut class = Class::InTransaction;
    let mut refusal = None;
    let mut copy_from_stdin = false;
    if let Some(rule) = OUTSIDE.iter().find(|rule| words.starts(rule.pattern) && (rule.when)(words)) {
        class = Class::OutsideTransaction;
        refusal = Some((
            UnsupportedKind::OutsideTransaction,
            format!("{} can't run in a transaction, and this version of Belay runs every script in one", rule.name),
            rule.remedy,
        ));
    } else if CONTROL.iter().any(|pattern| words.starts(pattern)) {
        class = Class::TransactionControl;
        refusal = Some((UnsupportedKind::TransactionControl, format!("{command} is transaction control"), NO_CONTROL));
    } else if words.starts("DISCARD ALL") {
        refusal = Some((
            UnsupportedKind::TransactionControl,
            "DISCARD ALL would drop the lock that keeps other writers out".to_owned(),
            "name what it is for: RESET ALL, DEALLOCATE ALL, DISCARD TEMP",
        ));
    } else if words.starts("COPY") {
        (copy_from_stdin, refusal) = copy(words);
    } else if words.starts("SET")
        && let Some(name) = setting::taken(words)
    {
        refusal = Some((
            UnsupportedKind::Setting,
            format!(
                "this value of {name} would keep Belay from running the script as it was read, or from recording it"
            ),
            "leave the setting out of the script",
        ));
    }
    Classified { command, class, copy_from_stdin, refusal }
}

fn copy(words: &Words) -> (bool, Option<(UnsupportedKind, String, &'static str)>) {
    let next_is = |verb: &str, word: &str| words.find(1, verb).is_some_and(|at| words.is(at + 1, word));
    if next_is("FROM", "STDIN") {
        let what = "COPY … FROM STDIN brings its data in the script, which this version of Belay can't send yet";
        let remedy = "write the rows as INSERT (pg_dump --inserts writes them so)";
        return (true, Some((UnsupportedKind::CopyData, what.to_owned(), remedy)));
    }
    if next_is("TO", "STDOUT") {
        let what = "COPY … TO STDOUT sends data to whoever runs the script, and a migration has nobody to take it";
        return (false, Some((UnsupportedKind::CopyData, what.to_owned(), "leave it out")));
    }
    (false, None)
}

#[cfg(test)]
pub(super) fn outside_rules() -> impl Iterator<Item = &'static str> {
    OUTSIDE.iter().map(|rule| rule.name)
}
