//! Those who keep a script waiting: what is shown of them, and what the policy does to them.

use std::sync::Mutex;
use std::time::Duration;

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Blocker, Blockers, Engine, Locks, Progress};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tokio_util::sync::CancellationToken;

use super::apply::history;
use super::scripts::{claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::{SOON, eventually};

/// A database with a table `a` that its owner may alter.
async fn database(server: &Postgres) -> TestDatabase {
    let database = server.database().await;
    database.admin(&format!("CREATE TABLE a (id int); ALTER TABLE a OWNER TO {}", database.role)).await;
    database
}

async fn engine(database: &TestDatabase, blockers: Blockers, retry_for: Duration) -> Engine {
    let mut target = database.target();
    target.locks = Locks { retry_for, ..Locks::default() };
    target.blockers = blockers;
    claimed(Engine::connect(target, "belay/test").await.unwrap()).await
}

/// Applies one script, calls `then` with the first blocker that is shown, and gives the end and all that was shown.
async fn apply_beside(
    engine: &mut Engine,
    text: &str,
    then: impl AsyncFnOnce(&Blocker),
) -> (Result<(), ApplyError>, Vec<Vec<Blocker>>) {
    let seen: Mutex<Vec<Vec<Blocker>>> = Mutex::default();
    let shown = tokio::sync::Notify::new();
    let tell = |at: Progress<'_>| {
        seen.lock().unwrap().push(at.waiting_on.to_vec());
        if !at.waiting_on.is_empty() {
            shown.notify_one();
        }
    };
    let scripts = scripts(&[("001_a.sql", text)]);
    let (run, never) = (run(), CancellationToken::new());
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    let beside = async {
        shown.notified().await;
        let first = seen.lock().unwrap().iter().find_map(|shown| shown.first().cloned()).unwrap();
        then(&first).await;
    };
    let mut applied = std::pin::pin!(applied);
    let end = tokio::select! {
        early = &mut applied => early,
        () = beside => tokio::time::timeout(SOON, applied).await.expect("it ends"),
    };
    let seen = seen.lock().unwrap().clone();
    (end, seen)
}

