//! Another server takes over in the middle of a run: a real standby, promoted. Or a commit waits for one that is away.

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Progress, Target};
use tokio_util::sync::CancellationToken;

use super::apply::history;
use super::scripts::{claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::proxy::{AtCommit, Proxy};
use crate::support::{SOON, eventually};

/// Waits at the gate in its second script.
const SCRIPTS: &[(&str, &str)] = &[
    ("001_a.sql", "CREATE TABLE a (); INSERT INTO ran VALUES (1)"),
    (
        "002_b.sql",
        "INSERT INTO ran VALUES (2);\nDO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.005); END LOOP; \
         END $$;\nCREATE TABLE b ()",
    ),
    ("003_c.sql", "INSERT INTO ran VALUES (3)"),
];

struct Pair {
    primary: Postgres,
    standby: Postgres,
    database: TestDatabase,
    proxy: Proxy,
}

impl Pair {
    /// A primary, its standby, a database with Belay's connection to it behind one address.
    async fn start() -> (Self, Engine) {
        let primary = Postgres::start_with(&["wal_level = replica", "max_wal_senders = 4"]);
        let database = primary.database().await;
        database.admin("CREATE TABLE ran (id int); GRANT ALL ON ran TO PUBLIC; CREATE TABLE gate (); GRANT ALL ON gate TO PUBLIC").await;
        let standby = Postgres::standby_of(&primary);
        let proxy = Proxy::start(primary.port, AtCommit::Pass).await;
        let url = database.url.replace(&primary.port.to_string(), &proxy.port.to_string());
        let engine = claimed(Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap()).await;
        (Self { primary, standby, database, proxy }, engine)
    }

    async fn caught_up(&self) {
        let query =
            "SELECT (count(*) = 1 AND bool_and(replay_lsn >= pg_current_wal_lsn()))::text FROM pg_stat_replication";
        eventually("the standby has all of it", SOON, async || {
            (self.database.value(query).await? == "true").then_some(())
        })
        .await;
    }

    /// The primary dies, the standby takes its place and its address, and the gate opens.
    async fn fail_over(self) -> (TestDatabase, Postgres, Postgres) {
        self.primary.stop_immediately();
        self.proxy.point_to(self.standby.port);
        // It is met as a standby first, which is read-only.
        self.standby.promote();
        let database = self.database.at(&self.standby);
        database.admin("INSERT INTO gate DEFAULT VALUES").await;
        (database, self.standby, self.primary)
    }
}

/// Applies the scripts, and does `then` once the second waits at the gate.
async fn apply_and<T>(engine: &mut Engine, then: impl AsyncFnOnce() -> T) -> (Result<(), ApplyError>, T) {
    let at_gate = tokio::sync::Notify::new();
    let tell = |at: Progress<'_>| {
        if at.number == 2 && at.statement == 2 {
            at_gate.notify_one();
        }
    };
    let scripts = scripts(SCRIPTS);
    let (run, never) = (run(), CancellationToken::new());
    let apply = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    let beside = async {
        at_gate.notified().await;
        then().await
    };
    let both = async { tokio::join!(apply, beside) };
    tokio::time::timeout(SOON * 2, both).await.expect("it ends")
}

#[tokio::test]
async fn a_run_goes_on_at_the_server_that_took_over_and_each_script_runs_once() {
    let (pair, mut engine) = Pair::start().await;
    let identity = engine.identity().clone();
    let (applied, (database, _standby, _primary)) = apply_and(&mut engine, async || {
        pair.caught_up().await;
        pair.fail_over().await
    })
    .await;
    applied.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
    let ran = database.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM ran").await;
    assert_eq!(ran.as_deref(), Some("1 2 3"));
    assert!(engine.holds_lock());
    assert!(identity.system_identifier.is_some() && engine.identity() == &identity, "it is the same database");
}

#[tokio::test]
async fn at_a_server_that_took_over_without_the_last_commits_nothing_more_is_done_before_the_ledger_is_read_again() {
    let (pair, mut engine) = Pair::start().await;
    pair.caught_up().await;
    // What is committed from now on never gets there.
    let mut standby = pair.standby.superuser("postgres").await;
    sqlx::raw_sql("ALTER SYSTEM SET primary_conninfo = ''").execute(&mut standby).await.unwrap();
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut standby).await.unwrap();
    let query = "SELECT count(*)::text FROM pg_stat_replication";
    eventually("it follows no more", SOON, async || (pair.database.value(query).await? == "0").then_some(())).await;

    let (applied, (database, _standby, _primary)) = apply_and(&mut engine, async || pair.fail_over().await).await;
    let error = applied.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectionLost);
    assert!(error.to_string().contains("lost scripts that were applied"), "{error}");
    assert_eq!(history(&database).await, "", "the first script is gone, and the second was not run without it");
    assert_eq!(database.value("SELECT count(*)::text FROM ran").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_commit_that_waits_for_a_standby_is_waited_for_also_when_its_connection_is_lost() {
    let primary = Postgres::start_with(&["wal_level = replica", "max_wal_senders = 4"]);
    let database = primary.database().await;
    database.admin("CREATE TABLE ran (id int); GRANT ALL ON ran TO PUBLIC; CREATE TABLE gate ()").await;
    database.admin("GRANT ALL ON gate TO PUBLIC").await;
    let proxy = Proxy::start(primary.port, AtCommit::Pass).await;
    let url = database.url.replace(&primary.port.to_string(), &proxy.port.to_string());
    let mut engine = claimed(Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap()).await;
    let waiting = |pid: &str| {
        format!(
            "SELECT pid::text FROM pg_stat_activity WHERE usename = '{}' AND pid::text LIKE '{pid}' AND wait_event = 'SyncRep'",
            database.role
        )
    };

    let (applied, ()) = apply_and(&mut engine, async || {
        // A standby that is away.
        database.admin("ALTER SYSTEM SET synchronous_standby_names = 'away'").await;
        database.admin("SELECT pg_reload_conf()").await;
        let mut beside = database.superuser().await;
        let beside = sqlx::raw_sql("CREATE TABLE beside ()").execute(&mut beside);
        let opened = async {
            let heard = "SELECT pid::text FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE beside%' AND wait_event = 'SyncRep'";
            eventually("the server waits for it", SOON, async || database.value(heard).await).await;
            database.admin("SET synchronous_commit = local; INSERT INTO gate DEFAULT VALUES").await;
            let old = eventually("the commit waits", SOON, async || database.value(&waiting("%")).await).await;
            proxy.cut(false);
            // Belay is there again, and has tried for the lock.
            let tried = format!(
                "SELECT max(query_start)::text FROM pg_stat_activity WHERE usename = '{}' AND query LIKE '%pg_try_advisory_lock%'",
                database.role
            );
            let first = eventually("it is back", SOON, async || database.value(&tried).await).await;
            eventually("it tries again", SOON, async || database.value(&tried).await.filter(|at| *at != first)).await;
            assert_eq!(database.value(&waiting(&old)).await, Some(old), "the commit is still on its way");
            assert_eq!(history(&database).await, "001");
            database.admin("ALTER SYSTEM RESET synchronous_standby_names").await;
            database.admin("SELECT pg_reload_conf()").await;
        };
        tokio::join!(async { beside.await.map(drop).unwrap() }, opened);
    })
    .await;
    applied.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
    let ran = database.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM ran").await;
    assert_eq!(ran.as_deref(), Some("1 2 3"));
}
