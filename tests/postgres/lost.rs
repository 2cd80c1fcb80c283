//! Connections that are lost: the ledger's row decides, and a script runs exactly once.

use std::sync::atomic::{AtomicBool, Ordering};

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Progress, Target};
use tokio_util::sync::CancellationToken;

use super::apply::history;
use super::scripts::{apply, claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase, signal};
use crate::support::proxy::{AtCommit, Proxy};
use crate::support::{SOON, eventually};

/// A table that counts how often the script ran, outside Belay.
async fn counter(database: &TestDatabase) {
    database.admin("CREATE TABLE ran (id int); GRANT ALL ON ran TO PUBLIC; CREATE TABLE gate (open bool); GRANT ALL ON gate TO PUBLIC").await;
}

async fn ran(database: &TestDatabase) -> String {
    database.value("SELECT count(*)::text FROM ran").await.unwrap()
}

/// Makes the first try release the lock, so that the lock alone does not keep a second one away from it.
async fn release_at_first(database: &TestDatabase) {
    database
        .admin(
            "CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC; CREATE FUNCTION release() RETURNS trigger LANGUAGE plpgsql \
             AS $$ BEGIN IF nextval('tries') = 1 THEN PERFORM pg_advisory_unlock_all(); END IF; RETURN NULL; END $$; \
             CREATE TRIGGER release AFTER INSERT ON ran EXECUTE FUNCTION release()",
        )
        .await;
}

/// Waits for as long as nothing is in the table gate.
const GATED: &str = "INSERT INTO ran VALUES (1);\nDO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP \
                     PERFORM pg_sleep(0.005); END LOOP; END $$;\nCREATE TABLE a (id int);";

/// Applies [`GATED`], and does `then` once it waits at the gate.
async fn apply_and(engine: &mut Engine, mode: TransactionMode, then: impl AsyncFnOnce()) -> Result<(), ApplyError> {
    let at_gate = tokio::sync::Notify::new();
    let first = AtomicBool::new(true);
    let tell = |at: Progress<'_>| {
        if at.statement == 2 && first.swap(false, Ordering::SeqCst) {
            at_gate.notify_one();
        }
    };
    let scripts = scripts(&[("001_a.sql", GATED), ("002_b.sql", "INSERT INTO ran VALUES (2)")]);
    let (run, never) = (run(), CancellationToken::new());
    let mut apply = std::pin::pin!(engine.apply(&scripts, mode, &run, &tell, &never));
    tokio::select! {
        early = &mut apply => panic!("it did not wait at the gate: {early:?}"),
        () = at_gate.notified() => {}
    }
    let both = async { tokio::join!(apply, then()) };
    tokio::time::timeout(4 * SOON, both).await.expect("it ends").0
}

#[tokio::test]
async fn a_server_that_stops_in_mid_script_is_waited_for_and_the_script_runs_exactly_once() {
    for mode in [TransactionMode::PerScript, TransactionMode::AllPending] {
        let server = Postgres::start();
        let database = server.database().await;
        counter(&database).await;
        let mut engine = claimed(database.engine().await).await;
        let stop = async || {
            server.stop_immediately();
            server.start_again();
            database.admin("INSERT INTO gate VALUES (true)").await;
        };
        apply_and(&mut engine, mode, stop).await.unwrap();
        assert_eq!(history(&database).await, "001 002");
        assert_eq!(ran(&database).await, "2");
        assert!(engine.holds_lock());
    }
}

#[tokio::test]
async fn a_session_that_is_killed_in_mid_script_is_made_again() {
    let database = Postgres::shared().database().await;
    counter(&database).await;
    let mut engine = claimed(database.engine().await).await;
    let kill = async || {
        let kill =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", database.role);
        database.admin(&kill).await;
        database.admin("INSERT INTO gate VALUES (true)").await;
    };
    apply_and(&mut engine, TransactionMode::PerScript, kill).await.unwrap();
    assert_eq!(history(&database).await, "001 002");
    assert_eq!(ran(&database).await, "2");
}

async fn through(database: &TestDatabase, proxy: &Proxy) -> Engine {
    let url = database.url.replace(&Postgres::shared().port.to_string(), &proxy.port.to_string());
    claimed(Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap()).await
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_done_again() {
    let database = Postgres::shared().database().await;
    counter(&database).await;
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::LoseQuestion).await;
    let mut engine = through(&database, &proxy).await;
    apply(&mut engine, &[("001_a.sql", "INSERT INTO ran VALUES (1)"), ("002_b.sql", "INSERT INTO ran VALUES (2)")])
        .await
        .unwrap();
    assert_eq!((history(&database).await.as_str(), ran(&database).await.as_str()), ("001 002", "2"));
}