async fn say(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

const ALTER: &str = "ALTER TABLE a ADD COLUMN b int";
const EVENTS: &str = "SELECT string_agg(kind || ' ' || (detail->>'application'), ',') FROM belay.event";

#[tokio::test]
async fn a_prepared_transaction_is_shown_by_its_name() {
    let server = Postgres::start_with(&["max_prepared_transactions = 4"]);
    let database = database(&server).await;
    let mut engine = engine(&database, Blockers::Wait, SOON).await;
    let mut other = database.owner().await;
    for sql in ["BEGIN", "LOCK TABLE a", "PREPARE TRANSACTION 'left over'"] {
        say(&mut other, sql).await;
    }
    // Another one that is in nobody's way.
    for sql in ["BEGIN", "CREATE TABLE c ()", "PREPARE TRANSACTION 'harmless'"] {
        say(&mut other, sql).await;
    }
    let (applied, seen) = apply_beside(&mut engine, ALTER, async |blocker| {
        assert_eq!((blocker.pid, blocker.gid.as_deref()), (0, Some("left over")), "{blocker:?}");
        assert_eq!((blocker.user.as_str(), blocker.relations.as_slice()), (&*database.role, &["a".to_owned()][..]));
        assert!(blocker.since.is_some() && blocker.missing.is_none(), "{blocker:?}");
        say(&mut other, "COMMIT PREPARED 'left over'").await;
    })
    .await;
    applied.unwrap();
    assert!(seen.iter().flatten().all(|blocker| blocker.gid.as_deref() == Some("left over")), "{seen:?}");
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn what_the_login_may_not_see_is_named_with_the_grant_that_shows_it() {
    let database = database(Postgres::shared()).await;
    let mut engine = engine(&database, Blockers::Wait, Duration::from_secs(60)).await;
    let (mut one, mut two) = (database.superuser().await, database.superuser().await);
    for other in [&mut one, &mut two] {
        say(other, "SET application_name = 'a report'; BEGIN; LOCK TABLE a IN ACCESS SHARE MODE").await;
    }
    let grant = format!("GRANT pg_read_all_stats TO \"{}\";", database.role);
    let (applied, seen) = apply_beside(&mut engine, ALTER, async |blocker| {
        assert_eq!((blocker.application.as_str(), blocker.user.as_str()), ("a report", "postgres"));
        assert_eq!((blocker.state.as_deref(), blocker.command.as_deref(), blocker.since), (None, None, None));
        assert_eq!(blocker.missing.as_deref(), Some(&*grant));
        say(&mut one, &grant).await;
        say(&mut two, "COMMIT").await;
        say(&mut one, "COMMIT").await;
    })
    .await;
    applied.unwrap();
    let both = seen.iter().find(|shown| shown.len() == 2).expect("both are shown");
    assert_eq!(both.iter().filter(|blocker| blocker.missing.is_some()).count(), 1, "the GRANT is said once: {both:?}");
}

#[tokio::test]
async fn a_wait_for_a_row_names_its_table_and_the_names_are_those_of_the_scripts_search_path() {
    let database = database(Postgres::shared()).await;
    let sql = format!(
        "CREATE SCHEMA s; CREATE TABLE s.b (id int); INSERT INTO s.b VALUES (1); GRANT ALL ON SCHEMA s TO {0}; \
                       ALTER TABLE s.b OWNER TO {0}",
        database.role
    );
    database.admin(&sql).await;
    for (search_path, name) in [(vec![], "s.b"), (vec!["s".to_owned()], "b")] {
        let mut target = database.target();
        target.search_path = search_path;
        target.history_schema = format!("belay_{}", name.len());
        let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
        let mut other = database.owner().await;
        say(&mut other, "BEGIN").await;
        say(&mut other, "UPDATE s.b SET id = 2").await;
        let (applied, _) = apply_beside(&mut engine, "UPDATE s.b SET id = 3", async |blocker| {
            assert_eq!(
                (blocker.relations.as_slice(), &*blocker.lock),
                (&[name.to_owned()][..], "ShareLock (transactionid)")
            );
            assert_eq!(blocker.command.as_deref(), Some("UPDATE"));
            say(&mut other, "COMMIT").await;
        })
        .await;
        applied.unwrap();
        engine.close().await;
    }
}

#[tokio::test]
async fn a_session_idle_in_a_transaction_for_too_long_is_ended_and_the_ledger_has_it() {
    let database = database(Postgres::shared()).await;
    let policy = Blockers::TerminateIdleInTransaction { older_than: Duration::from_millis(300) };
    let mut engine = engine(&database, policy, Duration::from_secs(60)).await;
    let mut other = database.owner().await;
    for sql in ["SET application_name = 'a report'", "BEGIN", "SELECT 'hunter2' FROM a"] {
        say(&mut other, sql).await;
    }
    let (applied, seen) = apply_beside(&mut engine, ALTER, async |_| {}).await;
    applied.unwrap();
    assert!(sqlx::raw_sql("SELECT 1").execute(&mut other).await.is_err(), "it was ended");
    assert_eq!(database.value(EVENTS).await.as_deref(), Some("blocker-terminated a report"));
    let detail = database.value("SELECT detail::text FROM belay.event").await.unwrap();
    assert!(detail.contains("\"relations\": [\"a\"]") && !detail.contains("hunter2"), "{detail}");
    assert!(seen.last().unwrap().is_empty() || seen.len() < 20, "{seen:?}");
}

#[tokio::test]
async fn a_session_of_another_database_is_shown_and_never_ended() {
    let database = database(Postgres::shared()).await;
    let policy = Blockers::TerminateIdleInTransaction { older_than: Duration::ZERO };
    let mut engine = engine(&database, policy, Duration::from_secs(3)).await;
    let elsewhere: PgConnectOptions = database.url.parse().unwrap();
    let mut other = elsewhere.database("postgres").connect().await.unwrap();
    let alter = |size: u32| format!("ALTER ROLE {} SET work_mem = '{size}MB'", database.role);
    say(&mut other, &format!("BEGIN; {}", alter(5))).await;
    let (applied, seen) = apply_beside(&mut engine, &alter(6), async |_| {}).await;
    assert_eq!(applied.unwrap_err().reason(), Reason::LockTimeout);
    other.ping().await.unwrap();
    let waited_for = seen.iter().flatten().next().unwrap();
    assert_eq!(waited_for.state.as_deref(), Some("idle in transaction"), "{waited_for:?}");
    assert_eq!(database.value(EVENTS).await, None);
}

#[tokio::test]
async fn what_a_listed_application_runs_is_cancelled_and_its_session_stays() {
    let database = database(Postgres::shared()).await;
    let policy = Blockers::CancelApplications { names: vec!["a report".to_owned()] };
    let mut engine = engine(&database, policy, Duration::from_secs(60)).await;
    database.admin("INSERT INTO a VALUES (1)").await;
    let mut other = database.owner().await;
    say(&mut other, "SET application_name = 'a report'").await;
    let report = async {
        let cancelled = sqlx::raw_sql("SELECT pg_sleep(600) FROM a").execute(&mut other).await.unwrap_err();
        assert_eq!(
            cancelled.as_database_error().and_then(|error| error.code().map(|code| code.into_owned())).as_deref(),
            Some("57014")
        );
        other.ping().await.unwrap();
    };
    let apply = async {
        let holds = "SELECT (count(*) > 0)::text FROM pg_locks WHERE relation = 'a'::regclass";
        eventually("the report runs", SOON, async || (database.value(holds).await? == "true").then_some(())).await;
        apply_beside(&mut engine, ALTER, async |_| {}).await.0.unwrap();
    };
    tokio::join!(report, apply);
    assert_eq!(database.value(EVENTS).await.as_deref(), Some("blocker-cancelled a report"));
}

#[tokio::test]
async fn without_the_right_to_signal_it_is_named_and_nothing_else_breaks() {
    let database = database(Postgres::shared()).await;
    let login = format!("{}_reports", database.role);
    let rights = format!(
        "CREATE ROLE {login} LOGIN PASSWORD 'sesame'; GRANT ALL ON a TO {login}; GRANT pg_read_all_stats TO {}",
        database.role
    );
    database.admin(&rights).await;
    let policy = Blockers::TerminateIdleInTransaction { older_than: Duration::ZERO };
    let mut engine = engine(&database, policy, Duration::from_secs(3)).await;
    let url = database.url.replace(&format!("{}:{}", database.role, database.password), &format!("{login}:sesame"));
    let options: PgConnectOptions = url.parse().unwrap();
    let (mut one, mut two) = (options.connect().await.unwrap(), database.superuser().await);
    for other in [&mut one, &mut two] {
        say(other, "BEGIN; LOCK TABLE a IN ACCESS SHARE MODE").await;
    }
    let (applied, seen) = apply_beside(&mut engine, ALTER, async |_| {}).await;
    assert_eq!(applied.unwrap_err().reason(), Reason::LockTimeout);
    one.ping().await.unwrap();
    two.ping().await.unwrap();
    let missing: Vec<_> = seen.iter().flatten().filter_map(|blocker| blocker.missing.as_deref()).collect();
    let grant = format!("GRANT pg_signal_backend TO \"{}\";", database.role);
    assert!(missing.contains(&&*grant), "{missing:?}");
    assert!(missing.contains(&"only a superuser may end or cancel a superuser's session"), "{missing:?}");
    assert_eq!(database.value(EVENTS).await, None);
}

#[tokio::test]
async fn between_two_tries_no_lock_is_held() {
    let database = database(Postgres::shared()).await;
    database
        .admin(&format!(
            "CREATE TABLE b (id int); ALTER TABLE b OWNER TO {0}; CREATE TABLE c (id int); ALTER TABLE c OWNER TO {0}",
            database.role
        ))
        .await;
    let mut engine = engine(&database, Blockers::Wait, Duration::from_secs(60)).await;
    let mut other = database.superuser().await;
    say(&mut other, "BEGIN; LOCK TABLE c IN ACCESS SHARE MODE").await;
    let text = "ALTER TABLE a ADD COLUMN x int; ALTER TABLE b ADD COLUMN x int; ALTER TABLE c ADD COLUMN x int";
    let scripts = scripts(&[("001_a.sql", text)]);
    let (run, never) = (run(), CancellationToken::new());
    let apply = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &never);
    let mut seen_waiting = false;
    let mut seen_resting = 0;
    let look = async {
        let mut admin = database.superuser().await;
        let session = format!(
            "FROM pg_stat_activity a WHERE a.usename = '{}' AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid \
                               AND l.locktype = 'advisory')",
            database.role
        );
        let state = format!("SELECT state || state_change {session}");
        let locks =
            format!("SELECT (SELECT string_agg(DISTINCT locktype, ' ') FROM pg_locks l WHERE l.pid = a.pid) {session}");
        while seen_resting < 50 || !seen_waiting {
            let mut ask = async |sql: &str| -> String {
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut admin).await.unwrap()
            };
            // What is held is asked for between two looks at the state: it did not change meanwhile.
            let (before, held, after) = (ask(&state).await, ask(&locks).await, ask(&state).await);
            seen_waiting |= held.contains("relation");
            if seen_waiting && before == after && before.starts_with("idle") {
                assert_eq!(held, "advisory", "{before}");
                seen_resting += 1;
            }
        }
        say(&mut other, "COMMIT").await;
    };
    let (applied, ()) = tokio::join!(apply, look);
    applied.unwrap();
}

