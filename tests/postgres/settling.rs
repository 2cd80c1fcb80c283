//! What is settled or put away is waited for like a statement of the script: watched, within bounds, and until somebody
//! cancels it.

use std::sync::Mutex;
use std::time::Duration;

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Locks, Progress};
use tokio_util::sync::CancellationToken;

use super::apply::{exists, history};
use super::outside::{engine, indexes, kill, statements, waits, with_table};
use super::scripts::{apply, claimed, run, scripts};
use super::settled::{lose, with};
use crate::support::postgres::TestDatabase;
use crate::support::{SOON, eventually};

const PARTITIONED: &str =
    "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE p PARTITION OF t FOR VALUES IN (1);";

const BUILD: [(&str, &str); 1] = [("001_i.sql", "CREATE INDEX CONCURRENTLY i ON t (a)")];

#[tokio::test]
async fn readers_of_a_partition_get_through_while_it_is_detached_and_while_that_is_finalized() {
    detach(async |_| {}).await;
}

#[tokio::test]
async fn readers_of_a_partition_get_through_also_where_there_is_no_room_for_a_second_connection() {
    detach(async |database| database.admin(&format!("ALTER ROLE {} CONNECTION LIMIT 1", database.role)).await).await;
}

async fn detach(prepare: impl AsyncFnOnce(&TestDatabase)) {
    let database = with(PARTITIONED).await;
    prepare(&database).await;
    let mut engine = engine(&database).await;
    let (mut reader, mut other) = (database.superuser().await, database.superuser().await);
    sqlx::raw_sql("BEGIN; SELECT 1 FROM p").execute(&mut reader).await.unwrap();
    let read = async {
        for statement in ["%CONCURRENTLY", "%FINALIZE"] {
            let waits = format!(
                "SELECT 'yes' FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND \
                 l.mode = 'AccessExclusiveLock' AND l.relation = 'p'::regclass AND a.query LIKE '{statement}'"
            );
            eventually(statement, SOON, async || database.value(&waits).await).await;
            let read = sqlx::raw_sql("SELECT 1 FROM p").execute(&mut other);
            tokio::time::timeout(SOON, read).await.expect("it gets through").unwrap();
        }
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    };
    let files = [("001_p.sql", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY")];
    tokio::join!(apply(&mut engine, &files), read).0.unwrap();
    assert_eq!(history(&database).await, "001");
    assert!(database.value("SELECT 'yes' FROM pg_inherits WHERE inhparent = 't'::regclass").await.is_none());
}

#[tokio::test]
async fn readers_of_a_partition_get_through_while_the_end_of_its_detach_waits_for_old_snapshots() {
    let database = with(PARTITIONED).await;
    let mut engine = engine(&database).await;
    let (mut user, mut old, mut other) =
        (database.superuser().await, database.superuser().await, database.superuser().await);
    sqlx::raw_sql("BEGIN; LOCK TABLE ONLY t IN ACCESS SHARE MODE").execute(&mut user).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").execute(&mut old).await.unwrap();
    let read = async {
        waits(&database, "wait_event = 'virtualxid'").await;
        kill(&database).await;
        let holds = "SELECT 'yes' FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE a.query LIKE '%FINALIZE' AND \
                     a.wait_event = 'virtualxid' AND l.granted AND l.mode = 'AccessExclusiveLock' AND l.relation = 'p'::regclass";
        eventually("it holds the partition, and waits", SOON, async || database.value(holds).await).await;
        let read = sqlx::raw_sql("SELECT 1 FROM p").execute(&mut other);
        tokio::time::timeout(SOON, read).await.expect("it gets through").unwrap();
        for holder in [&mut user, &mut old] {
            sqlx::raw_sql("COMMIT").execute(holder).await.unwrap();
        }
    };
    let files = [("001_p.sql", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY")];
    tokio::join!(apply(&mut engine, &files), read).0.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn what_is_settled_waits_watched_and_stops_when_it_is_cancelled() {
    let database = with_table().await;
    lose(&database, &BUILD, "LOCK TABLE t IN ROW EXCLUSIVE MODE").await;
    assert_eq!(indexes(&database).await, "i!");
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();

    let cancel = CancellationToken::new();
    let seen = Mutex::new(Vec::new());
    let tell = |at: Progress<'_>| {
        if let Some(blocker) = at.waiting_on.first() {
            seen.lock().unwrap().push((at.statement, blocker.relations.clone()));
            cancel.cancel();
        }
    };
    let mut engine = engine(&database).await;
    let (scripts, run) = (scripts(&BUILD), run());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &cancel);
    let error = tokio::time::timeout(SOON, applied).await.expect("it stops").unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
    assert!(error.to_string().contains("this statement was begun: run once more as it is"), "{error}");
    assert_eq!(seen.into_inner().unwrap()[0].0, 1);
    assert_eq!(statements(&database).await, "1?");

    sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    apply(&mut engine, &BUILD).await.unwrap();
    assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), ("i", "001"));
}

#[tokio::test]
async fn what_is_put_away_waits_for_its_locks_as_long_as_the_statement_itself() {
    let database = with_table().await;
    lose(&database, &BUILD, "LOCK TABLE t IN ROW EXCLUSIVE MODE").await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let mut engine = engine(&database).await;
    let release = async {
        // Longer than any try of what locks others out.
        let waits = "SELECT query_start::text FROM pg_stat_activity WHERE datname = current_database() AND \
                     wait_event_type = 'Lock' AND query LIKE '%LOCK TABLE%' AND query_start < clock_timestamp() - interval '4 s'";
        eventually("it waits", SOON, async || database.value(waits).await).await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    tokio::join!(apply(&mut engine, &BUILD), release).0.unwrap();
    assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), ("i", "001"));
}

