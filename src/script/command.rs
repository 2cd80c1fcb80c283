//! Names of commands: what a statement is called, and whether it is a PostgreSQL command at all.

use super::lexer::Kind;
use super::words::Words;

/// What CREATE, ALTER and DROP take. The longer name comes before one that it begins with.
const OBJECTS: &[&str] = &[
    "ACCESS METHOD",
    "AGGREGATE",
    "CAST",
    "COLLATION",
    "CONVERSION",
    "DATABASE",
    "DEFAULT PRIVILEGES",
    "DOMAIN",
    "EVENT TRIGGER",
    "EXTENSION",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "FUNCTION",
    "GROUP",
    "INDEX",
    "LANGUAGE",
    "LARGE OBJECT",
    "MATERIALIZED VIEW",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "OPERATOR",
    "OWNED",
    "POLICY",
    "PROCEDURE",
    "PROPERTY GRAPH",
    "PUBLICATION",
    "ROLE",
    "ROUTINE",
    "RULE",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "SYSTEM",
    "TABLESPACE",
    "TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "TRANSFORM",
    "TRIGGER",
    "TYPE",
    "USER MAPPING",
    "USER",
    "VIEW",
];

/// Words between the verb and the object that are not part of the command's name.
const MODIFIERS: &str =
    "[OR|REPLACE|GLOBAL|LOCAL|TEMP|TEMPORARY|UNLOGGED|UNIQUE|RECURSIVE|TRUSTED|PROCEDURAL|CONSTRAINT]";

/// What tells a command from a sentence that begins with the same word.
enum Sign {
    /// Nothing: the verb is enough.
    Verb,
    /// It begins so.
    Starts(&'static [&'static str]),
    /// It has one of these words later, outside parentheses.
    Has(&'static [&'static str]),
    /// It begins with so many words at most.
    Short(usize),
    /// A string or `LANGUAGE` comes next.
    Body,
    /// `SET name = …`, `SET name TO …`, or a special form.
    Setting,
}

/// Every command of PostgreSQL but CREATE, ALTER and DROP, by its first word.
const VERBS: &[(&str, Sign)] = &[
    ("INSERT", Sign::Starts(&["INSERT INTO"])),
    ("SELECT", Sign::Verb),
    ("UPDATE", Sign::Has(&["SET"])),
    ("DELETE", Sign::Starts(&["DELETE FROM"])),
    ("MERGE", Sign::Starts(&["MERGE INTO"])),
    ("COMMENT", Sign::Starts(&["COMMENT ON"])),
    ("GRANT", Sign::Has(&["TO"])),
    ("REVOKE", Sign::Has(&["FROM"])),
    ("SET", Sign::Setting),
    ("TRUNCATE", Sign::Verb),
    ("DO", Sign::Body),
    ("COPY", Sign::Has(&["FROM", "TO"])),
    ("WITH", Sign::Has(&["AS"])),
    ("VALUES", Sign::Verb),
    ("ABORT", Sign::Short(3)),
    ("ANALYSE", Sign::Short(3)),
    ("ANALYZE", Sign::Short(3)),
    ("BEGIN", Sign::Verb),
    ("CALL", Sign::Short(2)),
    ("CHECKPOINT", Sign::Short(1)),
    ("CLOSE", Sign::Short(2)),
    ("CLUSTER", Sign::Short(5)),
    ("COMMIT", Sign::Short(4)),
    ("DEALLOCATE", Sign::Short(3)),
    ("DECLARE", Sign::Has(&["CURSOR"])),
    ("DISCARD", Sign::Starts(&["DISCARD ALL|PLANS|SEQUENCES|TEMP|TEMPORARY"])),
    ("END", Sign::Short(4)),
    ("EXECUTE", Sign::Short(2)),
    ("EXPLAIN", Sign::Verb),
    ("FETCH", Sign::Has(&["FROM", "IN"])),
    ("IMPORT", Sign::Starts(&["IMPORT FOREIGN SCHEMA"])),
    ("LISTEN", Sign::Short(2)),
    ("LOAD", Sign::Body),
    ("LOCK", Sign::Starts(&["LOCK TABLE", "LOCK ONLY"])),
    ("LOCK", Sign::Has(&["MODE"])),
    ("LOCK", Sign::Short(2)),
    ("MOVE", Sign::Has(&["FROM", "IN"])),
    ("NOTIFY", Sign::Short(2)),
    ("PREPARE", Sign::Has(&["AS", "TRANSACTION"])),
    ("REASSIGN", Sign::Starts(&["REASSIGN OWNED"])),
    ("REFRESH", Sign::Starts(&["REFRESH MATERIALIZED VIEW"])),
    ("REINDEX", Sign::Short(4)),
    ("RELEASE", Sign::Short(3)),
    ("REPACK", Sign::Short(5)),
    ("RESET", Sign::Short(3)),
    ("ROLLBACK", Sign::Verb),
    ("SAVEPOINT", Sign::Short(2)),
    ("SECURITY", Sign::Starts(&["SECURITY LABEL"])),
    ("SHOW", Sign::Short(4)),
    ("START", Sign::Starts(&["START TRANSACTION"])),
    ("TABLE", Sign::Short(3)),
    ("UNLISTEN", Sign::Short(2)),
    ("VACUUM", Sign::Short(5)),
    ("WAIT", Sign::Starts(&["WAIT FOR"])),
];

