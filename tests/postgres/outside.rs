//! Scripts that are not run in one transaction: statement by statement, each exactly once or said to be in doubt.

use std::time::Duration;

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Locks, Word};
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::apply::{exists, history};
use super::scripts::{apply, claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::{SOON, eventually};

const CONCURRENTLY: &str = "CREATE INDEX CONCURRENTLY i ON t (a)";

/// A database with a table t of two rows, owned by the role that migrates.
pub async fn with_table() -> TestDatabase {
    let database = Postgres::shared().database().await;
    let table = "CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, 1), (1, 2)";
    database.admin(&format!("{table}; ALTER TABLE t OWNER TO {}", database.role)).await;
    database
}

pub async fn engine(database: &TestDatabase) -> Engine {
    claimed(database.engine().await).await
}

/// The indexes of t, each with a mark if it is invalid.
pub async fn indexes(database: &TestDatabase) -> String {
    let query = "SELECT coalesce(string_agg(c.relname || CASE WHEN i.indisvalid THEN '' ELSE '!' END, ' ' ORDER BY 1), '') \
                 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = 't'::regclass";
    database.value(query).await.unwrap()
}

pub async fn statements(database: &TestDatabase) -> String {
    let query = "SELECT coalesce(string_agg(statement || CASE WHEN done_at IS NULL THEN '?' ELSE '' END, ' ' \
                 ORDER BY statement), '') FROM belay.statement";
    database.value(query).await.unwrap()
}

/// Waits until the role's session, which does not look on from beside, is in this wait.
pub async fn waits(database: &TestDatabase, condition: &str) {
    let query = format!(
        "SELECT pid::text FROM pg_stat_activity WHERE usename = '{}' AND state = 'active' AND query LIKE '%CONCURRENTLY%' \
         AND {condition}",
        database.role
    );
    eventually(condition, SOON, async || database.value(&query).await).await;
}

/// Waits until an invalid index is being dropped, which waits for the same old transactions as its build did, and is not
/// cancelled with it.
pub async fn is_put_away(database: &TestDatabase) {
    let query = format!(
        "SELECT pid::text FROM pg_stat_activity WHERE usename = '{}' AND query LIKE 'DROP INDEX CONCURRENTLY%' \
         AND state = 'active' AND query_start < clock_timestamp() - interval '500 ms'",
        database.role
    );
    eventually("it is put away", SOON, async || database.value(&query).await).await;
}

/// A session that holds gate 7: an advisory lock, at which a script can be made to wait.
pub async fn closed_gate(database: &TestDatabase) -> PgConnection {
    let mut gate = database.superuser().await;
    sqlx::raw_sql("SELECT pg_advisory_lock(7)").execute(&mut gate).await.unwrap();
    gate
}

/// Waits until a script waits there.
pub async fn waits_at_gate(database: &TestDatabase) {
    let waits = "SELECT 'yes' FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted";
    eventually("it waits at the gate", SOON, async || database.value(waits).await).await;
}

pub async fn kill(database: &TestDatabase) {
    let query = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", database.role);
    database.admin(&query).await;
}

#[tokio::test]
async fn an_index_is_built_concurrently_and_recorded() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let files =
        [("001_i.sql", CONCURRENTLY), ("002_d.sql", "DROP INDEX CONCURRENTLY i; CREATE INDEX CONCURRENTLY ON t (b);")];
    apply(&mut engine, &files).await.unwrap();
    assert_eq!(indexes(&database).await, "t_b_idx");
    assert_eq!(history(&database).await, "001 002");
    let mode = "SELECT string_agg(DISTINCT mode, ' ') FROM belay.history";
    assert_eq!(database.value(mode).await.as_deref(), Some("no-transaction"));
}