/// A server whose autovacuum is at work on the table `a` at once, and would be for minutes.
async fn with_autovacuum(server: &Postgres, setup: &str) -> TestDatabase {
    let database = database(server).await;
    database.admin(&format!("{setup}; INSERT INTO a SELECT generate_series(1, 20000); DELETE FROM a")).await;
    let works = "SELECT (count(*) > 0)::text FROM pg_stat_progress_vacuum v WHERE v.relid = 'a'::regclass";
    eventually("autovacuum works", Duration::from_secs(90), async || {
        (database.value(works).await? == "true").then_some(())
    })
    .await;
    database
}

const SLOW: &str = "ALTER TABLE a SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, \
                    autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)";

#[tokio::test]
async fn an_autovacuum_gives_way_and_is_called_by_its_name() {
    let server = Postgres::start_with(&["autovacuum_naptime = 1s"]);
    let database = with_autovacuum(&server, SLOW).await;
    database.admin(&format!("GRANT pg_read_all_stats TO {}", database.role)).await;
    let mut engine = engine(&database, Blockers::Wait, Duration::from_secs(60)).await;
    let (applied, seen) = apply_beside(&mut engine, ALTER, async |blocker| {
        assert_eq!(blocker.command.as_deref(), Some("autovacuum"), "{blocker:?}");
    })
    .await;
    applied.unwrap();
    assert!(!seen.concat().is_empty());
}