#[tokio::test]
async fn a_commit_that_was_none_is_seen_though_it_is_answered_without_an_error() {
    let database = Postgres::shared().database().await;
    counter(&database).await;
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::RollBack).await;
    let mut engine = through(&database, &proxy).await;
    let files = [("001_a.sql", "INSERT INTO ran VALUES (1)"), ("002_b.sql", "INSERT INTO ran VALUES (2)")];
    apply(&mut engine, &files).await.unwrap_err();
    assert_eq!(
        (history(&database).await.as_str(), ran(&database).await.as_str()),
        ("", "0"),
        "nor is 002 run behind it"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_told_with_the_script_and_not_asked_for_again_and_again() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text = "SELECT set_config('client_encoding', 'LATIN1', false), 1;\nDO $$ BEGIN RAISE NOTICE 'é'; END $$;";
    let files = [("001_a.sql", text)];
    let applied = tokio::time::timeout(crate::support::SOON, apply(&mut engine, &files)).await;
    let error = applied.expect("an answer soon").unwrap_err();
    assert!(error.to_string().contains("2 times, in 001_a.sql"), "{error}");
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_done_again() {
    let database = Postgres::shared().database().await;
    counter(&database).await;
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::LoseAnswer).await;
    let mut engine = through(&database, &proxy).await;
    apply(&mut engine, &[("001_a.sql", "INSERT INTO ran VALUES (1)"), ("002_b.sql", "INSERT INTO ran VALUES (2)")])
        .await
        .unwrap();
    assert_eq!((history(&database).await.as_str(), ran(&database).await.as_str()), ("001 002", "2"));
}

#[tokio::test]
async fn a_server_that_does_not_come_back_ends_the_run_in_time() {
    let server = Postgres::start();
    let database = server.database().await;
    counter(&database).await;
    let mut target = database.target();
    target.locks.retry_for = std::time::Duration::from_secs(1);
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let error =
        apply_and(&mut engine, TransactionMode::PerScript, async || server.stop_immediately()).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::ConnectionFailed | Reason::ConnectionLost), "{error}");
    assert!(!engine.holds_lock());
}

/// How a script ends that cannot succeed, with a second to try in, and how often it was tried.
async fn tried(text: &str) -> (ApplyError, u32) {
    let database = Postgres::shared().database().await;
    // What a sequence counts, no rollback takes back.
    database.admin("CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC").await;
    let mut target = database.target();
    target.locks.retry_for = std::time::Duration::from_secs(1);
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let text = format!("SELECT nextval('tries');\n{text}");
    let applied = tokio::time::timeout(SOON, apply(&mut engine, &[("001_a.sql", &text)])).await;
    assert_eq!(history(&database).await, "");
    let tries = database.value("SELECT last_value::text FROM tries").await.unwrap();
    (applied.expect("it ends").unwrap_err(), tries.parse().unwrap())
}

#[tokio::test]
async fn a_script_that_the_server_has_no_room_for_each_time_is_tried_a_few_times_and_ends_with_its_place() {
    let (error, tries) = tried("DO $$ BEGIN RAISE 'no room' USING ERRCODE = '53200'; END $$;").await;
    let failure = error.failure();
    assert_eq!(error.reason(), Reason::ScriptFailed, "{error}");
    assert_eq!((failure.line, failure.sql_state.as_deref()), (Some(2), Some("53200")), "{failure:?}");
    assert!(error.is_held() && tries <= 8, "{tries} tries: {error}");
}

#[tokio::test]
async fn a_script_that_ends_its_own_session_each_time_is_tried_a_few_times_and_named() {
    let (error, tries) = tried("SELECT pg_terminate_backend(pg_backend_pid());").await;
    assert_eq!(error.reason(), Reason::ConnectionLost, "{error}");
    assert!(error.to_string().contains("001_a.sql") && tries <= 8, "{tries} tries: {error}");
}

