//! Statements that maintain, describe, permit, and set up a session.

use super::super::class::CONTROL;
use super::super::lexer::Kind;
use super::super::words::Words;
use super::form::{Form, Loss, form};
use super::mode::LockMode::{AccessExclusive, AccessShare, Exclusive, Share, ShareUpdateExclusive};
use super::names::Operand::{Column, Named, On};

pub(super) const FORMS: &[Form] = &[
    form("VACUUM", &["VACUUM ~ [FULL|FREEZE|VERBOSE|ANALYZE|ANALYSE]", "ANALYZE|ANALYSE ~ [VERBOSE]"], &[])
        .when(|words, at, to| at >= to || words.kind(at) == Some(Kind::OpenParen))
        .more("every table of the database, one after the other"),
    form("VACUUM FULL table", &["VACUUM ~ [FULL|FREEZE|VERBOSE|ANALYZE|ANALYSE]"], &[(Named, AccessExclusive)])
        .when(|words, at, _| (1..at).any(|i| words.depth(i) == 0 && words.is(i, "FULL")) || on(words, "FULL")),
    form("VACUUM table", &["VACUUM ~ [FULL|FREEZE|VERBOSE|ANALYZE|ANALYSE]"], &[(Named, ShareUpdateExclusive)]),
    form("ANALYZE table", &["ANALYZE ~ [VERBOSE]", "ANALYSE ~ [VERBOSE]"], &[(Named, ShareUpdateExclusive)]),
    form("CLUSTER index ON table", &["CLUSTER ~ [VERBOSE]"], &[(On, AccessExclusive)])
        .when(|words, at, _| words.find(at, "ON").is_some()),
    form("CLUSTER table", &["CLUSTER ~ [VERBOSE]"], &[(Named, AccessExclusive)])
        .when(|words, at, to| at < to && words.depth(at) == 0),
    form("CLUSTER", &["CLUSTER"], &[]).more("every table that was clustered before"),
    form("REPACK table", &["REPACK ~ [VERBOSE]"], &[(Named, AccessExclusive)])
        .when(|words, at, to| at < to && !on(words, "CONCURRENTLY")),
    form("REPACK", &["REPACK"], &[]).more("every table, one after the other"),
    form("REINDEX TABLE CONCURRENTLY", &["REINDEX ~ [VERBOSE] TABLE"], &[(Named, ShareUpdateExclusive)])
        .when(concurrently),
    form("REINDEX TABLE", &["REINDEX ~ [VERBOSE] TABLE"], &[(Named, Share)]),
    form("REINDEX INDEX CONCURRENTLY", &["REINDEX ~ [VERBOSE] INDEX"], &[(Named, ShareUpdateExclusive)])
        .when(concurrently)
        .more("the table of the index"),
    form("REINDEX INDEX", &["REINDEX ~ [VERBOSE] INDEX"], &[(Named, AccessExclusive)]).more("the table of the index"),
    form("REINDEX SCHEMA, …", &["REINDEX ~ [VERBOSE] SCHEMA|DATABASE|SYSTEM"], &[]).more("every table in it"),
    form("REFRESH MATERIALIZED VIEW CONCURRENTLY", &["REFRESH MATERIALIZED VIEW CONCURRENTLY"], &[(Named, Exclusive)])
        .more("what its query reads"),
    form("REFRESH MATERIALIZED VIEW", &["REFRESH MATERIALIZED VIEW"], &[(Named, AccessExclusive)])
        .more("what its query reads"),
    form("COMMENT ON COLUMN", &["COMMENT ON COLUMN"], &[(Column, ShareUpdateExclusive)]),
    form(
        "COMMENT ON TABLE, …",
        &["COMMENT ON TABLE|VIEW|INDEX|SEQUENCE", "COMMENT ON MATERIALIZED VIEW", "COMMENT ON FOREIGN TABLE"],
        &[(Named, ShareUpdateExclusive)],
    ),
    form("COMMENT ON … ON table", &["COMMENT ON CONSTRAINT|TRIGGER|RULE|POLICY"], &[(On, AccessShare)])
        .when(|words, at, _| words.find(at, "ON").is_some_and(|on| !words.is(on + 1, "DOMAIN"))),
    form("COMMENT ON", &["COMMENT ON"], &[]),
    form("SECURITY LABEL", &["SECURITY LABEL"], &[]).more("what it labels"),
    form("GRANT", &["GRANT"], &[]),
    form("REVOKE", &["REVOKE"], &[]),
    form("REASSIGN OWNED", &["REASSIGN OWNED"], &[]).more("everything that the role owns"),
    form("LOAD", &["LOAD"], &[]).more("what the library's code names").loses(Loss::Yes),
    form(
        "SET, …",
        &[
            "SET",
            "RESET",
            "SHOW",
            "DISCARD",
            "DEALLOCATE",
            "LISTEN",
            "UNLISTEN",
            "NOTIFY",
            "CLOSE",
            "FETCH",
            "MOVE",
            "CHECKPOINT",
            "WAIT FOR",
        ],
        &[],
    ),
    form("BEGIN, …", CONTROL, &[]),
];

fn on(words: &Words, option: &str) -> bool {
    words.option(option).is_some() && !words.option_is_off(option)
}

fn concurrently(words: &Words, at: usize, _: usize) -> bool {
    words.is(at, "CONCURRENTLY") || on(words, "CONCURRENTLY")
}
