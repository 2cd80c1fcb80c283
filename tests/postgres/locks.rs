//! Locks of tables that others hold.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use belay::api::{Reason, TransactionMode};
use belay::postgres::{Engine, Locks, Progress};
use tokio_util::sync::CancellationToken;

use super::apply::history;
use super::outside::{closed_gate, waits_at_gate};
use super::scripts::{apply, claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::{SOON, eventually};

async fn engine(database: &TestDatabase, retry_for: Duration) -> Engine {
    let mut target = database.target();
    target.locks = Locks { retry_for, ..Locks::default() };
    claimed(Engine::connect(target, "belay/test").await.unwrap()).await
}

#[tokio::test]
async fn a_lock_timeout_is_tried_again_and_succeeds_when_the_blocker_goes() {
    let database = Postgres::shared().database().await;
    database.admin(&format!("CREATE TABLE a (id int); ALTER TABLE a OWNER TO {}", database.role)).await;
    let mut engine = engine(&database, Duration::from_secs(60)).await;
    let mut blocker = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE").execute(&mut blocker).await.unwrap();

    let attempt = AtomicU32::new(0);
    let tell = |at: Progress<'_>| attempt.store(at.attempt, Ordering::SeqCst);
    let scripts = scripts(&[("001_a.sql", "CREATE TABLE b (id int); ALTER TABLE a ADD COLUMN b int")]);
    let (run, never) = (run(), CancellationToken::new());
    let apply = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    let unblock = async {
        eventually("a second try", SOON, async || (attempt.load(Ordering::SeqCst) >= 2).then_some(())).await;
        sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    };
    let (applied, ()) = tokio::join!(apply, unblock);
    applied.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn a_blocker_that_stays_ends_the_run_with_the_place_and_what_others_waited_is_bounded() {
    let database = Postgres::shared().database().await;
    database.admin(&format!("CREATE TABLE a (id int); ALTER TABLE a OWNER TO {}", database.role)).await;
    let mut engine = engine(&database, Duration::from_millis(1500)).await;
    let mut blocker = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE a IN ACCESS SHARE MODE").execute(&mut blocker).await.unwrap();

    let started = Instant::now();
    let error = apply(&mut engine, &[("001_a.sql", "SELECT 1;\nALTER TABLE a ADD COLUMN b int")]).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(error.reason(), Reason::LockTimeout);
    assert!(error.is_held());
    let failure = error.failure();
    assert_eq!((failure.line, failure.statement, failure.sql_state.as_deref()), (Some(2), Some(2), Some("55P03")));
    assert!(failure.attempts.is_some_and(|attempts| attempts >= 2), "{failure:?}");
    assert_eq!(history(&database).await, "");
}

#[tokio::test]
async fn a_script_that_lost_a_deadlock_is_tried_again() {
    let database = Postgres::shared().database().await;
    database
        .admin(&format!(
            "CREATE TABLE a (id int); CREATE TABLE b (id int); ALTER TABLE a OWNER TO {0}; ALTER TABLE b OWNER TO {0}",
            database.role
        ))
        .await;
    let mut engine = engine(&database, Duration::from_secs(60)).await;
    // As if the server had chosen us: the first try fails with 40P01, the second does not.
    database.admin("CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC").await;
    let text =
        "DO $$ BEGIN IF nextval('tries') = 1 THEN RAISE deadlock_detected; END IF; END $$; CREATE TABLE c (id int)";
    apply(&mut engine, &[("001_a.sql", text)]).await.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn a_script_that_disarms_lock_timeout_is_stopped_all_the_same_and_its_blocker_is_shown() {
    let database = Postgres::shared().database().await;
    database.admin(&format!("CREATE TABLE a (id int); ALTER TABLE a OWNER TO {}", database.role)).await;
    stops_and_shows_the_blocker(&database).await;
}

#[tokio::test]
async fn a_blocker_is_seen_and_its_wait_is_bounded_also_when_the_login_takes_a_role_at_each_start() {
    let database = Postgres::shared().database().await;
    let role = database.application_role().await;
    let taken = format!("ALTER ROLE {} SET role = {role}", database.role);
    database.admin(&format!("CREATE TABLE a (id int); ALTER TABLE a OWNER TO {role}; {taken}")).await;
    stops_and_shows_the_blocker(&database).await;
}

/// Applies a script that disarms lock_timeout, and waits for a table a that somebody reads.
async fn stops_and_shows_the_blocker(database: &TestDatabase) {
    let mut target = database.target();
    target.locks =
        Locks { retry_for: Duration::from_secs(1), lock_timeout: Duration::from_millis(100), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    // As the same role, so that it may see what the other does.
    let mut blocker = database.owner().await;
    for sql in ["BEGIN", "SELECT 'hunter2' FROM a"] {
        sqlx::raw_sql(sql).execute(&mut blocker).await.unwrap();
    }

    let seen = std::sync::Mutex::new(Vec::new());
    let tell = |at: Progress<'_>| seen.lock().unwrap().extend(at.waiting_on.iter().cloned());
    let scripts = scripts(&[("001_a.sql", "SET lock_timeout = 0;\nALTER TABLE a ADD COLUMN b int")]);
    let (run, never) = (run(), CancellationToken::new());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    let error = tokio::time::timeout(SOON, applied).await.expect("it stops").unwrap_err();
    assert_eq!(error.reason(), Reason::LockTimeout, "{error}");
    let failure = error.failure();
    assert_eq!((failure.line, failure.sql_state.as_deref()), (Some(2), Some("55P03")));
    assert!(failure.message.contains("after 100 ms of waiting for locks"), "{failure:?}");

    let seen = seen.into_inner().unwrap();
    let blocker = seen.first().expect("a blocker was seen");
    assert_eq!((blocker.user.as_str(), blocker.command.as_deref()), (database.role.as_str(), Some("SELECT")));
    assert_eq!(blocker.state.as_deref(), Some("idle in transaction"));
    assert_eq!(
        (blocker.relations.as_slice(), blocker.lock.as_str()),
        (["a".to_owned()].as_slice(), "AccessExclusiveLock")
    );
    assert!(blocker.since.is_some() && blocker.pid > 0);
    assert!(!format!("{seen:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_connection_that_a_script_makes_itself_and_cannot_is_its_own_error() {
    let database = Postgres::shared().database().await;
    let mut engine = engine(&database, Duration::from_secs(60)).await;
    database.admin("CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC").await;
    // As dblink has it, or a subscription's publisher.
    let text = "DO $$ BEGIN PERFORM nextval('tries'); RAISE sqlclient_unable_to_establish_sqlconnection; END $$";
    let error = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err();
    assert_eq!((error.reason(), error.failure().sql_state.as_deref()), (Reason::ScriptFailed, Some("08001")));
    assert_eq!(database.value("SELECT last_value::text FROM tries").await.as_deref(), Some("1"), "it was tried once");
}

#[tokio::test]
async fn a_transaction_that_could_not_be_serialized_is_tried_again_as_a_whole() {
    let database = Postgres::shared().database().await;
    let role = &database.role;
    database
        .admin(&format!(
            "CREATE TABLE a (id int); INSERT INTO a VALUES (1); ALTER TABLE a OWNER TO {role}; \
             ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'"
        ))
        .await;
    let mut engine = engine(&database, Duration::from_secs(60)).await;
    let mut other = closed_gate(&database).await;
    let meddle = async {
        // It has its snapshot then.
        waits_at_gate(&database).await;
        let meddles = "UPDATE a SET id = id + 10; SELECT pg_advisory_unlock(7)";
        sqlx::raw_sql(meddles).execute(&mut other).await.unwrap();
    };
    let script = "SELECT count(*) FROM a;\nSELECT pg_advisory_xact_lock_shared(7);\nUPDATE a SET id = id + 1;";
    let files = [("001_a.sql", script)];
    let (applied, ()) = tokio::join!(apply(&mut engine, &files), meddle);
    applied.unwrap();
    assert_eq!(database.value("SELECT id::text FROM a").await.as_deref(), Some("12"));
}
