use belay::api::Reason;
use belay::postgres::{Engine, Target};
use sqlx::Connection;

use super::apply::history;
use super::scripts::{apply, claimed};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, TestDatabase};

/// What PgBouncer is told so that it takes startup options, and drops them.
const IGNORING: &str = "ignore_startup_parameters = options";

async fn refused(url: &str) {
    let error = Engine::connect(Target::from_url(url).unwrap(), "belay/test").await.expect_err("it is refused");
    assert_eq!(error.reason(), Reason::PoolerDetected, "{error}");
}

/// Another client of the pooler, at rest: its session is in the pool.
async fn neighbour(url: &str) -> sqlx::PgConnection {
    let url = url.replace("?sslmode=disable", "?sslmode=disable&application_name=neighbour");
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let mut neighbour = sqlx::PgConnection::connect_with(&options.extra_float_digits(None)).await.unwrap();
    sqlx::raw_sql("SELECT 1").execute(&mut neighbour).await.unwrap();
    neighbour
}

async fn nothing_was_set(database: &TestDatabase) {
    let role = &database.role;
    let query = format!(
        "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid IN (SELECT pid FROM pg_stat_activity WHERE usename = '{role}')"
    );
    assert_eq!(database.value(&query).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_with_one_client() {
    let server = Postgres::shared();
    for more in [
        "",
        IGNORING,
        "ignore_startup_parameters = options\nserver_round_robin = 1",
        "ignore_startup_parameters = options\ndefault_pool_size = 1",
    ] {
        let database = server.database().await;
        let pooler = PgBouncer::start(server, &database, "transaction", more).await;
        refused(&pooler.url).await;
        // Nor the second time, when there are sessions in the pool.
        refused(&pooler.url).await;
        nothing_was_set(&database).await;
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_with_two_clients() {
    let server = Postgres::shared();
    for more in ["", IGNORING, "ignore_startup_parameters = options\nserver_round_robin = 1"] {
        let database = server.database().await;
        let pooler = PgBouncer::start(server, &database, "transaction", more).await;
        let _first = neighbour(&pooler.url).await;
        let mut second = neighbour(&pooler.url).await;
        // One of them works, so that there is more than one session.
        sqlx::raw_sql("BEGIN; SELECT 1").execute(&mut second).await.unwrap();
        refused(&pooler.url).await;
        nothing_was_set(&database).await;
    }
}

#[tokio::test]
async fn a_pooler_in_session_mode_is_good_enough() {
    let server = Postgres::shared();
    for more in ["", IGNORING, "ignore_startup_parameters = options\ndefault_pool_size = 1"] {
        let database = server.database().await;
        let pooler = PgBouncer::start(server, &database, "session", more).await;
        let mut engine =
            claimed(Engine::connect(Target::from_url(&pooler.url).unwrap(), "belay/test").await.unwrap()).await;
        apply(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int)")]).await.unwrap();
        assert_eq!(history(&database).await, "001");
    }
}