#[tokio::test]
async fn what_is_never_to_be_settled_for_locks_fails_with_its_place_and_is_settled_by_the_next_run() {
    let database = with_table().await;
    lose(&database, &BUILD, "LOCK TABLE t IN ROW EXCLUSIVE MODE").await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let mut target = database.target();
    target.locks = Locks { retry_for: Duration::from_secs(1), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let error = apply(&mut engine, &BUILD).await.unwrap_err();
    assert_eq!(error.reason(), Reason::LockTimeout, "{error}");
    let failure = error.failure();
    assert_eq!((failure.line, failure.statement, failure.sql_state.as_deref()), (Some(1), Some(1), Some("55P03")));
    assert!(failure.message.contains("this statement was begun"), "{failure:?}");
    sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    apply(&mut engine, &BUILD).await.unwrap();
    assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), ("i", "001"));
}

#[tokio::test]
async fn a_drop_that_was_cut_short_is_said_to_be_begun_and_the_next_run_ends_it() {
    let database = with_table().await;
    database.admin("CREATE INDEX i ON t (a)").await;
    let mut engine = engine(&database).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let files = [("001_i.sql", "DROP INDEX CONCURRENTLY i")];
    let (scripts, run, cancel) = (scripts(&files), run(), CancellationToken::new());
    let stop = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        cancel.cancel();
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let error = tokio::join!(applied, stop).0.unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
    assert!(error.to_string().contains("Of 001, this statement was begun"), "{error}");
    assert_eq!((indexes(&database).await.as_str(), statements(&database).await.as_str()), ("i!", "1?"));
    sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    apply(&mut engine, &files).await.unwrap();
    assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), ("", "001"));
}

