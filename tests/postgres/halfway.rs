//! Scripts that are not run in one transaction, and whose run does not go through at once: nothing of them is done twice, and
//! nobody waits for them without bound.

use std::time::Duration;

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Locks, PostgresError, Progress, Target, Word};
use tokio_util::sync::CancellationToken;

use super::apply::history;
use super::outside::{closed_gate, engine, kill, waits_at_gate, with_table};
use super::scripts::{apply, claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase, free_port};
use crate::support::proxy::{AtCommit, Proxy};
use crate::support::{SOON, eventually};

const APART: &str = "-- belay: no-transaction\n";

async fn rows(database: &TestDatabase) -> String {
    database.value("SELECT count(*)::text FROM t").await.unwrap()
}

/// How a run ends that waits at gate 7, loses its connection there, and has it again only when another was done meanwhile.
async fn lost_meanwhile(
    database: &TestDatabase,
    files: &[(&str, &str)],
    other: impl AsyncFnOnce(&mut Engine),
) -> ApplyError {
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::Pass).await;
    let url = database.url.replace(&Postgres::shared().port.to_string(), &proxy.port.to_string());
    let mut first = claimed(Engine::connect(Target::from_url(&url).unwrap(), "belay/first").await.unwrap()).await;
    let mut gate = closed_gate(database).await;
    let meanwhile = async {
        waits_at_gate(database).await;
        proxy.point_to(free_port());
        proxy.cut(false);
        kill(database).await;
        sqlx::raw_sql("SELECT pg_advisory_unlock(7)").execute(&mut gate).await.unwrap();
        let mut second = database.engine().await;
        let mut locks = async || second.try_lock().await.unwrap().then_some(());
        eventually("the lock is free", SOON, &mut locks).await;
        other(&mut second).await;
        second.close().await;
        proxy.point_to(Postgres::shared().port);
    };
    tokio::join!(apply(&mut first, files), meanwhile).0.unwrap_err()
}

#[tokio::test]
async fn a_run_whose_lock_another_had_meanwhile_does_not_go_on_behind_its_back() {
    let database = with_table().await;
    let text = format!("{APART}SELECT pg_advisory_xact_lock_shared(7);\nINSERT INTO t VALUES (3, 3);");
    let files = [("001_a.sql", &*text)];
    let error = lost_meanwhile(&database, &files, async |second| {
        second.claim("cluster/test/test").await.unwrap();
        apply(second, &files).await.unwrap();
    })
    .await;
    assert!(matches!(&error, ApplyError::Postgres(PostgresError::LedgerMoved { .. })), "{error}");
    assert_eq!((rows(&database).await.as_str(), history(&database).await.as_str()), ("3", "001"));
}

#[tokio::test]
async fn a_script_that_is_half_applied_is_not_run_from_the_start_in_another_way() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let done = "INSERT INTO t VALUES (3, 3);";
    apply(&mut engine, &[("001_a.sql", &format!("{APART}{done}\nVACUUM nothing;"))]).await.unwrap_err();
    for mode in [TransactionMode::PerScript, TransactionMode::AllPending] {
        let scripts = scripts(&[("001_a.sql", done), ("002_b.sql", "SELECT 1")]);
        let applied = engine.apply(&scripts, mode, &run(), &|_| {}, &CancellationToken::new()).await;
        let error = applied.unwrap_err();
        assert_eq!(error.reason(), Reason::InDoubt, "{error}");
        assert!(
            error.to_string().contains("001_a.sql") && error.to_string().contains("--forget-statements"),
            "{error}"
        );
    }
    assert_eq!((rows(&database).await.as_str(), history(&database).await.as_str()), ("3", ""));
    apply(&mut engine, &[("001_a.sql", &format!("{APART}{done}\nVACUUM t;"))]).await.unwrap();
    assert_eq!((rows(&database).await.as_str(), history(&database).await.as_str()), ("3", "001"));
}

#[tokio::test]
async fn what_has_committed_a_part_of_itself_is_not_tried_again_by_itself() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    for state in ["lock_not_available", "deadlock_detected", "configuration_limit_exceeded"] {
        let text = format!("{APART}DO $$ BEGIN INSERT INTO t VALUES (3, 3); COMMIT; RAISE {state}; END $$;");
        let files = [("001_a.sql", &*text)];
        let error = apply(&mut engine, &files).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ScriptFailed, "{error}");
        let words = ["has committed by itself stays", "belay repair --statement 001:1=undone --yes, or =done"];
        assert!(words.iter().all(|words| error.to_string().contains(words)), "{error}");
        assert_eq!(apply(&mut engine, &files).await.unwrap_err().reason(), Reason::InDoubt);
        let word = Word::Settled { version: "001".parse().unwrap(), statement: 1, done: false };
        engine.take_word("anna", &[word]).await.unwrap();
    }
    assert_eq!(rows(&database).await, "5", "each was run once");
}

