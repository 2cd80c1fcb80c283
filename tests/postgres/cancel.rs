use std::time::Duration;

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Progress, Target};
use tokio_util::sync::CancellationToken;

use super::apply::{exists, history};
use super::scripts::{apply, claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase, signal};
use crate::support::proxy::{AtCommit, Proxy};
use crate::support::{SOON, eventually};

#[tokio::test]
async fn a_cancel_stops_the_statement_that_runs_and_rolls_back() {
    let database = Postgres::shared().database().await;
    let mut target = database.target();
    // After SET ROLE the right to cancel would be the role's, which has none.
    target.role = Some(database.application_role().await);
    stops_and_rolls_back(&database, target).await;
}

#[tokio::test]
async fn a_cancel_stops_what_runs_also_when_the_login_takes_a_role_at_each_start() {
    let database = Postgres::shared().database().await;
    let role = database.application_role().await;
    database.admin(&format!("ALTER ROLE {} SET role = {role}", database.role)).await;
    stops_and_rolls_back(&database, database.target()).await;
}

async fn stops_and_rolls_back(database: &TestDatabase, target: Target) {
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let cancel = CancellationToken::new();
    let tell = |at: Progress<'_>| {
        if at.statement == 2 {
            cancel.cancel();
        }
    };
    let scripts = scripts(&[("001_a.sql", "CREATE TABLE a (id int); SELECT pg_sleep(600)"), ("002_b.sql", "SELECT 1")]);
    let run = run();
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &cancel);
    let error = tokio::time::timeout(SOON, applied).await.expect("it stops").unwrap_err();
    assert_eq!(error.reason(), Reason::Cancelled);
    assert!(matches!(&error, ApplyError::Cancelled { script: Some(script), .. } if script == "001_a.sql"), "{error:?}");
    assert!(!exists(database, "a").await);
    // The connection and the lock are as before.
    assert!(engine.holds_lock());
    assert!(engine.ledger().await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn what_is_cancelled_before_it_began_does_nothing() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let scripts = scripts(&[("001_a.sql", "CREATE TABLE a (id int)")]);
    let error = engine.apply(&scripts, TransactionMode::PerScript, &run(), &|_| {}, &cancel).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Cancelled);
    assert!(!exists(&database, "a").await);
}

#[tokio::test]
async fn a_cancel_during_commit_waits_for_its_outcome() {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::Hold).await;
    let url = database.url.replace(&Postgres::shared().port.to_string(), &proxy.port.to_string());
    let mut engine = claimed(Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap()).await;
    let cancel = CancellationToken::new();
    let scripts = scripts(&[("001_a.sql", "CREATE TABLE a (id int)"), ("002_b.sql", "CREATE TABLE b (id int)")]);
    let run = run();
    let apply = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let interrupt = async {
        proxy.reached().await;
        cancel.cancel();
        // Long enough for a cancel to be sent, if it were.
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.release();
    };
    let (applied, ()) = tokio::join!(apply, interrupt);
    assert!(matches!(applied, Err(ApplyError::Cancelled { script: Some(script), .. }) if script == "002_b.sql"));
    assert_eq!(history(&database).await, "001");
    assert!(exists(&database, "a").await && !exists(&database, "b").await);
}

#[tokio::test]
async fn a_cancel_is_one_whatever_the_script_makes_of_it() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let cancel = CancellationToken::new();
    let tell = |at: Progress<'_>| {
        if at.statement == 2 {
            cancel.cancel();
        }
    };
    let text = "CREATE TABLE a (id int); DO $$ BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN \
                RAISE EXCEPTION 'enough'; END $$";
    let (scripts, run) = (scripts(&[("001_a.sql", text)]), run());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &cancel);
    let error = tokio::time::timeout(SOON, applied).await.expect("it stops").unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
    assert!(!exists(&database, "a").await);
}

#[tokio::test]
async fn what_was_cancelled_and_could_not_be_stopped_in_time_is_not_committed() {
    let database = Postgres::shared().database().await;
    database.admin("CREATE TABLE gate (open bool); GRANT ALL ON gate TO PUBLIC").await;
    // So that nobody can ask the server to stop it.
    database.admin(&format!("ALTER ROLE {} CONNECTION LIMIT 1", database.role)).await;
    let mut engine = claimed(database.engine().await).await;
    let cancel = CancellationToken::new();
    let gated = "CREATE TABLE a (id int); DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.005); \
                 END LOOP; END $$";
    let (scripts, run) = (scripts(&[("001_a.sql", gated)]), run());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let stop = async {
        let waits = format!(
            "SELECT 'yes' FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
            database.role
        );
        eventually("it is at the gate", SOON, async || database.value(&waits).await).await;
        cancel.cancel();
        database.admin("INSERT INTO gate VALUES (true)").await;
    };
    let error = tokio::join!(applied, stop).0.unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
    assert!(!exists(&database, "a").await);
    assert!(engine.confirm_lock().await.unwrap(), "the session is as before");
}

#[tokio::test]
async fn a_cancel_that_comes_behind_a_statements_commit_does_not_make_it_undone() {
    // A commit that takes a tenth of a second.
    let server = Postgres::start_with(&["fsync = on", "commit_delay = 100000", "commit_siblings = 0"]);
    let database = server.database().await;
    let mut engine = claimed(database.engine().await).await;
    let mut other = database.superuser().await;
    let inserts = "INSERT INTO a VALUES (1);\n".repeat(10);
    let text = format!("-- belay: no-transaction\nCREATE TABLE a (id int);\n{inserts}");
    let cancel = "SELECT count(pg_cancel_backend(pid))::text FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COMMIT;%'";
    let mut cancelled = 0;
    let again = async {
        loop {
            let sent: String = sqlx::query_scalar(cancel).fetch_one(&mut other).await.unwrap();
            cancelled += sent.parse::<usize>().unwrap();
            tokio::task::yield_now().await;
        }
    };
    let files = [("001_a.sql", text.as_str())];
    tokio::select! {
        applied = apply(&mut engine, &files) => applied.unwrap(),
        () = again => {}
    }
    assert!(cancelled > 0, "no commit was met");
    assert_eq!(database.value("SELECT count(*)::text FROM a").await.as_deref(), Some("10"));
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn a_cancel_ends_the_run_also_where_the_server_falls_silent_while_it_is_asked() {
    let server = Postgres::start();
    let database = server.database().await;
    database.admin("CREATE SEQUENCE asked; GRANT ALL ON SEQUENCE asked TO PUBLIC").await;
    let mut engine = claimed(database.engine().await).await;
    let deaf = "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN PERFORM nextval('asked'); END; \
                END LOOP; END $$";
    let cancel = CancellationToken::new();
    let (scripts, run) = (scripts(&[("001_a.sql", deaf)]), run());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let silence = async {
        let sleeps = "SELECT 'yes' FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        eventually("it is deaf", SOON, async || database.value(sleeps).await).await;
        cancel.cancel();
        let asks = "SELECT pid::text FROM pg_stat_activity, asked WHERE query LIKE '%pg_cancel_backend%' AND is_called \
                    AND pid <> pg_backend_pid()";
        let asking = eventually("it is asked", SOON, async || database.value(asks).await).await;
        signal("STOP", &asking);
    };
    let stopped = tokio::time::timeout(SOON, async { tokio::join!(applied, silence) }).await.expect("it ends");
    assert!(matches!(&stopped.0, Err(ApplyError::Cancelled { .. })), "{:?}", stopped.0);
}
