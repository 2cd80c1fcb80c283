//! Statements that change what is there; those on tables are in [`super::alter_table`].

use std::borrow::Cow;

use super::super::words::Words;
use super::form::{Form, Loss, form};
use super::mode::LockMode::{AccessExclusive, AccessShare, ShareRowExclusive, ShareUpdateExclusive};
use super::names::Operand::{Named, On, OwnedBy, Table};

/// A name, an owner, a privilege, a setting: the data stays what it was. A sequence that is set back does not, and neither
/// do the values of an attribute that is dropped or changes its type.
pub(super) const FORMS: &[Form] = &[
    form("ALTER … ALL IN TABLESPACE", &["ALTER TABLE|INDEX ALL", "ALTER MATERIALIZED VIEW ALL"], &[])
        .more("everything in the tablespace"),
    form("ALTER INDEX … RENAME", &["ALTER INDEX"], &[(Named, ShareUpdateExclusive)])
        .when(|words, at, _| words.find(at, "RENAME").is_some()),
    form("ALTER INDEX … ATTACH PARTITION", &["ALTER INDEX"], &[(Named, ShareUpdateExclusive)])
        .when(|words, at, _| words.find(at, "ATTACH").is_some())
        .more("the index that is attached, and its table"),
    form("ALTER INDEX … SET TABLESPACE", &["ALTER INDEX"], &[(Named, AccessExclusive)])
        .when(|words, at, to| (at..to).any(|i| words.after(i, "SET TABLESPACE").is_some())),
    form("ALTER INDEX … DEPENDS ON EXTENSION", &["ALTER INDEX"], &[(Named, AccessExclusive)])
        .when(|words, at, _| words.find(at, "DEPENDS").is_some()),
    form("ALTER INDEX … SET (…)", &["ALTER INDEX"], &[(Named, ShareUpdateExclusive)]),
    form("ALTER SEQUENCE … RENAME, …", &["ALTER SEQUENCE"], &[(Named, AccessExclusive)]).when(|words, at, to| {
        let part = ["RENAME", "OWNER TO", "SET SCHEMA", "SET LOGGED|UNLOGGED"];
        (at..to).any(|i| part.iter().any(|part| words.after(i, part).is_some()))
    }),
    form("ALTER SEQUENCE", &["ALTER SEQUENCE"], &[(Named, ShareRowExclusive), (OwnedBy, AccessShare)])
        .loses(Loss::If(restarted)),
    form("ALTER TYPE … ATTRIBUTE", &["ALTER TYPE"], &[(Named, AccessExclusive)])
        .when(|words, at, _| words.find(at, "ATTRIBUTE").is_some())
        .more("the tables of the type")
        .loses(Loss::If(attribute)),
    form("ALTER TYPE", &["ALTER TYPE"], &[]).more("the type's own entry"),
    form("ALTER DOMAIN", &["ALTER DOMAIN"], &[]).more("the tables with columns of the domain").loses(Loss::OnCascade),
    form("ALTER TRIGGER", &["ALTER TRIGGER"], &[(On, AccessExclusive)]),
    form("ALTER RULE", &["ALTER RULE"], &[(On, AccessExclusive)]),
    form("ALTER POLICY", &["ALTER POLICY"], &[(On, AccessExclusive)]).query(),
    form("ALTER PUBLICATION", &["ALTER PUBLICATION"], &[(Table, ShareUpdateExclusive)]),
    form("ALTER EXTENSION … UPDATE", &["ALTER EXTENSION"], &[])
        .when(|words, at, _| words.find(at, "UPDATE").is_some())
        .more("what the extension's script names")
        .loses(Loss::Action),
    form("ALTER EXTENSION", &["ALTER EXTENSION"], &[]).more("the extension's members"),
    form(
        "ALTER FUNCTION, …",
        &[
            "ALTER FUNCTION|PROCEDURE|ROUTINE|AGGREGATE|OPERATOR|COLLATION|CONVERSION|TEXT|EVENT|STATISTICS|SCHEMA|SERVER",
            "ALTER ROLE|USER|GROUP|DATABASE|TABLESPACE|SYSTEM|SUBSCRIPTION|LARGE",
            "ALTER [PROCEDURAL] LANGUAGE",
            "ALTER FOREIGN DATA WRAPPER",
            "ALTER DEFAULT PRIVILEGES",
        ],
        &[],
    ),
];

fn restarted(words: &Words, at: usize, _: usize) -> Option<Cow<'static, str>> {
    words.find(at, "RESTART").map(|_| "ALTER SEQUENCE … RESTART".into())
}

fn attribute(words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
    let is = |pattern: &str| (at..to).any(|i| words.after(i, pattern).is_some());
    if is("DROP ATTRIBUTE") {
        return Some("ALTER TYPE … DROP ATTRIBUTE".into());
    }
    is("ALTER ATTRIBUTE").then(|| "ALTER TYPE … ALTER ATTRIBUTE".into())
}
