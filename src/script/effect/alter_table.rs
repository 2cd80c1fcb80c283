//! ALTER TABLE, and its like on foreign tables and views: what each of its actions locks.

use std::borrow::Cow;

use super::super::lexer::Kind;
use super::super::words::Words;
use super::calls;
use super::form::{Form, Loss, cascades, form};
use super::mode::LockMode::{self, AccessExclusive, AccessShare, ShareRowExclusive, ShareUpdateExclusive};
use super::names::Operand::{Named, References};
use super::names::{is_comma, passed, table};
use super::{Effect, TableLock, locks};

/// How the table itself is locked by an action, and what else the action does. The more particular comes first.
///
/// Destructive is what takes values away (a column, an identity's sequence), writes them anew (a type, an expression), takes rows
/// out of what reads them (a partition, a child), or gives them up in a crash (UNLOGGED). Of a change of type the text has only
/// the new one, so it counts unless that is text, which holds whatever was there.
pub(super) const ACTIONS: &[(LockMode, Form)] = &[
    (
        ShareRowExclusive,
        form(
            "ADD FOREIGN KEY",
            &["ADD FOREIGN KEY", "ADD CONSTRAINT * FOREIGN KEY"],
            &[(References, ShareRowExclusive)],
        ),
    ),
    (AccessExclusive, form("ADD CONSTRAINT", &["ADD CONSTRAINT", "ADD UNIQUE|PRIMARY|CHECK|EXCLUDE"], &[])),
    (
        AccessExclusive,
        form("ADD COLUMN", &["ADD [COLUMN]"], &[(References, ShareRowExclusive)]).loses(Loss::If(default_value)),
    ),
    (AccessExclusive, form("DROP CONSTRAINT", &["DROP CONSTRAINT"], &[]).more(REFERENCED).loses(Loss::ActionOnCascade)),
    (AccessExclusive, form("DROP COLUMN", &["DROP [COLUMN]"], &[]).more(REFERENCED).loses(Loss::Action)),
    (
        AccessExclusive,
        form("ALTER COLUMN … TYPE", &["ALTER [COLUMN] * TYPE", "ALTER [COLUMN] * SET DATA TYPE"], &[])
            .more("tables with a foreign key on the column")
            .loses(Loss::If(new_type)),
    ),
    (
        AccessExclusive,
        form("ALTER COLUMN … SET DEFAULT", &["ALTER [COLUMN] * SET DEFAULT", "ALTER [COLUMN] * DROP DEFAULT"], &[]),
    ),
    (AccessExclusive, form("ALTER COLUMN … SET NOT NULL", &["ALTER [COLUMN] * SET|DROP NOT NULL"], &[])),
    (
        AccessExclusive,
        form("ALTER COLUMN … SET EXPRESSION", &["ALTER [COLUMN] * SET EXPRESSION"], &[]).loses(Loss::Action),
    ),
    (AccessExclusive, form("ALTER COLUMN … DROP EXPRESSION", &["ALTER [COLUMN] * DROP EXPRESSION"], &[])),
    (AccessExclusive, form("ALTER COLUMN … ADD GENERATED", &["ALTER [COLUMN] * ADD GENERATED"], &[])),
    (
        AccessExclusive,
        form("ALTER COLUMN … DROP IDENTITY", &["ALTER [COLUMN] * DROP IDENTITY"], &[]).loses(Loss::Action),
    ),
    (ShareUpdateExclusive, form("ALTER COLUMN … SET STATISTICS", &["ALTER [COLUMN] * SET STATISTICS"], &[])),
    (AccessExclusive, form("ALTER COLUMN … SET STORAGE", &["ALTER [COLUMN] * SET STORAGE|COMPRESSION"], &[])),
    (
        ShareUpdateExclusive,
        form("ALTER COLUMN … SET (…)", &["ALTER [COLUMN] * SET|RESET"], &[])
            .when(|words, at, _| words.kind(at) == Some(Kind::OpenParen)),
    ),
    (AccessExclusive, form("ALTER COLUMN … OPTIONS", &["ALTER [COLUMN] * OPTIONS"], &[])),
    (
        AccessExclusive,
        form("ALTER COLUMN … SET GENERATED", &["ALTER [COLUMN] * SET", "ALTER [COLUMN] * RESTART"], &[])
            .loses(Loss::If(identity)),
    ),
    (
        AccessExclusive,
        form("ALTER CONSTRAINT … ENFORCED", &["ALTER CONSTRAINT * ENFORCED", "ALTER CONSTRAINT * NOT ENFORCED"], &[])
            .more(REFERENCED),
    ),
    (AccessExclusive, form("ALTER CONSTRAINT", &["ALTER CONSTRAINT"], &[])),
    (ShareUpdateExclusive, form("VALIDATE CONSTRAINT", &["VALIDATE CONSTRAINT"], &[]).more(REFERENCED)),
    (ShareRowExclusive, form("ENABLE TRIGGER", &["ENABLE|DISABLE [REPLICA|ALWAYS] TRIGGER"], &[])),
    (AccessExclusive, form("ENABLE RULE", &["ENABLE|DISABLE [REPLICA|ALWAYS] RULE"], &[])),
    (
        AccessExclusive,
        form("ENABLE ROW LEVEL SECURITY", &["ENABLE|DISABLE|FORCE ROW LEVEL", "NO FORCE ROW LEVEL"], &[]),
    ),
    (ShareUpdateExclusive, form("CLUSTER ON", &["CLUSTER ON", "SET WITHOUT CLUSTER"], &[])),
    (
        AccessExclusive,
        form("SET TABLESPACE", &["SET TABLESPACE", "SET ACCESS METHOD", "SET LOGGED", "SET WITHOUT OIDS"], &[]),
    ),
    (AccessExclusive, form("SET UNLOGGED", &["SET UNLOGGED"], &[]).loses(Loss::Action)),
    (AccessExclusive, form("SET SCHEMA", &["SET SCHEMA"], &[])),
    (
        AccessExclusive,
        form("SET (user_catalog_table)", &["SET|RESET"], &[])
            .when(|words, at, to| (at..to).any(|i| words.is(i, "user_catalog_table")) || words.starts("ALTER VIEW")),
    ),
    (
        ShareUpdateExclusive,
        form("SET (…)", &["SET|RESET"], &[]).when(|words, at, _| words.kind(at) == Some(Kind::OpenParen)),
    ),
    (AccessExclusive, form("INHERIT", &["INHERIT"], &[(Named, ShareUpdateExclusive)])),
    (AccessExclusive, form("NO INHERIT", &["NO INHERIT"], &[(Named, AccessShare)]).loses(Loss::Action)),
    (AccessExclusive, form("OF type", &["OF", "NOT OF"], &[(Named, AccessShare)])),
    (AccessExclusive, form("OWNER TO", &["OWNER TO"], &[])),
    (AccessExclusive, form("REPLICA IDENTITY", &["REPLICA IDENTITY"], &[])),
    (AccessExclusive, form("RENAME", &["RENAME"], &[])),
    (
        ShareUpdateExclusive,
        form("ATTACH PARTITION", &["ATTACH PARTITION"], &[(Named, AccessExclusive)])
            .more("the default partition, and the tables that the parent's foreign keys name"),
    ),
    (
        ShareUpdateExclusive,
        form("DETACH PARTITION … CONCURRENTLY", &["DETACH PARTITION"], &[(Named, AccessExclusive)])
            .when(|words, at, to| {
                ["CONCURRENTLY", "FINALIZE"].iter().any(|word| words.find(at, word).is_some_and(|i| i < to))
            })
            .loses(Loss::Action),
    ),
    (AccessExclusive, form("DETACH PARTITION", &["DETACH PARTITION"], &[(Named, AccessExclusive)]).loses(Loss::Action)),
    (AccessExclusive, form("MERGE PARTITIONS", &["MERGE PARTITIONS", "SPLIT PARTITION"], &[]).more("the partitions")),
    (AccessExclusive, form("OPTIONS", &["OPTIONS"], &[])),
    (AccessExclusive, form("DEPENDS ON EXTENSION", &["[NO] DEPENDS ON"], &[])),
];