#[tokio::test]
async fn what_locks_others_out_gives_way_outside_a_transaction_too_whatever_the_script_sets() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let mut reader = database.superuser().await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM t").execute(&mut reader).await.unwrap();
    let again = tokio::sync::Notify::new();
    let tell = |at: Progress<'_>| {
        if at.attempt > 1 {
            again.notify_one();
        }
    };
    let scripts = scripts(&[("001_a.sql", &format!("{APART}SET lock_timeout = 0;\nVACUUM FULL t;"))]);
    let (run, never) = (run(), CancellationToken::new());
    let release = async {
        tokio::time::timeout(SOON, again.notified()).await.expect("another try");
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    tokio::join!(applied, release).0.unwrap();
}

#[tokio::test]
async fn between_tries_a_run_holds_no_lock_that_its_script_has_taken() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let mut busy = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t").execute(&mut busy).await.unwrap();
    let release = async {
        for held in [true, false] {
            let query = format!(
                "SELECT 1::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 HAVING (count(*) > 0) = {held}"
            );
            eventually("it takes the lock, and lets it go", SOON, async || database.value(&query).await).await;
        }
        sqlx::raw_sql("COMMIT").execute(&mut busy).await.unwrap();
    };
    let files = [("001_a.sql", "SELECT pg_advisory_lock(42);\nALTER TABLE t ADD c int;")];
    tokio::join!(apply(&mut engine, &files), release).0.unwrap();
    assert!(engine.confirm_lock().await.unwrap(), "but for Belay's own");
}

