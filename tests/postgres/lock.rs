use belay::api::Reason;

use super::scripts::{apply, claimed};
use crate::support::postgres::Postgres;
use crate::support::{SOON, eventually};

#[tokio::test]
async fn of_two_engines_only_one_gets_the_lock_and_the_other_learns_whose_it_is() {
    let database = Postgres::shared().database().await;
    let mut first = database.engine().await;
    let mut second = database.engine().await;
    assert!(first.try_lock().await.unwrap());
    assert!(!second.try_lock().await.unwrap());
    let holder = second.lock_holder().await.unwrap().unwrap();
    assert_eq!((holder.user.as_str(), holder.application.as_str()), (database.role.as_str(), "belay/test"));
    assert!(holder.since.is_some() && holder.pid > 0);

    first.close().await;
    eventually("the lock is free", SOON, async || second.try_lock().await.unwrap().then_some(())).await;
}

#[tokio::test]
async fn databases_of_one_server_do_not_wait_for_each_other() {
    let mut first = Postgres::shared().database().await.engine().await;
    let mut second = Postgres::shared().database().await.engine().await;
    assert!(first.try_lock().await.unwrap());
    assert!(second.try_lock().await.unwrap());
}

#[tokio::test]
async fn a_script_that_releases_the_lock_gets_no_ledger_row_and_is_rolled_back() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let script = "CREATE TABLE a (id int); SELECT pg_advisory_unlock_all();";
    let error = apply(&mut engine, &[("001_a.sql", script)]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::LockLost);
    assert!(error.to_string().contains("Nothing of 001 is applied."), "{error}");
    assert!(!engine.holds_lock());
    assert_eq!(database.value("SELECT to_regclass('a')::text").await, None);
    assert_eq!(database.value("SELECT count(*)::text FROM belay.history").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_statement_that_releases_the_lock_is_said_to_leave_those_before_it() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let script = "-- belay: no-transaction\nCREATE TABLE a (id int);\nSELECT pg_advisory_unlock_all();";
    let error = apply(&mut engine, &[("001_a.sql", script)]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::LockLost);
    assert!(error.to_string().contains("The statements of 001 before this one are applied"), "{error}");
    assert!(error.is_held());
}

#[tokio::test]
async fn without_the_lock_nothing_is_written() {
    let database = Postgres::shared().database().await;
    let mut engine = database.engine().await;
    assert_eq!(engine.claim("cluster/test/test").await.unwrap_err().reason(), Reason::LockHeld);
    assert_eq!(apply(&mut engine, &[("001_a.sql", "SELECT 1")]).await.unwrap_err().reason(), Reason::LockHeld);
    assert_eq!(database.value("SELECT 'there' FROM pg_namespace WHERE nspname = 'belay'").await, None);
}

#[tokio::test]
async fn a_lock_is_confirmed_by_the_server_and_a_lost_connection_noticed() {
    let database = Postgres::shared().database().await;
    let mut engine = database.engine().await;
    assert!(!engine.confirm_lock().await.unwrap());
    assert!(engine.try_lock().await.unwrap());
    assert!(engine.confirm_lock().await.unwrap());
    let kill = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", database.role);
    database.admin(&kill).await;
    let error = engine.confirm_lock().await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectionLost, "{error}");
    assert!(!engine.holds_lock());
}
