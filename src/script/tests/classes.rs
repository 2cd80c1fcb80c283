use super::super::outside::patterns;
use super::super::{Class, Mode, Object, Settle, UnsupportedKind};
use super::script;

fn class(text: &str) -> (Class, String) {
    let statement = script(text).statements.remove(0);
    (statement.class, statement.command)
}

#[test]
fn what_postgresql_refuses_in_a_transaction_is_known_beforehand() {
    let mut rules: Vec<_> = patterns().collect();
    for text in [
        "create index concurrently i on t(a)",
        "CREATE UNIQUE INDEX /* x */ CONCURRENTLY IF NOT EXISTS i ON t(a)",
        "drop index concurrently if exists i",
        "reindex index concurrently i",
        "reindex table concurrently t",
        "reindex (verbose, concurrently) table t",
        "reindex (concurrently true) index i",
        "reindex (concurrently on, tablespace x) index i",
        "reindex schema s",
        "reindex (verbose) database d",
        "reindex system d",
        "reindex verbose schema s",
        "reindex database",
        "vacuum",
        "vacuum full t",
        "vacuum (analyze, parallel 2) t",
        "cluster",
        "cluster verbose",
        "cluster (verbose)",
        "repack",
        "repack (concurrently) t",
        "create database d",
        "drop database if exists d",
        "alter database d set tablespace t",
        "create tablespace t location '/x'",
        "drop tablespace t",
        "alter system set work_mem = '1GB'",
        "create subscription s connection 'x' publication p",
        "create subscription s connection 'x' publication p with (create_slot = true)",
        "drop subscription s",
        "alter subscription s refresh publication",
        "alter subscription s refresh publication with (copy_data = false)",
        "alter subscription s set publication p",
        "alter subscription s add publication p with (refresh)",
        "alter subscription s set (failover = true)",
        "alter table t detach partition p concurrently",
        "alter table if exists only s.t detach partition s.p concurrently",
    ] {
        assert!(class(text).0.is_outside(), "{text}");
        let alone = script(&format!("-- a\n {text};"));
        assert_eq!((alone.unsupported, alone.mode), (None, Mode::NoTransaction), "{text}");
        rules.retain(|rule| {
            !text.to_ascii_uppercase().starts_with(rule.split(' ').next().unwrap()) || !belongs(text, rule)
        });
        for mixed in [format!("select 1;\n {text};"), format!("begin;\n {text}; commit")] {
            let unsupported = script(&mixed).unsupported.unwrap();
            assert_eq!(unsupported.kind, UnsupportedKind::Mixed, "{mixed}");
            assert_eq!(unsupported.position.to_string(), "line 2, column 2");
        }
        let marked = script(&format!("-- belay: no-transaction\nselect 1; {text};"));
        assert_eq!((marked.unsupported, marked.mode), (None, Mode::NoTransaction), "{text}");
    }
    assert!(rules.is_empty(), "no case for {rules:?}");
}

/// Whether a rule's pattern is that of a statement, as far as its plain words go.
fn belongs(text: &str, pattern: &str) -> bool {
    let words: Vec<_> = text.split(' ').map(str::to_ascii_uppercase).collect();
    pattern.split(' ').filter(|word| !word.starts_with('[')).all(|word| words.iter().any(|w| w == word))
}