#[tokio::test]
async fn a_build_ends_also_where_there_is_no_room_for_a_second_connection() {
    let database = with_table().await;
    let mut target = database.target();
    target.locks = Locks { retry_for: Duration::from_secs(2), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    database.admin(&format!("ALTER ROLE {} CONNECTION LIMIT 1", database.role)).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let files = [("001_a.sql", "CREATE INDEX CONCURRENTLY i ON t (a)")];
    let applied = tokio::time::timeout(SOON, apply(&mut engine, &files)).await.expect("it ends");
    assert_eq!(applied.unwrap_err().reason(), Reason::LockTimeout);
}

/// What commits a part of itself, and then waits to lock readers out.
const COMMITS_AND_LOCKS: &str = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (3, 3); COMMIT; ALTER TABLE t ADD c int; END $$";

#[tokio::test]
async fn what_commits_itself_keeps_others_waiting_for_no_longer_than_any_try_whatever_the_script_sets() {
    let database = with_table().await;
    let mut owner = database.owner().await;
    sqlx::raw_sql(COMMITS_AND_LOCKS).execute(&mut owner).await.unwrap();
    let mut engine = engine(&database).await;
    let mut reader = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW SHARE MODE").execute(&mut reader).await.unwrap();
    let files = [("001_a.sql", &*format!("{APART}SET lock_timeout = 0;\nCALL p();"))];
    let applied = tokio::time::timeout(SOON, apply(&mut engine, &files)).await.expect("it gives way");
    let error = applied.unwrap_err();
    assert_eq!((error.failure().sql_state.as_deref(), error.failure().line), (Some("55P03"), Some(3)), "{error}");
    assert_eq!(rows(&database).await, "3", "it was run once");
}

#[tokio::test]
async fn what_commits_itself_and_so_has_one_try_waits_longer_than_a_first_try() {
    let database = with_table().await;
    let mut owner = database.owner().await;
    sqlx::raw_sql(COMMITS_AND_LOCKS).execute(&mut owner).await.unwrap();
    let mut target = database.target();
    target.locks = Locks { retry_for: Duration::ZERO, ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let mut reader = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW SHARE MODE").execute(&mut reader).await.unwrap();
    let release = async {
        let waits = "SELECT 'yes' FROM pg_locks WHERE relation = 't'::regclass AND NOT granted AND \
                     waitstart < clock_timestamp() - interval '1500 ms'";
        eventually("it waits on", SOON, async || database.value(waits).await).await;
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    };
    let files = [("001_a.sql", &*format!("{APART}CALL p();"))];
    tokio::join!(apply(&mut engine, &files), release).0.unwrap();
    assert_eq!(rows(&database).await, "3");
}

#[tokio::test]
async fn what_has_committed_a_part_of_itself_and_is_cancelled_is_not_run_again_without_a_persons_word() {
    let database = with_table().await;
    // A second time it would go through, and in a transaction.
    let procedure = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN IF NOT EXISTS (SELECT FROM t WHERE a = 3) THEN \
                     INSERT INTO t VALUES (3, 3); COMMIT; PERFORM pg_sleep(600); END IF; END $$";
    database.admin(procedure).await;
    let mut engine = engine(&database).await;
    let files = [("001_a.sql", &*format!("{APART}CALL p();"))];
    let (scripts, run, cancel) = (scripts(&files), run(), CancellationToken::new());
    let stop = async {
        let committed = "SELECT 'yes' FROM t WHERE a = 3";
        eventually("it has committed a part", SOON, async || database.value(committed).await).await;
        cancel.cancel();
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let error = tokio::join!(applied, stop).0.unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
    assert!(
        error.to_string().contains("what this statement has committed by itself stays, and it is not run again"),
        "{error}"
    );
    let error = apply(&mut engine, &files).await.unwrap_err();
    assert!(error.reason() == Reason::InDoubt && error.is_held(), "{error}");
    assert_eq!(rows(&database).await, "3");
}

#[tokio::test]
async fn behind_what_is_in_doubt_the_ledger_is_read_and_the_run_ended_whatever_role_the_script_has_set() {
    let database = with_table().await;
    let role = database.application_role().await;
    database
        .admin(&format!("CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'; GRANT {role} TO {}", database.role))
        .await;
    let mut engine = engine(&database).await;
    let files =
        [("001_a.sql", &*format!("{APART}INSERT INTO t VALUES (3, 3);\nSET ROLE {role};\nCALL p();\nVACUUM nothing;"))];
    apply(&mut engine, &files).await.unwrap_err();
    database.admin("UPDATE belay.statement SET done_at = NULL WHERE statement = 3").await;
    assert_eq!(apply(&mut engine, &files).await.unwrap_err().reason(), Reason::InDoubt);
    assert_eq!(engine.ledger().await.unwrap().begun.len(), 1);
    engine.finish_run(run().id, "InDoubt").await.unwrap();
}

#[tokio::test]
async fn a_deferred_constraint_is_told_with_the_statement_that_it_was_checked_behind() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let text = format!(
        "{APART}CREATE TABLE u (a int CONSTRAINT once UNIQUE DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO u VALUES (1), (1);"
    );
    let failure = apply(&mut engine, &[("001_a.sql", &text)]).await.unwrap_err().failure();
    assert_eq!((failure.line, failure.statement), (Some(3), Some(2)), "{failure:?}");
    assert!(failure.message.contains("line 3, column 1, deferred constraint \"once\""), "{failure:?}");
}

#[tokio::test]
async fn a_statement_that_was_only_begun_and_is_edited_is_told_with_how_to_go_on() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let text = |last: &str| format!("{APART}INSERT INTO t VALUES (3, 3);\n{last};");
    apply(&mut engine, &[("001_a.sql", &text("VACUUM nothing"))]).await.unwrap_err();
    let begun = "INSERT INTO belay.statement (number, statement, file_name, checksum, command, run_id) \
                 SELECT number, 2, file_name, 'of another text', 'CALL', run_id FROM belay.statement";
    database.admin(begun).await;
    let files = [("001_a.sql", &*text("VACUUM t"))];
    let error = apply(&mut engine, &files).await.unwrap_err();
    assert_eq!((error.reason(), error.failure().line), (Reason::InDoubt, Some(3)));
    assert!(error.to_string().contains("belay repair --statement 001:2=undone --yes"), "{error}");
    let word = Word::Settled { version: "001".parse().unwrap(), statement: 2, done: false };
    engine.take_word("anna", &[word]).await.unwrap();
    apply(&mut engine, &files).await.unwrap();
    assert_eq!((rows(&database).await.as_str(), history(&database).await.as_str()), ("3", "001"));
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_for_a_moment_keeps_what_commits_itself_from_nothing() {
    // The row before it, or the one behind it.
    for fails in [1, 2] {
        let database = with_table().await;
        database
            .admin("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (3, 3); COMMIT; END $$")
            .await;
        let mut engine = engine(&database).await;
        database
            .admin(&format!(
                "CREATE SEQUENCE writes; GRANT ALL ON SEQUENCE writes TO PUBLIC; CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql \
                 AS $$ BEGIN IF nextval('public.writes') = {fails} THEN RAISE lock_not_available; END IF; RETURN NEW; END $$; \
                 CREATE TRIGGER busy BEFORE INSERT ON belay.statement FOR EACH ROW EXECUTE FUNCTION busy()"
            ))
            .await;
        apply(&mut engine, &[("001_a.sql", &format!("{APART}CALL p();"))]).await.unwrap();
        assert_eq!(rows(&database).await, "3", "it was run once");
    }
}

#[tokio::test]
async fn what_goes_wrong_with_the_ledger_is_not_blamed_on_the_statement_that_it_is_about() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let full = "CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE read_only_sql_transaction; END $$; \
                CREATE TRIGGER full_up BEFORE INSERT ON belay.statement EXECUTE FUNCTION full_up()";
    database.admin(full).await;
    let error = apply(&mut engine, &[("001_i.sql", "CREATE INDEX CONCURRENTLY i ON t (a)")]).await.unwrap_err();
    assert!(matches!(&error, ApplyError::Postgres(_)) && !error.is_held(), "{error}");
    assert_eq!(history(&database).await, "");
}

#[tokio::test]
async fn a_procedure_that_waits_without_bound_of_its_own_keeps_nobody_waiting_for_longer_than_any_try() {
    let database = with_table().await;
    let procedure = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (3, 3); COMMIT; \
                     SET lock_timeout = 0; LOCK TABLE t; END $$";
    let mut owner = database.owner().await;
    sqlx::raw_sql(procedure).execute(&mut owner).await.unwrap();
    let mut engine = engine(&database).await;
    let mut reader = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW SHARE MODE").execute(&mut reader).await.unwrap();
    let files = [("001_a.sql", &*format!("{APART}CALL p();"))];
    let applied = tokio::time::timeout(SOON, apply(&mut engine, &files)).await.expect("it gives way");
    assert_eq!(applied.unwrap_err().failure().sql_state.as_deref(), Some("55P03"));
}

/// What commits a part of itself, and then waits at gate 7.
const COMMITS_AND_WAITS: &str = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (3, 3); COMMIT; PERFORM pg_advisory_lock_shared(7); COMMIT; END $$";

#[tokio::test]
async fn what_is_done_and_may_not_be_done_twice_is_recorded_although_a_cancel_comes_behind_it() {
    let database = with_table().await;
    database.admin(COMMITS_AND_WAITS).await;
    let mut engine = engine(&database).await;
    let mut gate = closed_gate(&database).await;
    let release = async {
        waits_at_gate(&database).await;
        sqlx::raw_sql("BEGIN; LOCK TABLE belay.statement IN SHARE ROW EXCLUSIVE MODE; SELECT pg_advisory_unlock(7)")
            .execute(&mut gate)
            .await
            .unwrap();
        let cancelled = "SELECT pg_cancel_backend(pid)::text FROM pg_locks WHERE relation = 'belay.statement'::regclass AND NOT granted";
        eventually("its row waits", SOON, async || database.value(cancelled).await).await;
        sqlx::raw_sql("COMMIT").execute(&mut gate).await.unwrap();
    };
    let files = [("001_a.sql", &*format!("{APART}CALL p();"))];
    tokio::join!(apply(&mut engine, &files), release).0.unwrap();
    assert_eq!((rows(&database).await.as_str(), history(&database).await.as_str()), ("3", "001"));
}

#[tokio::test]
async fn a_run_that_lost_its_connection_does_not_go_on_over_a_persons_word_that_came_meanwhile() {
    let database = with_table().await;
    let text = format!("{APART}INSERT INTO t VALUES (3, 3);\nSELECT pg_advisory_xact_lock_shared(7);");
    let error = lost_meanwhile(&database, &[("001_a.sql", &text)], async |person| {
        let word = Word::Forgotten { version: "001".parse().unwrap() };
        person.take_word("anna", &[word]).await.unwrap();
    })
    .await;
    assert!(matches!(&error, ApplyError::Postgres(PostgresError::LedgerMoved { .. })), "{error}");
    assert_eq!(history(&database).await, "");
}

#[tokio::test]
async fn what_is_done_and_cannot_be_recorded_is_said_to_be_done() {
    let database = with_table().await;
    database.admin(COMMITS_AND_WAITS).await;
    let mut target = database.target();
    target.locks = Locks { retry_for: Duration::from_millis(1), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let mut gate = closed_gate(&database).await;
    let lock = async {
        waits_at_gate(&database).await;
        let lock = "BEGIN; LOCK TABLE belay.statement IN SHARE ROW EXCLUSIVE MODE; SELECT pg_advisory_unlock(7)";
        sqlx::raw_sql(lock).execute(&mut gate).await.unwrap();
    };
    let files = [("001_a.sql", &*format!("{APART}CALL p();"))];
    let (applied, ()) = tokio::join!(apply(&mut engine, &files), lock);
    let error = applied.unwrap_err();
    assert_eq!(error.reason(), Reason::InDoubt, "{error}");
    let words = ["001_a.sql, line 2: CALL is done, but", "belay repair --statement 001:1=done --yes."];
    assert!(words.iter().all(|words| error.to_string().contains(words)), "{error}");
    sqlx::raw_sql("COMMIT").execute(&mut gate).await.unwrap();
    let word = Word::Settled { version: "001".parse().unwrap(), statement: 1, done: true };
    engine.take_word("anna", &[word]).await.unwrap();
    apply(&mut engine, &files).await.unwrap();
    assert_eq!((rows(&database).await.as_str(), history(&database).await.as_str()), ("3", "001"));
}