#[tokio::test]
async fn every_statement_is_recorded_and_what_was_done_is_not_done_again() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let broken = "-- belay: no-transaction\nCREATE SCHEMA s;\nSET search_path = s, public;\nCREATE TABLE u (a int);\n\
                  INSERT INTO u VALUES (1);\nVACUUM u;\nCREATE INDEX CONCURRENTLY j ON u (nonsense);\nSELECT 1;";
    let error = apply(&mut engine, &[("001_u.sql", broken)]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ScriptFailed, "{error}");
    assert!(error.is_held());
    let failure = error.failure();
    assert_eq!((failure.line, failure.column, failure.statement), (Some(7), Some(1), Some(6)), "{failure:?}");
    assert!(
        failure.message.contains("The statements of 001 before this one are applied, and are not run again"),
        "{}",
        failure.message
    );
    assert_eq!((statements(&database).await.as_str(), history(&database).await.as_str()), ("1 3 4 5", ""));

    // The path that statement 2 has set holds again, though that is another run.
    let mended = broken.replace("nonsense", "a");
    apply(&mut engine, &[("001_u.sql", &mended)]).await.unwrap();
    assert_eq!((statements(&database).await.as_str(), history(&database).await.as_str()), ("1 3 4 5 6 7", "001"));
    assert_eq!(database.value("SELECT count(*)::text FROM s.u").await.as_deref(), Some("1"), "inserted once");
    assert!(exists(&database, "s.j").await);
}

#[tokio::test]
async fn a_script_that_was_edited_above_what_is_done_waits_for_a_person() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let broken = "-- belay: no-transaction\nCREATE TABLE u (a int);\nSELECT nonsense;";
    apply(&mut engine, &[("001_u.sql", broken)]).await.unwrap_err();
    let edited = "-- belay: no-transaction\nCREATE TABLE u (a bigint);\nSELECT 1;";
    let error = apply(&mut engine, &[("001_u.sql", edited)]).await.unwrap_err();
    assert_eq!((error.reason(), error.failure().line), (Reason::InDoubt, Some(2)), "{error}");
    assert!(error.is_held() && error.to_string().contains("--forget-statements 001 --yes."), "{error}");
    let before = "-- belay: no-transaction\nSELECT 2;\nCREATE TABLE u (a int);\nSELECT 1;";
    assert_eq!(apply(&mut engine, &[("001_u.sql", before)]).await.unwrap_err().reason(), Reason::InDoubt);

    let version = "001".parse().unwrap();
    engine.take_word("anna", &[Word::Forgotten { version }]).await.unwrap();
    database.admin("DROP TABLE u").await;
    apply(&mut engine, &[("001_u.sql", edited)]).await.unwrap();
    let event = "SELECT detail->>'file' FROM belay.event WHERE kind = 'repaired' AND actor = 'anna'";
    assert_eq!(database.value(event).await.as_deref(), Some("001_u.sql"));
}

#[tokio::test]
async fn a_build_that_fails_leaves_no_invalid_index() {
    // Of a name that is too long, the server takes the first 63 bytes.
    for name in ["i", &"n".repeat(70)] {
        let database = with_table().await;
        let mut engine = engine(&database).await;
        let text = format!("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {name} ON t (a)");
        let files = [("001_i.sql", text.as_str())];
        let error = apply(&mut engine, &files).await.unwrap_err();
        assert_eq!((error.reason(), error.failure().sql_state.as_deref()), (Reason::ScriptFailed, Some("23505")));
        assert_eq!((indexes(&database).await.as_str(), statements(&database).await.as_str()), ("", ""));
        database.admin("DELETE FROM t WHERE b = 2").await;
        apply(&mut engine, &files).await.unwrap();
        let name = &name[..name.len().min(63)];
        assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), (name, "001"));
    }
}

#[tokio::test]
async fn of_an_index_without_a_name_no_try_leaves_an_invalid_one_to_the_next() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let mut old = database.superuser().await;
    // It is never the one that a deadlock ends.
    let hold = "SET deadlock_timeout = '1h'; BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE";
    sqlx::raw_sql(hold).execute(&mut old).await.unwrap();
    let waits_since = async |condition: &str| {
        let query = format!(
            "SELECT query_start::text FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock' AND {condition}",
            database.role
        );
        eventually(condition, SOON, async || database.value(&query).await).await
    };
    let release = async {
        waits_since("query LIKE 'CREATE INDEX CONCURRENTLY%'").await;
        // Behind the build, and so before what would put away what it leaves.
        sqlx::raw_sql("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").execute(&mut old).await.unwrap();
        assert_eq!(indexes(&database).await, "t_a_idx!");
        waits_since("query LIKE '%LOCK TABLE%'").await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    let files =
        [("001_i.sql", "-- belay: no-transaction\nSET lock_timeout = '500ms';\nCREATE INDEX CONCURRENTLY ON t (a);")];
    let (applied, ()) = tokio::join!(apply(&mut engine, &files), release);
    applied.unwrap();
    assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), ("t_a_idx", "001"));
}

