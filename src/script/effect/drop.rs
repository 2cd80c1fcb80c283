//! Statements that take something away.

use super::form::{Form, Loss, form};
use super::mode::LockMode::{AccessExclusive, ShareUpdateExclusive};
use super::names::Operand::{Named, On};

/// What holds data, or is what data is made of, is destructive to drop. What holds none, such as a view or an index, is not:
/// without CASCADE the server refuses it while anything needs it. With CASCADE everything is.
pub(super) const FORMS: &[Form] = &[
    form("DROP TABLE", &["DROP TABLE"], &[(Named, AccessExclusive)])
        .more("the tables that its foreign keys name")
        .loses(Loss::Yes),
    form("DROP FOREIGN TABLE", &["DROP FOREIGN TABLE"], &[(Named, AccessExclusive)]).loses(Loss::OnCascade),
    form("DROP VIEW", &["DROP VIEW"], &[(Named, AccessExclusive)]).loses(Loss::OnCascade),
    form("DROP MATERIALIZED VIEW", &["DROP MATERIALIZED VIEW"], &[(Named, AccessExclusive)]).loses(Loss::Yes),
    form("DROP SEQUENCE", &["DROP SEQUENCE"], &[(Named, AccessExclusive)]).loses(Loss::Yes),
    form("DROP INDEX CONCURRENTLY", &["DROP INDEX CONCURRENTLY"], &[(Named, ShareUpdateExclusive)])
        .more("the table of the index")
        .loses(Loss::OnCascade),
    form("DROP INDEX", &["DROP INDEX"], &[(Named, AccessExclusive)])
        .more("the table of the index")
        .loses(Loss::OnCascade),
    form("DROP TRIGGER", &["DROP TRIGGER"], &[(On, AccessExclusive)]).loses(Loss::OnCascade),
    form("DROP RULE", &["DROP RULE"], &[(On, AccessExclusive)]).loses(Loss::OnCascade),
    form("DROP POLICY", &["DROP POLICY"], &[(On, AccessExclusive)]).loses(Loss::OnCascade),
    form("DROP STATISTICS", &["DROP STATISTICS"], &[]).more("the table of the statistics"),
    // A composite type has an entry among the relations.
    form("DROP TYPE", &["DROP TYPE|DOMAIN"], &[]).more("the type's own entry").loses(Loss::Yes),
    form("DROP SCHEMA", &["DROP SCHEMA"], &[]).more(ALL).loses(Loss::Yes),
    form("DROP OWNED", &["DROP OWNED"], &[]).more(ALL).loses(Loss::Yes),
    form("DROP EXTENSION", &["DROP EXTENSION"], &[]).more(ALL).loses(Loss::Yes),
    form("DROP DATABASE", &["DROP DATABASE"], &[]).loses(Loss::Yes),
    form("DROP SUBSCRIPTION", &["DROP SUBSCRIPTION"], &[]).loses(Loss::Yes),
    // Passwords and settings.
    form("DROP ROLE, …", &["DROP ROLE|USER|GROUP|SERVER|TABLESPACE", "DROP FOREIGN DATA WRAPPER"], &[])
        .loses(Loss::Yes),
    form("DROP FUNCTION, …", &["DROP FUNCTION|PROCEDURE|ROUTINE|AGGREGATE|OPERATOR|CAST|COLLATION|CONVERSION"], &[])
        .loses(Loss::OnCascade),
    form("DROP PUBLICATION", &["DROP PUBLICATION"], &[]),
    form("DROP LANGUAGE, …", &["DROP [PROCEDURAL] LANGUAGE|TRANSFORM|TEXT|EVENT|ACCESS"], &[]).loses(Loss::OnCascade),
];

const ALL: &str = "everything in it";
