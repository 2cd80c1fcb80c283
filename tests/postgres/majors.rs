//! What rules rest on, on every major version that Belay supports.

use belay::api::Reason;
use belay::script::UnsupportedKind;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::apply::{exists, history};
use super::corpus::corpus;
use super::reading::answers;
use super::scripts::{apply, claimed};
use crate::support::invariants;
use crate::support::postgres::{MAJORS, Postgres, TestDatabase};

/// A fresh database on each major version, one after the other; its owner is a superuser where that is asked for.
async fn on_each(superuser: bool, promise: impl AsyncFn(u32, &TestDatabase)) {
    for major in MAJORS {
        let server = Postgres::shared_major(major);
        let database = if superuser { server.superuser_database().await } else { server.database().await };
        promise(major, &database).await;
    }
}

/// The SQLSTATE of what a message came to.
fn state(answer: Result<usize, sqlx::Error>) -> String {
    match answer {
        Ok(_) => "00000".to_owned(),
        Err(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
        Err(error) => panic!("{error}"),
    }
}

/// What a statement comes to in a transaction, which is then rolled back.
async fn in_transaction(connection: &mut PgConnection, statement: &str) -> String {
    answers(connection, "BEGIN").await.unwrap();
    let state = state(answers(connection, statement).await);
    answers(connection, "ROLLBACK").await.unwrap();
    state
}

#[tokio::test]
async fn a_script_whose_transaction_timeout_ends_its_session_is_told_so_and_not_tried_for_long() {
    on_each(false, async |major, database| {
        if major < 17 {
            return;
        }
        let mut engine = claimed(database.engine().await).await;
        let text = "-- belay: no-transaction\nSET transaction_timeout = '200ms';\nSELECT pg_sleep(600);";
        let error = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ScriptFailed, "{major}: {error}");
        assert!(error.to_string().starts_with("001_a.sql: ") && error.to_string().contains("25P04"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_database_is_migrated_fails_and_goes_on() {
    on_each(false, async |major, database| {
        let mut engine = claimed(database.engine().await).await;
        let version = &engine.identity().server_version;
        assert!(version.starts_with(&format!("{major}.")), "{version} is no {major}");
        assert!(engine.identity().system_identifier.is_some(), "{major}: pg_control_system() is not readable");
        apply(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int PRIMARY KEY)")]).await.unwrap();
        let bad = [("002_b.sql", "CREATE TABLE b (id int);\nINSERT INTO a VALUES (1), (1);")];
        let error = apply(&mut engine, &bad).await.unwrap_err();
        let failure = error.failure();
        assert_eq!(
            (error.reason(), failure.line, failure.sql_state.as_deref()),
            (Reason::ScriptFailed, Some(2), Some("23505"))
        );
        assert_eq!(history(database).await, "001", "{major}");
        assert!(!exists(database, "b").await, "{major}");
        let good = [("002_b.sql", "CREATE TABLE b (id int)"), ("003_c.sql", "RESET ALL; CREATE TEMP TABLE c (id int)")];
        apply(&mut engine, &good).await.unwrap();
        assert_eq!(history(database).await, "001 002 003", "{major}");
        let ledger = engine.ledger().await.unwrap();
        assert_eq!(format!("{:?}", ledger).matches("checksum").count(), 3, "{major}: {ledger:?}");
    })
    .await;
}

#[tokio::test]
async fn every_hard_script_is_applied() {
    on_each(true, async |major, database| {
        let mut engine = claimed(database.engine().await).await;
        let scripts = corpus("runs");
        for (n, (name, bytes)) in scripts.iter().enumerate() {
            let file = format!("{}_script.sql", n + 1);
            let text = std::str::from_utf8(bytes).unwrap();
            let applied = apply(&mut engine, &[(&file, text)]).await;
            applied.unwrap_or_else(|error| panic!("{major}, {name}: {error}"));
        }
        let rows = database.value("SELECT count(*)::text FROM belay.history").await;
        assert_eq!(rows, Some(scripts.len().to_string()), "{major}");
    })
    .await;
}

#[tokio::test]
async fn a_dump_as_pg_dump_17_writes_it_is_applied_from_17_on() {
    let (_, dump) = corpus("runs").into_iter().find(|(name, _)| name == "pg_dump.sql").expect("it is there");
    let dump = String::from_utf8(dump).unwrap();
    let idle = "SET idle_in_transaction_session_timeout = 0;";
    let text = dump.replace(idle, &format!("{idle}\nSET transaction_timeout = 0;"));
    assert!(text.contains("transaction_timeout = 0;\n") && text.contains("\n\\restrict ") && text.len() > dump.len());
    on_each(false, async |major, database| {
        let mut engine = claimed(database.engine().await).await;
        match apply(&mut engine, &[("001_dump.sql", &text)]).await {
            Ok(()) => assert!(major >= 17 && exists(database, "dumped.orders").await, "{major}"),
            Err(error) => assert!(major < 17 && error.failure().line == Some(14), "{major}: {error}"),
        }
    })
    .await;
}

/// Everything that statements below speak of.
const SETUP: &str = "CREATE TABLE t (id int); CREATE INDEX i ON t (id); CREATE TABLE p (id int) PARTITION BY RANGE (id); \
     CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (9) TO (99); \
     CREATE INDEX pi ON p (id); CREATE TYPE mood AS ENUM ('ok'); \
     CREATE MATERIALIZED VIEW v AS SELECT 1 AS id; CREATE UNIQUE INDEX vi ON v (id); CREATE PUBLICATION pub FOR TABLE t; \
     CREATE SUBSCRIPTION off CONNECTION 'host=127.0.0.1 port=1' PUBLICATION pub WITH (connect = false, slot_name = NONE); \
     CREATE SUBSCRIPTION disabled CONNECTION 'host=127.0.0.1 port=1' PUBLICATION pub WITH (connect = false, slot_name = 'y'); \
     CREATE SUBSCRIPTION enabled CONNECTION 'host=127.0.0.1 port=1' PUBLICATION pub WITH (connect = false, slot_name = 'x'); \
     ALTER SUBSCRIPTION enabled ENABLE; CREATE PROCEDURE hidden() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'";

/// Statements that PostgreSQL refuses in a transaction, and the first major version that has them.
const OUTSIDE: &[(u32, &str)] = &[
    (14, "CREATE INDEX CONCURRENTLY j ON t (id)"),
    (14, "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS j ON t (id)"),
    (14, "DROP INDEX CONCURRENTLY i"),
    (14, "REINDEX INDEX CONCURRENTLY i"),
    (14, "REINDEX TABLE CONCURRENTLY t"),
    (14, "REINDEX (VERBOSE, CONCURRENTLY) TABLE t"),
    (14, "REINDEX SCHEMA public"),
    (14, "REINDEX DATABASE dbname"),
    (14, "REINDEX SYSTEM dbname"),
    (16, "REINDEX DATABASE"),
    (14, "VACUUM"),
    (14, "VACUUM (ANALYZE) t"),
    (14, "VACUUM FULL t"),
    (14, "CLUSTER"),
    (14, "CLUSTER VERBOSE"),
    (14, "CREATE DATABASE other"),
    (14, "DROP DATABASE IF EXISTS other"),
    (14, "ALTER DATABASE dbname SET TABLESPACE pg_default"),
    (14, "CREATE TABLESPACE other LOCATION '/nonexistent'"),
    (14, "DROP TABLESPACE other"),
    (14, "ALTER SYSTEM SET work_mem = '8MB'"),
    (14, "CREATE SUBSCRIPTION new CONNECTION 'host=127.0.0.1 port=1' PUBLICATION pub"),
    (14, "DROP SUBSCRIPTION enabled"),
    (14, "ALTER SUBSCRIPTION enabled REFRESH PUBLICATION"),
    (14, "ALTER SUBSCRIPTION enabled SET PUBLICATION pub"),
    (14, "ALTER SUBSCRIPTION enabled ADD PUBLICATION more"),
    (17, "ALTER SUBSCRIPTION disabled SET (failover = true)"),
    (18, "ALTER SUBSCRIPTION disabled SET (two_phase = false)"),
    (14, "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY"),
];

/// Statements that look like those and are taken in a transaction.
const INSIDE: &[(u32, &str)] = &[
    (14, "CREATE INDEX \"concurrently\" ON t (id)"),
    (14, "CREATE INDEX j ON t (id)"),
    (14, "DROP INDEX i"),
    (14, "REINDEX (VERBOSE) TABLE t"),
    (14, "REINDEX (CONCURRENTLY false) INDEX i"),
    (14, "ANALYZE"),
    (14, "CLUSTER t USING i"),
    (14, "CLUSTER (VERBOSE) t USING i"),
    (14, "ALTER DATABASE dbname SET work_mem = '8MB'"),
    (14, "CREATE SUBSCRIPTION new CONNECTION 'host=127.0.0.1 port=1' PUBLICATION pub WITH (connect = false)"),
    (14, "ALTER SUBSCRIPTION enabled SET PUBLICATION pub WITH (refresh = false)"),
    (14, "ALTER SUBSCRIPTION off SET (slot_name = NONE)"),
    (14, "ALTER SUBSCRIPTION enabled DISABLE"),
    (14, "ALTER TABLE p DETACH PARTITION p1"),
    (14, "ALTER TYPE mood ADD VALUE 'sad'"),
    (14, "REFRESH MATERIALIZED VIEW CONCURRENTLY v"),
    (14, "DISCARD TEMP"),
    (14, "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"),
    (14, "SET CONSTRAINTS ALL IMMEDIATE"),
    (14, "ALTER TABLE t SET TABLESPACE pg_default"),
];

#[tokio::test]
async fn what_the_server_refuses_in_a_transaction_is_classed_so_and_nothing_else_is() {
    on_each(true, async |major, database| {
        let mut connection = database.superuser().await;
        answers(&mut connection, SETUP).await.unwrap_or_else(|error| panic!("{major}: {error}"));
        let all = OUTSIDE.iter().map(|row| (row, true)).chain(INSIDE.iter().map(|row| (row, false)));
        for ((since, statement), outside) in all {
            let statement = statement.replace("dbname", &database.name);
            let script = invariants::read(statement.clone().into_bytes()).expect("a script");
            let class = &script.statements[0].class;
            assert_eq!(class.is_outside(), outside, "{statement}");
            if major >= *since {
                let expected = if outside { "25001" } else { "00000" };
                assert_eq!(in_transaction(&mut connection, &statement).await, expected, "{major}: {statement}");
            }
        }
        answers(&mut connection, "ALTER SUBSCRIPTION enabled DISABLE").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_the_text_does_not_tell_the_server_refuses_by_itself() {
    on_each(true, async |major, database| {
        let mut connection = database.superuser().await;
        answers(&mut connection, &SETUP.replace("ALTER SUBSCRIPTION enabled ENABLE; ", "")).await.unwrap();
        for (since, statement, expected) in [
            (14, "CALL hidden()", "2D000"),
            (14, "DO $$ BEGIN COMMIT; END $$", "2D000"),
            (14, "DO $$ BEGIN EXECUTE 'COMMIT'; END $$", "0A000"),
            (14, "DO $$ BEGIN EXECUTE 'CREATE INDEX CONCURRENTLY j ON t (id)'; END $$", "25001"),
            (14, "REINDEX TABLE p", "25001"),
            (14, "REINDEX INDEX pi", "25001"),
            (15, "CLUSTER p USING pi", "25001"),
            (14, "DISCARD ALL", "25001"),
            (14, "COMMIT PREPARED 'x'", "25001"),
            (14, "ROLLBACK PREPARED 'x'", "25001"),
            (14, "ALTER TYPE mood ADD VALUE 'sad'; SELECT 'sad'::mood", "55P04"),
        ] {
            if major >= since {
                assert_eq!(in_transaction(&mut connection, statement).await, expected, "{major}: {statement}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_commit_of_an_aborted_transaction_is_no_error_and_commits_nothing() {
    on_each(false, async |major, database| {
        let mut connection = database.superuser().await;
        answers(&mut connection, "BEGIN; CREATE TABLE a (id int)").await.unwrap();
        assert_eq!(state(answers(&mut connection, "SELECT 1/0").await), "22012");
        assert_eq!(state(answers(&mut connection, "COMMIT").await), "00000", "{major}");
        assert!(!exists(database, "a").await, "{major}");
    })
    .await;
}

#[tokio::test]
async fn a_set_outlives_its_transaction_and_a_set_local_before_it() {
    on_each(false, async |major, database| {
        let mut connection = database.superuser().await;
        let script = "BEGIN; SET LOCAL lock_timeout = '1s'; SET lock_timeout = 0; COMMIT";
        answers(&mut connection, script).await.unwrap();
        let shown: String = sqlx::query_scalar("SHOW lock_timeout").fetch_one(&mut connection).await.unwrap();
        assert_eq!(shown, "0", "{major}");
    })
    .await;
}

#[tokio::test]
async fn statements_that_travel_together_are_one_transaction() {
    on_each(false, async |major, database| {
        let mut connection = database.superuser().await;
        let message = "CREATE TABLE a (id int); CREATE INDEX CONCURRENTLY i ON a (id)";
        assert_eq!(state(answers(&mut connection, message).await), "25001", "{major}");
        assert!(!exists(database, "a").await, "{major}");
    })
    .await;
}

#[tokio::test]
async fn an_index_that_could_not_be_built_stays_and_if_not_exists_is_content_with_it() {
    on_each(false, async |major, database| {
        let mut connection = database.superuser().await;
        answers(&mut connection, "CREATE TABLE a (id int); INSERT INTO a VALUES (1), (1)").await.unwrap();
        let build = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON a (id)";
        assert_eq!(state(answers(&mut connection, build).await), "23505", "{major}");
        assert_eq!(state(answers(&mut connection, build).await), "00000", "{major}");
        let valid = database.value("SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'i'::regclass").await;
        assert_eq!(valid.as_deref(), Some("false"), "{major}");
    })
    .await;
}

#[tokio::test]
async fn the_lock_is_seen_in_pg_locks_and_startup_options_are_taken() {
    on_each(false, async |major, database| {
        let mut engine = claimed(database.engine().await).await;
        assert!(engine.confirm_lock().await.unwrap(), "{major}");
        let mut second = database.engine().await;
        assert!(!second.try_lock().await.unwrap(), "{major}");
        let holder = second.lock_holder().await.unwrap().expect("somebody holds it");
        assert_eq!((holder.user, holder.application), (database.role.clone(), "belay/test".to_owned()), "{major}");
        let check = "DO $$ BEGIN ASSERT current_setting('client_connection_check_interval') = '500ms'; END $$";
        apply(&mut engine, &[("001_a.sql", check)]).await.unwrap();
        let unlock = [("002_b.sql", "CREATE TABLE b (id int); SELECT pg_advisory_unlock_all()")];
        assert_eq!(apply(&mut engine, &unlock).await.unwrap_err().reason(), Reason::LockLost, "{major}");
        assert!(!exists(database, "b").await, "{major}");
    })
    .await;
}

#[tokio::test]
async fn timeouts_of_the_database_that_would_end_a_long_script_do_not() {
    on_each(false, async |major, database| {
        let timeouts = ["statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"];
        let since_17 = (major >= 17).then_some("transaction_timeout");
        for timeout in timeouts.into_iter().chain(since_17) {
            database.admin(&format!("ALTER DATABASE {} SET {timeout} = '300ms'", database.name)).await;
        }
        let mut engine = claimed(database.engine().await).await;
        let files = [("001_a.sql", "SELECT pg_sleep(0.6); CREATE TABLE a (id int)"), ("002_b.sql", "SELECT 1")];
        apply(&mut engine, &files).await.unwrap_or_else(|error| panic!("{major}: {error}"));
        assert_eq!(history(database).await, "001 002", "{major}");
    })
    .await;
}

#[tokio::test]
async fn a_word_behind_a_number_begins_no_string_and_14_runs_what_later_ones_refuse() {
    let text = "SELECT 1e$$; COMMIT; SELECT 1e$$";
    let unsupported = invariants::read(text.into()).unwrap().unsupported.clone().expect("it is refused");
    assert_eq!(unsupported.kind, UnsupportedKind::TransactionControl);
    on_each(false, async |major, database| {
        let mut connection = database.superuser().await;
        let message = format!("BEGIN; CREATE TABLE a (id int); {text}");
        let expected = if major == 14 { "00000" } else { "42601" };
        assert_eq!(state(answers(&mut connection, &message).await), expected, "{major}");
        connection.close().await.unwrap();
        assert_eq!(exists(database, "a").await, major == 14, "{major}");
    })
    .await;
}

#[tokio::test]
async fn end_behind_a_label_without_as_commits() {
    on_each(false, async |major, database| {
        let mut connection = database.superuser().await;
        let message = "BEGIN; CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 case; END; END; SELECT nothing";
        assert_eq!(state(answers(&mut connection, message).await), "42703", "{major}");
        let there = database.value("SELECT proname::text FROM pg_proc WHERE proname = 'f'").await;
        assert_eq!(there.as_deref(), Some("f"), "{major}");
    })
    .await;
}