#[tokio::test]
async fn when_another_run_wrote_to_the_ledger_meanwhile_it_is_read_again_first() {
    let database = Postgres::shared().database().await;
    counter(&database).await;
    let mut engine = claimed(database.engine().await).await;
    let kill = async || {
        database
            .admin(
                "INSERT INTO belay.history (version, file_name, description, checksum, script, mode, applied_by, run_id, duration_ms) \
                 VALUES ('7', '7_x.sql', 'x', repeat('0', 64), '', 'transaction', 'other', gen_random_uuid(), 0)",
            )
            .await;
        let kill =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", database.role);
        database.admin(&kill).await;
    };
    let error = apply_and(&mut engine, TransactionMode::PerScript, kill).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectionLost);
    assert!(error.to_string().contains("another run wrote"), "{error}");
    assert_eq!(ran(&database).await, "0");
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_noticed_from_beside() {
    let database = Postgres::shared().database().await;
    counter(&database).await;
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::Pass).await;
    let mut engine = through(&database, &proxy).await;
    let silence = async || {
        proxy.silence();
        let query = format!(
            "SELECT count(*)::text FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
            database.role
        );
        eventually("the server notices", SOON, async || (database.value(&query).await? == "0").then_some(())).await;
        database.admin("INSERT INTO gate VALUES (true)").await;
    };
    let applied = apply_and(&mut engine, TransactionMode::PerScript, silence);
    tokio::time::timeout(SOON, applied).await.expect("it is noticed").unwrap();
    assert_eq!(history(&database).await, "001 002");
    assert_eq!(ran(&database).await, "2");
}

#[tokio::test]
async fn a_session_that_outlived_its_connection_is_ended_before_its_script_is_tried_again() {
    let database = Postgres::shared().database().await;
    counter(&database).await;
    let role = database.application_role().await;
    release_at_first(&database).await;
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::Pass).await;
    let url = database.url.replace(&Postgres::shared().port.to_string(), &proxy.port.to_string());
    let mut target = Target::from_url(&url).unwrap();
    // It may not see the login's sessions.
    target.role = Some(role);
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let sessions = format!("FROM pg_stat_activity WHERE usename = '{}'", database.role);
    let cut = async || {
        let at_gate = format!("SELECT pid::text {sessions} AND wait_event = 'PgSleep'");
        let orphan = eventually("it is at the gate", SOON, async || database.value(&at_gate).await).await;
        proxy.cut(true);
        let second = format!(
            "SELECT (count(*) FILTER (WHERE pid = {orphan}))::text {sessions} \
             HAVING bool_or(pid <> {orphan} AND wait_event = 'PgSleep')"
        );
        let living = eventually("it is tried again", SOON, async || database.value(&second).await).await;
        assert_eq!(living, "0", "both are at work");
        database.admin("INSERT INTO gate VALUES (true)").await;
    };
    apply_and(&mut engine, TransactionMode::PerScript, cut).await.unwrap();
    assert_eq!((history(&database).await.as_str(), ran(&database).await.as_str()), ("001 002", "2"));
}

#[tokio::test]
async fn the_server_is_told_at_startup_to_notice_a_dead_client_soon() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let settings = "'client_connection_check_interval,tcp_user_timeout,tcp_keepalives_idle,tcp_keepalives_interval'";
    let text = format!(
        "CREATE TABLE told AS SELECT string_agg(current_setting(name), ' ' ORDER BY n) AS settings \
         FROM string_to_table({settings}, ',') WITH ORDINALITY AS s (name, n)"
    );
    apply(&mut engine, &[("001_a.sql", &text)]).await.unwrap();
    assert_eq!(database.value("SELECT settings FROM told").await.as_deref(), Some("500ms 20000 5 5"));
}

#[tokio::test]
async fn while_a_session_that_lost_its_connection_lives_its_script_is_not_tried_again() {
    let server = Postgres::start();
    let database = server.database().await;
    counter(&database).await;
    release_at_first(&database).await;
    let proxy = Proxy::start(server.port, AtCommit::Pass).await;
    let url = database.url.replace(&server.port.to_string(), &proxy.port.to_string());
    let mut engine = claimed(Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap()).await;
    let sessions = format!("FROM pg_stat_activity WHERE usename = '{}'", database.role);
    let cut = async || {
        let at_gate = format!("SELECT pid::text {sessions} AND wait_event = 'PgSleep'");
        let orphan = eventually("it is at the gate", SOON, async || database.value(&at_gate).await).await;
        // So that it does not end when it is told to.
        signal("STOP", &orphan);
        proxy.cut(true);
        let looks = format!(
            "SELECT query_start::text {sessions} AND pid <> {orphan} AND query LIKE '%pg_stat_activity a WHERE%'"
        );
        let first = eventually("it is looked for", SOON, async || database.value(&looks).await).await;
        let again = format!("{looks} AND query_start > '{first}'");
        eventually("it is looked for again", SOON, async || database.value(&again).await).await;
        assert_eq!(database.value("SELECT last_value::text FROM tries").await.as_deref(), Some("1"));
        signal("CONT", &orphan);
        database.admin("INSERT INTO gate VALUES (true)").await;
    };
    apply_and(&mut engine, TransactionMode::PerScript, cut).await.unwrap();
    assert_eq!((history(&database).await.as_str(), ran(&database).await.as_str()), ("001 002", "2"));
}
