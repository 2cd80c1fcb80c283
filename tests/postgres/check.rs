//! A health check's query, which may be anything that a person writes.

use std::time::Duration;

use belay::api::Reason;
use belay::postgres::{Answer, Engine, Target};

use super::scripts::claimed;
use crate::support::postgres::Postgres;
use crate::support::proxy::{AtCommit, Proxy};
use crate::support::{SOON, eventually};

#[tokio::test]
async fn of_a_query_that_gives_several_rows_no_more_than_two_are_waited_for() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    // Each row fills a packet, and all of them take days.
    let rows = "SELECT repeat('x', 10000), pg_sleep(0.01), generate_series(1, 100000000)";
    let asked = engine.check(rows, Duration::from_secs(3600));
    let error = tokio::time::timeout(SOON, asked).await.expect("it is stopped").unwrap_err();
    assert_eq!(error.reason(), Reason::CheckRefused);
    assert!(error.to_string().contains("several rows"), "{error}");
    // The connection and the lock are as before.
    assert!(engine.confirm_lock().await.unwrap());
    assert_eq!(engine.check("SELECT true", SOON).await.unwrap(), Answer::True);
}

#[tokio::test]
async fn a_check_ends_when_its_connection_falls_silent() {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(Postgres::shared().port, AtCommit::Pass).await;
    let url = database.url.replace(&Postgres::shared().port.to_string(), &proxy.port.to_string());
    let mut engine = claimed(Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap()).await;
    let asked = engine.check("SELECT pg_sleep(600) IS NULL", Duration::from_secs(5));
    let silence = async {
        let query = format!(
            "SELECT pid::text FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
            database.role
        );
        eventually("it is asked", SOON, async || database.value(&query).await).await;
        proxy.silence();
    };
    let both = async { tokio::join!(asked, silence) };
    let (asked, ()) = tokio::time::timeout(SOON * 2, both).await.expect("it ends");
    let error = asked.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectionLost, "{error}");
}
