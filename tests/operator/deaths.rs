//! Whatever dies, each script's effects are there exactly once.

use crate::shop::{SOON, Shop};
use crate::support::operator::Operator;
use crate::support::postgres::Postgres;

/// Effects that would show if a script ran twice, or half.
const COUNTED: [(&str, &str); 3] = [
    ("001_log.sql", "create table log (script text);"),
    ("002_one.sql", "insert into log values ('002');"),
    ("003_two.sql", "insert into log values ('003'); create table done ();"),
];

async fn exactly_once(shop: &Shop) {
    let status = shop.reason("Succeeded").await;
    assert_eq!(status["version"], "003");
    let log = "SELECT string_agg(script, ',' ORDER BY script) FROM log";
    assert_eq!(shop.database.value(log).await.as_deref(), Some("002,003"));
    assert_eq!((shop.ledger().await, shop.tables().await), ("001,002,003".to_owned(), "done,log".to_owned()));
    assert_eq!(status["history"].as_array().map(Vec::len), Some(1), "one run, whoever finished it: {status}");
}

/// The operator is killed at the failpoint; the next one brings the run to its end.
async fn killed_at(failpoint: &str) {
    let shop = Shop::new("killed").await;
    let mut doomed = Operator::start_with(&shop.namespace, Some(failpoint));
    shop.migrate(&COUNTED).await;
    shop.namespace.wait_for("the operator's death", SOON, async || doomed.ended()).await;
    let _operator = shop.operator();
    exactly_once(&shop).await;
}

#[tokio::test]
async fn killed_after_the_lock_was_taken() {
    killed_at("after-lock").await;
}

#[tokio::test]
async fn killed_before_a_script_is_sent() {
    killed_at("before-script:2").await;
}

#[tokio::test]
async fn killed_before_each_commit() {
    for n in 1..=3 {
        killed_at(&format!("before-commit:{n}")).await;
    }
}

#[tokio::test]
async fn killed_after_each_commit() {
    for n in 1..=3 {
        killed_at(&format!("after-commit:{n}")).await;
    }
}

#[tokio::test]
async fn killed_in_mid_script() {
    let shop = Shop::new("midscript").await;
    let operator = shop.operator();
    let slow = "insert into log values ('003'); select pg_sleep(2); create table done ();";
    shop.migrate(&[COUNTED[0], COUNTED[1], ("003_two.sql", slow)]).await;
    shop.until(
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
        "1",
    )
    .await;
    operator.kill();
    let _operator = shop.operator();
    exactly_once(&shop).await;
}

#[tokio::test]
async fn a_server_that_stops_in_mid_script_is_waited_for() {
    let server = Postgres::start();
    let shop = Shop::on(&server, "stopped").await;
    shop.apply_database(serde_json::json!({})).await;
    let _operator = shop.operator();
    let slow = "insert into log values ('003'); select pg_sleep(2); create table done ();";
    shop.migrate(&[COUNTED[0], COUNTED[1], ("003_two.sql", slow)]).await;
    shop.until(
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
        "1",
    )
    .await;
    server.stop_immediately();
    server.start_again();
    exactly_once(&shop).await;
}

#[tokio::test]
async fn an_operator_that_is_asked_to_stop_finishes_the_script_in_hand() {
    let shop = Shop::new("drained").await;
    let mut operator = shop.operator();
    shop.migrate(&[
        COUNTED[0],
        COUNTED[1],
        ("003_two.sql", "select pg_sleep(2); insert into log values ('003'); create table done ();"),
    ])
    .await;
    shop.until(
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
        "1",
    )
    .await;
    operator.terminate();
    let success = shop.namespace.wait_for("the operator's end", SOON, async || operator.ended()).await;
    assert!(success, "{}", operator.log());
    assert_eq!(shop.ledger().await, "001,002,003", "the script in hand was finished");
    let _operator = shop.operator();
    exactly_once(&shop).await;
}
