use std::time::Duration;

use belay::backup::{BackupError, take};

use super::fixture::{Folder, belay, clients, request, with_ledger};
use crate::support::postgres::Postgres;
use crate::support::{SOON, eventually};

#[tokio::test]
async fn a_lock_that_is_not_to_be_had_says_who_holds_it_and_leaves_nothing() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let store = Folder::new();
    let mut other = database.owner().await;
    sqlx::raw_sql("set application_name = 'nightly'; begin; lock table orders in access exclusive mode")
        .execute(&mut other)
        .await
        .unwrap();
    let mut wanted = request(&database, &store);
    wanted.lock_wait = Duration::from_millis(200);
    let error = take(&wanted).await.unwrap_err();
    assert!(matches!(error, BackupError::LockWait { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("longer than 200ms for a lock on"), "{message}");
    assert!(message.contains(&format!("user {}, application nightly", database.role)), "{message}");
    assert!(message.contains("orders") && message.contains("tried once"), "{message}");
    assert!(store.files().is_empty(), "{:?}", store.files());
}

#[tokio::test]
async fn a_lock_that_is_not_to_be_had_ends_the_command_so_that_it_may_be_tried_again() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let store = Folder::new();
    let mut other = database.owner().await;
    sqlx::raw_sql("begin; lock table orders in access exclusive mode").execute(&mut other).await.unwrap();
    let mut command = belay();
    command.args(["backup", "--lock-wait=200ms", "--retry-for=0s"]).env("DATABASE_URL", &database.url);
    command.arg("--clients").arg(clients()).arg("--store").arg(store.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(store.files().is_empty(), "{:?}", store.files());
}

#[tokio::test]
async fn a_lock_is_waited_for_by_several_tries_and_each_has_its_own_snapshot() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let store = Folder::new();
    let mut other = database.owner().await;
    sqlx::raw_sql("begin; lock table orders in access exclusive mode").execute(&mut other).await.unwrap();
    let mut wanted = request(&database, &store);
    wanted.lock_wait = Duration::from_millis(100);
    wanted.retry_for = SOON;
    let taking = tokio::spawn(async move { take(&wanted).await });
    // The first try is over when its file is gone again.
    eventually("a try begins", SOON, async || (!store.files().is_empty()).then_some(())).await;
    eventually("a try ends", SOON, async || store.files().is_empty().then_some(())).await;
    sqlx::raw_sql("insert into belay.history values ('2'); commit").execute(&mut other).await.unwrap();
    let record = taking.await.unwrap().unwrap();
    assert_eq!(record.taken.ledger_version.as_deref(), Some("2"), "not the first try's");
}

#[tokio::test]
async fn a_locked_ledger_is_a_lock_too() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let store = Folder::new();
    let mut other = database.owner().await;
    sqlx::raw_sql("begin; lock table belay.history in access exclusive mode").execute(&mut other).await.unwrap();
    let mut wanted = request(&database, &store);
    wanted.lock_wait = Duration::from_millis(100);
    let error = take(&wanted).await.unwrap_err();
    assert!(matches!(error, BackupError::LockWait { .. }), "{error}");
    assert!(error.to_string().contains("history"), "{error}");
}