#[tokio::test]
async fn an_invalid_index_that_somebody_left_is_built_anew_also_behind_if_not_exists() {
    for text in [CONCURRENTLY, "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON public.t USING btree (a)"] {
        let database = with_table().await;
        let mut engine = engine(&database).await;
        let mut owner = database.owner().await;
        sqlx::raw_sql("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)").execute(&mut owner).await.unwrap_err();
        assert_eq!(indexes(&database).await, "i!");
        apply(&mut engine, &[("001_i.sql", text)]).await.unwrap();
        assert_eq!(indexes(&database).await, "i");
        let unique = "SELECT indisunique::text FROM pg_index WHERE indexrelid = 'i'::regclass";
        assert_eq!(database.value(unique).await.as_deref(), Some("false"), "{text}");
    }
}

#[tokio::test]
async fn a_valid_index_of_the_same_definition_counts_as_done_and_one_of_another_does_not() {
    let same = "CREATE INDEX CONCURRENTLY i ON t (a, b DESC) WHERE b > 0";
    for (there, taken) in [
        ("CREATE INDEX i ON t USING btree (a, b desc) WHERE (b > 0)", true),
        ("CREATE UNIQUE INDEX i ON t (a, b DESC) WHERE b > 0", false),
        ("CREATE INDEX i ON t (a, b)", false),
        ("CREATE TABLE i (x int)", false),
    ] {
        let database = with_table().await;
        let mut engine = engine(&database).await;
        database.admin(there).await;
        let applied = apply(&mut engine, &[("001_i.sql", same)]).await;
        match taken {
            true => applied.unwrap(),
            // As the server has it: the name is taken.
            false => assert_eq!(applied.unwrap_err().failure().sql_state.as_deref(), Some("42P07"), "{there}"),
        }
        assert_eq!(history(&database).await, if taken { "001" } else { "" });
    }
}

#[tokio::test]
async fn a_build_waits_for_old_transactions_without_a_short_timeout_and_its_session_may_be_lost() {
    let database = with_table().await;
    let mut target = database.target();
    target.locks = Locks { lock_timeout: Duration::from_millis(100), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t").execute(&mut old).await.unwrap();
    let lose = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        kill(&database).await;
        // The next try waits again.
        waits(&database, "wait_event_type = 'Lock'").await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    let files = [("001_i.sql", CONCURRENTLY)];
    let (applied, ()) = tokio::join!(apply(&mut engine, &files), lose);
    applied.unwrap();
    assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), ("i", "001"));
}

#[tokio::test]
async fn a_build_that_waits_for_longer_than_retry_for_is_stopped_and_leaves_nothing() {
    let database = with_table().await;
    let mut target = database.target();
    target.locks = Locks { retry_for: Duration::from_secs(2), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM t").execute(&mut old).await.unwrap();
    let release = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        is_put_away(&database).await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    let files = [("001_i.sql", CONCURRENTLY)];
    let (applied, ()) = tokio::join!(apply(&mut engine, &files), release);
    let error = applied.unwrap_err();
    assert_eq!(error.reason(), Reason::LockTimeout, "{error}");
    assert_eq!((indexes(&database).await.as_str(), history(&database).await.as_str()), ("", ""));
}

#[tokio::test]
async fn a_cancel_reaches_the_server_and_leaves_no_invalid_index() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let (scripts, run, cancel) = (scripts(&[("001_i.sql", CONCURRENTLY)]), run(), CancellationToken::new());
    let stop = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        cancel.cancel();
        is_put_away(&database).await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let (applied, ()) = tokio::join!(applied, stop);
    let error = applied.unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
    let left = (indexes(&database).await, statements(&database).await, history(&database).await);
    assert_eq!(left, Default::default(), "nothing of it is left");
}

