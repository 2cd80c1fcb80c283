//! Statements that make something.

use std::borrow::Cow;

use super::super::words::Words;
use super::form::{Form, Loss, call_loss, form};
use super::mode::LockMode::{AccessExclusive, AccessShare, Share, ShareRowExclusive, ShareUpdateExclusive};
use super::names::Operand::{From, Inherits, Like, Named, On, OwnedBy, PartitionOf, References, Table, To};

/// What is made does nothing to what is there, but for a query that is run to fill it.
pub(super) const FORMS: &[Form] = &[
    form("CREATE TABLE … AS", &[TABLE], &[])
        .when(|words, at, _| words.find(at, "AS").is_some())
        .query()
        .creates()
        .loses(Loss::If(filled)),
    form(
        "CREATE TABLE … PARTITION OF",
        &[TABLE, FOREIGN_TABLE],
        &[(PartitionOf, AccessExclusive), (References, ShareRowExclusive)],
    )
    .when(|words, at, to| (at..to).any(|i| words.after(i, "PARTITION OF").is_some()))
    .creates()
    .more("the default partition, and the tables that the parent's foreign keys name"),
    form(
        "CREATE TABLE",
        &[TABLE, FOREIGN_TABLE],
        &[(References, ShareRowExclusive), (Inherits, ShareUpdateExclusive), (Like, AccessShare)],
    )
    .creates(),
    form("CREATE INDEX CONCURRENTLY", &["CREATE [UNIQUE] INDEX CONCURRENTLY"], &[(On, ShareUpdateExclusive)]).creates(),
    form("CREATE INDEX", &["CREATE [UNIQUE] INDEX"], &[(On, Share)]).creates(),
    form("CREATE OR REPLACE VIEW", &["CREATE OR REPLACE [TEMP|TEMPORARY|RECURSIVE] VIEW"], &[(Named, AccessExclusive)])
        .query(),
    form("CREATE VIEW", &["CREATE [TEMP|TEMPORARY|RECURSIVE] VIEW"], &[]).query().creates(),
    form("CREATE MATERIALIZED VIEW", &["CREATE [UNLOGGED] MATERIALIZED VIEW"], &[])
        .query()
        .creates()
        .loses(Loss::If(filled)),
    form("CREATE SEQUENCE", &["CREATE [TEMP|TEMPORARY|UNLOGGED] SEQUENCE"], &[(OwnedBy, AccessShare)]).creates(),
    form(
        "CREATE TRIGGER",
        &["CREATE [OR|REPLACE|CONSTRAINT] TRIGGER"],
        &[(On, ShareRowExclusive), (From, AccessShare)],
    ),
    form("CREATE RULE", &["CREATE [OR|REPLACE] RULE"], &[(To, AccessExclusive)]).query(),
    form("CREATE POLICY", &["CREATE POLICY"], &[(On, AccessExclusive)]).query(),
    form("CREATE STATISTICS", &["CREATE STATISTICS"], &[(From, ShareUpdateExclusive)]),
    form("CREATE PUBLICATION", &["CREATE PUBLICATION"], &[(Table, ShareUpdateExclusive)]),
    form("CREATE FUNCTION … LANGUAGE plpgsql, …", &["CREATE [OR|REPLACE] FUNCTION|PROCEDURE"], &[]).when(
        |words, at, _| {
            let language =
                words.find(at, "LANGUAGE").map(|at| words.text(at + 1).trim_matches('\'').to_ascii_lowercase());
            language.is_some_and(|language| language != "sql")
        },
    ),
    // The server looks at a body in SQL when it is made, and locks what it names.
    form("CREATE FUNCTION … LANGUAGE sql", &["CREATE [OR|REPLACE] FUNCTION|PROCEDURE"], &[])
        .more("what a body in SQL names"),
    form("CREATE SCHEMA", &["CREATE SCHEMA"], &[(References, ShareRowExclusive)]),
    // Its own script decides.
    form("CREATE EXTENSION", &["CREATE EXTENSION"], &[]).more("what the extension's script names"),
    form(
        "CREATE TYPE, …",
        &[
            "CREATE [OR|REPLACE|TRUSTED|PROCEDURAL] TYPE|DOMAIN|CAST|COLLATION|CONVERSION|LANGUAGE|OPERATOR|TEXT|TRANSFORM",
            "CREATE [OR|REPLACE] AGGREGATE|ACCESS|SERVER|USER|ROLE|GROUP|EVENT|DATABASE|TABLESPACE|SUBSCRIPTION",
            "CREATE DEFAULT CONVERSION",
            "CREATE FOREIGN DATA WRAPPER",
        ],
        &[],
    ),
    form("IMPORT FOREIGN SCHEMA", &["IMPORT FOREIGN SCHEMA"], &[]),
];

const TABLE: &str = "CREATE [GLOBAL|LOCAL|TEMP|TEMPORARY|UNLOGGED] TABLE";
const FOREIGN_TABLE: &str = "CREATE FOREIGN TABLE";

/// What is run to fill it.
fn filled(words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
    let query = words.find(at, "AS")? + 1;
    if words.is(query, "EXECUTE") { Some("EXECUTE".into()) } else { call_loss(words, query, to) }
}