#[tokio::test]
async fn an_autovacuum_against_wraparound_is_called_so_and_left_alone() {
    let server = Postgres::start_with(&[
        "autovacuum_naptime = 1s",
        "autovacuum_freeze_max_age = 100000",
        "synchronous_commit = off",
    ]);
    let burn = "CREATE PROCEDURE burn() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..100100 LOOP PERFORM pg_current_xact_id(); COMMIT; \
                END LOOP; END $$";
    let early = database(&server).await;
    early.admin(burn).await;
    // No other autovacuum may come first: one against wraparound comes all the same.
    early
        .admin(
            "ALTER TABLE a SET (autovacuum_enabled = false, autovacuum_vacuum_cost_delay = 100, \
             autovacuum_vacuum_cost_limit = 1); INSERT INTO a SELECT generate_series(1, 20000)",
        )
        .await;
    early.admin("CALL burn()").await;
    let works = "SELECT (count(*) > 0)::text FROM pg_stat_progress_vacuum v WHERE v.relid = 'a'::regclass";
    eventually("autovacuum works", Duration::from_secs(90), async || {
        (early.value(works).await? == "true").then_some(())
    })
    .await;
    early.admin(&format!("GRANT pg_read_all_stats TO {}", early.role)).await;
    let policy = Blockers::TerminateIdleInTransaction { older_than: Duration::ZERO };
    let mut engine = engine(&early, policy, Duration::from_secs(4)).await;
    let (applied, _) = apply_beside(&mut engine, ALTER, async |blocker| {
        assert_eq!(blocker.command.as_deref(), Some("autovacuum (to prevent wraparound)"), "{blocker:?}");
    })
    .await;
    assert_eq!(applied.unwrap_err().reason(), Reason::LockTimeout);
    assert_eq!(early.value(works).await.as_deref(), Some("true"));
}