#[tokio::test]
async fn a_partition_that_was_detached_by_half_is_detached() {
    let database = Postgres::shared().database().await;
    let tables = "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE p PARTITION OF t FOR VALUES IN (1)";
    database.admin(&format!("{tables}; ALTER TABLE t OWNER TO {0}; ALTER TABLE p OWNER TO {0}", database.role)).await;
    let mut engine = engine(&database).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM t").execute(&mut old).await.unwrap();
    let lose = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        kill(&database).await;
        let pending = "SELECT 'yes' FROM pg_inherits WHERE inhdetachpending";
        eventually("it is pending", SOON, async || database.value(pending).await).await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    let files = [("001_p.sql", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY")];
    let (applied, ()) = tokio::join!(apply(&mut engine, &files), lose);
    applied.unwrap();
    assert_eq!(
        database.value("SELECT count(*)::text FROM pg_inherits WHERE inhparent = 't'::regclass").await.as_deref(),
        Some("0")
    );
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn a_procedure_that_commits_runs_and_one_whose_answer_is_lost_is_in_doubt_until_a_person_says() {
    let database = with_table().await;
    let procedure = "CREATE TABLE gate (open bool); GRANT ALL ON gate TO PUBLIC; \
        CREATE PROCEDURE backfill() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (7, 7); COMMIT; \
        WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.005); COMMIT; END LOOP; END $$";
    database.admin(procedure).await;
    let mut engine = engine(&database).await;
    let text = "-- belay: no-transaction\nCALL backfill();\nCREATE TABLE u (a int);";
    let lose = async {
        let began = "SELECT 'yes' FROM t WHERE a = 7";
        eventually("it committed its first part", SOON, async || database.value(began).await).await;
        kill(&database).await;
    };
    let files = [("001_b.sql", text)];
    let (applied, ()) = tokio::join!(apply(&mut engine, &files), lose);
    let error = applied.unwrap_err();
    assert_eq!(error.reason(), Reason::InDoubt, "{error}");
    assert!(error.is_held());
    assert!(error.to_string().contains("belay repair --statement 001:1=done --yes, or =undone."), "{error}");
    // It stays so, whoever tries.
    assert_eq!(apply(&mut engine, &files).await.unwrap_err().reason(), Reason::InDoubt);
    assert_eq!(statements(&database).await, "1?");

    let word = |done| Word::Settled { version: "001".parse().unwrap(), statement: 1, done };
    let other = Word::Settled { version: "001".parse().unwrap(), statement: 2, done: true };
    assert!(engine.take_word("anna", &[other]).await.unwrap_err().to_string().contains("statement 2 of 001"));
    database.admin("INSERT INTO gate VALUES (true)").await;
    engine.take_word("anna", &[word(false)]).await.unwrap();
    apply(&mut engine, &files).await.unwrap();
    assert_eq!((statements(&database).await.as_str(), history(&database).await.as_str()), ("1 2", "001"));
    assert_eq!(
        database.value("SELECT count(*)::text FROM t WHERE a = 7").await.as_deref(),
        Some("2"),
        "run again as said"
    );
}

#[tokio::test]
async fn a_statement_that_waits_for_a_busy_table_gives_way_and_is_tried_again() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let mut blocker = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t").execute(&mut blocker).await.unwrap();
    let text =
        "-- belay: no-transaction\nINSERT INTO t VALUES (9, 9);\nALTER TABLE t ADD COLUMN c int;\nVACUUM FULL t;";
    let attempts = std::sync::atomic::AtomicU32::new(0);
    let tell = |at: belay::postgres::Progress<'_>| attempts.store(at.attempt, std::sync::atomic::Ordering::SeqCst);
    let (scripts, run, never) = (scripts(&[("001_c.sql", text)]), run(), CancellationToken::new());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    let release = async {
        let tried = || attempts.load(std::sync::atomic::Ordering::SeqCst) > 1;
        eventually("a second try", SOON, async || tried().then_some(())).await;
        sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    };
    let (applied, ()) = tokio::join!(applied, release);
    applied.unwrap();
    assert_eq!(database.value("SELECT count(c)::text || count(*)::text FROM t").await.as_deref(), Some("03"));
}

#[tokio::test]
async fn how_far_a_long_build_is_is_told_in_the_servers_words() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let told = std::sync::Mutex::new(None);
    let tell = |at: belay::postgres::Progress<'_>| {
        if let Some(progress) = at.progress {
            *told.lock().unwrap() = Some((at.statement, progress.to_owned()));
        }
    };
    let text = format!("-- belay: no-transaction\nSELECT 1;\n{CONCURRENTLY}");
    let (scripts, run, never) = (scripts(&[("001_i.sql", &text)]), run(), CancellationToken::new());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    let release = async {
        eventually("how far it is", SOON, async || told.lock().unwrap().is_some().then_some(())).await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    let (applied, ()) = tokio::join!(applied, release);
    applied.unwrap();
    let (statement, progress) = told.into_inner().unwrap().unwrap();
    assert_eq!((statement, progress.as_str()), (2, "waiting for writers before build, 0 %"));
}