const REFERENCED: &str = "the table that a foreign key names";

/// The effect of all actions; none if this is no such statement.
pub(super) fn of(words: &Words) -> Option<Effect> {
    let kinds = ["ALTER TABLE", "ALTER FOREIGN TABLE", "ALTER MATERIALIZED VIEW", "ALTER VIEW"];
    let at = kinds.iter().find_map(|kind| words.after(0, kind))?;
    if words.after(at, "ALL IN").is_some() {
        return None;
    }
    let (relation, mut at) = table(words, passed(words, at))?;
    let mut effect = Effect::default();
    while at < words.len() {
        let to = (at..words.len()).find(|&i| words.depth(i) == 0 && is_comma(words, i)).unwrap_or(words.len());
        let known = ACTIONS.iter().find_map(|(mode, form)| Some((*mode, form, form.matches(words, at, to)?)));
        match known {
            Some((mode, form, behind)) => {
                effect.forms.push(form.name);
                effect.locks.push(TableLock { relation: relation.clone(), mode });
                effect.locks.extend(locks(form, words, behind, to));
                let cascade = cascades(words, behind, to).then_some("what CASCADE reaches");
                effect.more = effect.more.or(cascade).or(form.more);
                effect.destructive = effect.destructive.or_else(|| form.destroys(words, behind, to));
            }
            None => {
                effect.locks.push(TableLock { relation: relation.clone(), mode: AccessExclusive });
                effect.destructive.get_or_insert("an action that Belay does not know".into());
            }
        }
        at = to + 1;
    }
    // Without an action it is no statement that the server would take.
    (!effect.locks.is_empty()).then_some(effect)
}

/// A default that calls a function is worked out for the rows that are there.
fn default_value(words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
    let default = words.find(at, "DEFAULT").filter(|default| *default < to)?;
    calls::unknown(words, default + 1, to).map(|called| format!("a call of {called}").into())
}

/// Text holds whatever was there. What else the new type does to the values depends on the old one.
fn new_type(words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
    let holds_all =
        words.after(at, "TEXT").or_else(|| words.after(at, "VARCHAR")).or_else(|| words.after(at, "CHARACTER VARYING"));
    let plain = holds_all.is_some_and(|behind| behind >= to || words.is(behind, "COLLATE"));
    let using = words.find(at, "USING").is_some_and(|using| using < to);
    (!plain || using).then(|| "ALTER COLUMN … TYPE".into())
}

/// The sequence of an identity is set back.
fn identity(words: &Words, at: usize, to: usize) -> Option<Cow<'static, str>> {
    (at.saturating_sub(1)..to).any(|i| words.is(i, "RESTART")).then(|| "ALTER COLUMN … RESTART".into())
}