#[tokio::test]
async fn a_cancel_hangs_up_where_there_is_no_room_for_a_second_connection() {
    for (text, left) in [
        ("CREATE TABLE a (id int); SELECT pg_sleep(600)", "Nothing of 001 is applied."),
        ("CREATE INDEX CONCURRENTLY i ON t ((slow(a)))", "Of 001, this statement was begun"),
        // What is in a transaction is rolled back.
        (
            "-- belay: no-transaction\nSELECT 1;\nSELECT pg_sleep(600);",
            "before this one are applied, and are not run again.",
        ),
    ] {
        let database = with_table().await;
        let slow = "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
                    $$ BEGIN PERFORM pg_sleep(600); RETURN 1; END $$";
        database.admin(slow).await;
        database.admin(&format!("ALTER ROLE {} CONNECTION LIMIT 1", database.role)).await;
        let mut engine = engine(&database).await;
        let (scripts, run, cancel) = (scripts(&[("001_a.sql", text)]), run(), CancellationToken::new());
        let stop = async {
            let sleeps = format!(
                "SELECT 'yes' FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
                database.role
            );
            eventually("it works", SOON, async || database.value(&sleeps).await).await;
            cancel.cancel();
        };
        let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
        let stopped = async { tokio::time::timeout(SOON, async { tokio::join!(applied, stop) }).await };
        let error = stopped.await.expect("it stops").0.unwrap_err();
        assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
        assert!(error.to_string().contains(left), "{error}");
        drop(engine);
        let gone =
            format!("SELECT 'yes' WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = '{}')", database.role);
        eventually("the server finds its client gone", SOON, async || database.value(&gone).await).await;
        assert!(!exists(&database, "a").await);
        assert_eq!(history(&database).await, "");
    }
}

#[tokio::test]
async fn tidying_behind_a_cancel_takes_no_longer_for_a_long_lock_timeout_or_for_many_leftovers() {
    let database = with_table().await;
    let mut owner = database.owner().await;
    sqlx::raw_sql("CREATE INDEX i ON t (a); CREATE INDEX j ON t (b)").execute(&mut owner).await.unwrap();
    let mut target = database.target();
    target.locks = Locks { lock_timeout: Duration::from_secs(600), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let (scripts, run, cancel) =
        (scripts(&[("001_i.sql", "REINDEX TABLE CONCURRENTLY t")]), run(), CancellationToken::new());
    let stop = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        cancel.cancel();
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let stopped = tokio::time::timeout(SOON, async { tokio::join!(applied, stop) }).await.expect("it stops");
    assert!(matches!(&stopped.0, Err(ApplyError::Cancelled { .. })), "{:?}", stopped.0);
    assert_eq!(statements(&database).await, "1?");
}

#[tokio::test]
async fn a_cancel_is_heeded_also_while_the_lock_of_an_invalid_index_is_waited_for() {
    let database = with_table().await;
    lose(&database, &BUILD, "LOCK TABLE t IN ROW EXCLUSIVE MODE").await;
    database.admin(&format!("ALTER ROLE {} SET deadlock_timeout = '10min'", database.role)).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let mut engine = engine(&database).await;
    let (scripts, run, cancel) = (scripts(&BUILD), run(), CancellationToken::new());
    let stop = async {
        let waits = "SELECT 'yes' FROM pg_stat_activity WHERE datname = current_database() AND \
                     wait_event_type = 'Lock' AND query LIKE '%LOCK TABLE%'";
        eventually("it waits", SOON, async || database.value(waits).await).await;
        cancel.cancel();
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let stopped = tokio::time::timeout(SOON, async { tokio::join!(applied, stop) }).await.expect("it stops");
    assert!(matches!(&stopped.0, Err(ApplyError::Cancelled { .. })), "{:?}", stopped.0);
}

#[tokio::test]
async fn what_cannot_be_settled_is_told_with_its_script_and_line_and_can_be_corrected() {
    let database = with(&format!("{PARTITIONED} CREATE INDEX i ON ONLY t (a)")).await;
    let mut engine = engine(&database).await;
    let text = |last: &str| format!("-- belay: no-transaction\nCREATE TABLE u (a int);\n{last};");
    for refused in ["CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)", "DROP INDEX CONCURRENTLY i"] {
        let error = apply(&mut engine, &[("001_i.sql", &text(refused))]).await.unwrap_err();
        let failure = error.failure();
        assert_eq!(
            (error.reason(), failure.line, failure.statement),
            (Reason::ScriptFailed, Some(3), Some(2)),
            "{error}"
        );
        assert_eq!(
            (failure.sql_state.as_deref(), statements(&database).await.as_str()),
            (Some("0A000"), "1"),
            "{error}"
        );
    }
    apply(&mut engine, &[("001_i.sql", &text("DROP INDEX i"))]).await.unwrap();
    assert_eq!((history(&database).await.as_str(), exists(&database, "i").await), ("001", false));
}