/// Names of two words among those commands.
const PAIRS: &[&str] = &[
    "IMPORT FOREIGN SCHEMA",
    "PREPARE TRANSACTION",
    "COMMIT PREPARED",
    "ROLLBACK PREPARED",
    "REASSIGN OWNED",
    "REFRESH MATERIALIZED VIEW",
    "SECURITY LABEL",
    "SET CONSTRAINTS",
    "SET ROLE",
    "SET TRANSACTION",
    "START TRANSACTION",
    "DISCARD ALL",
    "TRUNCATE TABLE",
    "LOCK TABLE",
];

/// The command's name as people say it and PostgreSQL's tags have it: `ALTER TABLE`, `INSERT`,
/// `CREATE INDEX CONCURRENTLY`. What has no first word is `SQL`.
pub(super) fn name(words: &Words) -> String {
    let Some(first) = (0..words.len()).find(|&i| words.kind(i) != Some(Kind::OpenParen)) else {
        return "SQL".to_owned();
    };
    if words.kind(first) != Some(Kind::Word) {
        return "SQL".to_owned();
    }
    if let Some((object, after)) = object(words) {
        let concurrently = object == "INDEX" && words.is(after, "CONCURRENTLY");
        let verb = words.text(0).to_ascii_uppercase();
        return format!("{verb} {object}{}", if concurrently { " CONCURRENTLY" } else { "" });
    }
    if let Some(verb) = words.starts("WITH").then(|| main_verb(words)).flatten() {
        return verb.to_owned();
    }
    let verb = words.text(first);
    if let Some(pair) = PAIRS.iter().find(|pair| words.starts(pair)) {
        return match *pair {
            "TRUNCATE TABLE" => "TRUNCATE".to_owned(),
            pair => pair.to_owned(),
        };
    }
    verb.chars().take(30).collect::<String>().to_ascii_uppercase()
}

/// Whether it begins as a command of PostgreSQL does; sentences don't.
pub(super) fn is_known(words: &Words) -> bool {
    if words.kind(0) == Some(Kind::OpenParen) {
        return (0..words.len())
            .find(|&i| words.kind(i) != Some(Kind::OpenParen))
            .is_some_and(|i| ["SELECT", "VALUES", "WITH", "TABLE"].iter().any(|verb| words.is(i, verb)));
    }
    if object(words).is_some() {
        return true;
    }
    VERBS.iter().any(|(verb, sign)| words.is(0, verb) && sign.is_on(words))
}

impl Sign {
    fn is_on(&self, words: &Words) -> bool {
        match self {
            Sign::Verb => true,
            Sign::Starts(patterns) => patterns.iter().any(|pattern| words.starts(pattern)),
            Sign::Has(any) => any.iter().any(|word| words.find(1, word).is_some()),
            Sign::Short(most) => words.leading() <= *most,
            Sign::Body => words.kind(1) == Some(Kind::Text) || words.is(1, "LANGUAGE"),
            Sign::Setting => {
                words.starts("SET [LOCAL|SESSION] CONSTRAINTS|ROLE|TRANSACTION|CHARACTERISTICS|AUTHORIZATION|TIME|NAMES|SCHEMA|XML|CATALOG")
                    || super::setting::assigned(words).is_some()
            }
        }
    }
}

/// What CREATE, ALTER or DROP is about, and where the statement goes on behind it.
pub(super) fn object(words: &Words) -> Option<(&'static str, usize)> {
    let at = words.after(0, "CREATE|ALTER|DROP")?;
    let at = words.after(at, MODIFIERS)?;
    // CREATE DEFAULT CONVERSION, but ALTER DEFAULT PRIVILEGES.
    let at = words.after(at, "DEFAULT CONVERSION").map_or(at, |after| after - 1);
    OBJECTS
        .iter()
        .filter(|object| same_start(words.text(at), object))
        .find_map(|object| Some((*object, words.after(at, object)?)))
}

/// The verb that a WITH is for.
fn main_verb(words: &Words) -> Option<&'static str> {
    let verbs = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES"];
    (1..words.len()).filter(|&i| words.depth(i) == 0).find_map(|i| verbs.into_iter().find(|verb| words.is(i, verb)))
}

/// A cheap test before the exact one.
fn same_start(word: &str, pattern: &str) -> bool {
    let first = |text: &str| text.bytes().next().map(|b| b.to_ascii_uppercase());
    first(word) == first(pattern)
}