#[test]
fn how_the_outcome_of_a_statement_outside_a_transaction_is_found_out_is_read_from_its_text() {
    let settle = |text: &str| match class(text).0 {
        Class::OutsideTransaction(outside) => (outside.settle, outside.patient),
        other => panic!("{text}: {other:?}"),
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (of_index, patient) =
        settle("create unique index concurrently if not exists \"I\" on only s.\"T\" using btree (a) where a > 1");
    let Settle::CreateIndex(index) = of_index else { panic!("{of_index:?}") };
    assert_eq!((index.name.as_deref(), index.table.as_str(), index.unique), (Some("\"I\""), "s.\"T\"", true));
    assert_eq!((index.rest.as_str(), patient), ("using btree (a) where a > 1", true));
    let Settle::CreateIndex(index) = settle("create index concurrently on t(a)").0 else { panic!() };
    assert_eq!((index.name, index.table.as_str(), index.rest.as_str()), (None, "t", "(a)"));
    for (text, expected, patient) in [
        ("drop index concurrently if exists a, s.b cascade", Settle::DropIndexes(names(&["a", "s.b"])), true),
        ("reindex table concurrently t", Settle::Reindex, true),
        ("reindex (concurrently) table t", Settle::Reindex, true),
        ("reindex schema s", Settle::Reindex, false),
        ("vacuum (analyze) t", Settle::Repeat, true),
        ("vacuum full t", Settle::Repeat, false),
        ("vacuum (full, verbose) t", Settle::Repeat, false),
        ("create database \"D\" template x", Settle::Create(Object::Database, "\"D\"".into()), false),
        ("drop database if exists d with (force)", Settle::Drop(Object::Database, "d".into()), false),
        ("create subscription s connection 'x' publication p", Settle::Create(Object::Subscription, "s".into()), false),
        ("alter subscription s refresh publication", Settle::Repeat, false),
        ("alter subscription s add publication p", Settle::Unknown, false),
        (
            "alter table only s.t detach partition s.p concurrently",
            Settle::Detach { table: "s.t".into(), partition: "s.p".into() },
            true,
        ),
    ] {
        assert_eq!(settle(text), (expected, patient), "{text}");
    }
}

#[test]
fn what_runs_in_a_transaction_is_not_refused() {
    for text in [
        "create index i on t(a)",
        "create index \"concurrently\" on t(a)",
        "create table concurrently (a int)",
        "drop index i",
        "reindex table t",
        "reindex (verbose) index i",
        "reindex (concurrently false) table t",
        "refresh materialized view concurrently v",
        "analyze",
        "cluster t",
        "cluster \"t\"",
        "cluster t using i",
        "cluster (verbose) t",
        "repack t",
        "alter database d set work_mem = '1GB'",
        "alter database d rename to tablespace",
        "alter table t set tablespace x",
        "create subscription s connection 'x' publication p with (connect = false)",
        "create subscription s connection 'x' publication p with (slot_name = none, create_slot = 'off')",
        "alter subscription s set publication p with (refresh = false)",
        "alter subscription s disable",
        "alter subscription s set (slot_name = none)",
        "alter table t detach partition p",
        "alter table t detach partition p finalize",
        "alter type t add value 'x'",
        "do $$ begin commit; end $$",
        "call p()",
        "prepare q as select 1",
        "set constraints all immediate",
        "set local statement_timeout = 0",
        "set role shop",
        "set transaction_timeout = 0",
        "set standard_conforming_strings = on",
        "set client_encoding = 'UTF8'",
        "set default_transaction_read_only = off",
        "set search_path to 'a', 'b'",
        "discard temp",
        "lock table t in access exclusive mode",
        "copy t from '/x'",
        "select 'commit'",
        "insert into t values ('vacuum')",
        "with x as (select 1) insert into t select * from x",
    ] {
        assert_eq!(script(text).unsupported, None, "{text}");
        assert_eq!(class(text).0, Class::InTransaction, "{text}");
    }
}

#[test]
fn transaction_control_is_refused_wherever_it_stands() {
    for text in [
        "begin",
        "begin work",
        "start transaction",
        "commit",
        "commit and chain",
        "end",
        "rollback",
        "abort",
        "savepoint a",
        "release a",
        "release savepoint a",
        "rollback to a",
        "rollback to savepoint a",
        "prepare transaction 'x'",
        "commit prepared 'x'",
        "rollback prepared 'x'",
        "set transaction isolation level serializable",
        "set local transaction read only",
        "set session characteristics as transaction read only",
        "discard all",
        "begin /* a */ isolation level serializable",
    ] {
        for text in [
            format!("{text};"),
            format!("select 1; {text}; select 2"),
            format!("begin; select 1; {text}; select 2; commit"),
        ] {
            let unsupported = script(&text).unsupported.unwrap_or_else(|| panic!("{text}"));
            assert_eq!(unsupported.kind, UnsupportedKind::TransactionControl, "{text}");
        }
    }
}

#[test]
fn settings_that_belay_stands_on_are_refused() {
    for text in [
        "set standard_conforming_strings = off",
        "set session standard_conforming_strings to 'off'",
        "set local \"Standard_Conforming_Strings\" = off",
        "set client_encoding to latin1",
        "set local belay.attempt = 'x'",
        "set names 'latin1'",
        "set default_transaction_read_only = on",
        "set local transaction_read_only = on",
        "set Transaction_Isolation = 'serializable'",
    ] {
        assert_eq!(script(text).unsupported.map(|u| u.kind), Some(UnsupportedKind::Setting), "{text}");
    }
}

#[test]
fn data_to_the_client_is_refused() {
    for text in ["copy t to stdout", "copy t to stdin", "copy (select 1) to STDOUT with (format csv)"] {
        assert_eq!(script(text).unsupported.map(|u| u.kind), Some(UnsupportedKind::CopyData), "{text}");
    }
    let long = format!("copy (values (0){}) to stdout", ", (1, 2)".repeat(3000));
    assert_eq!(script(&long).unsupported.map(|u| u.kind), Some(UnsupportedKind::CopyData));
}

#[test]
fn commands_are_called_as_people_call_them() {
    for (text, command) in [
        ("alter table t add column a int", "ALTER TABLE"),
        ("create unique index concurrently i on t(a)", "CREATE INDEX CONCURRENTLY"),
        ("create or replace function f() returns int as '' language sql", "CREATE FUNCTION"),
        ("create unlogged table t()", "CREATE TABLE"),
        ("create temp view v as select 1", "CREATE VIEW"),
        ("create materialized view v as select 1", "CREATE MATERIALIZED VIEW"),
        ("create constraint trigger t", "CREATE TRIGGER"),
        ("create default conversion c", "CREATE CONVERSION"),
        ("alter default privileges grant select on tables to a", "ALTER DEFAULT PRIVILEGES"),
        ("create trusted procedural language l", "CREATE LANGUAGE"),
        ("drop text search configuration c", "DROP TEXT SEARCH CONFIGURATION"),
        ("create tablespace t", "CREATE TABLESPACE"),
        ("create user mapping for x", "CREATE USER MAPPING"),
        ("insert into t values (1)", "INSERT"),
        ("(select 1)", "SELECT"),
        ("with a as (select 1) update t set x = 1", "UPDATE"),
        ("with recursive a as (select 1) select 2", "SELECT"),
        ("refresh materialized view v", "REFRESH MATERIALIZED VIEW"),
        ("truncate table t", "TRUNCATE"),
        ("lock t", "LOCK"),
        ("set x = 1", "SET"),
        ("crate table t", "CRATE"),
        ("'x'", "SQL"),
        ("(", "SQL"),
    ] {
        assert_eq!(class(text).1, command, "{text}");
    }
}
