use belay::api::Reason;
use belay::postgres::{Engine, Target};

use super::apply::history;
use super::scripts::{apply, claimed};
use crate::support::postgres::Postgres;
use crate::support::{SOON, eventually};

#[tokio::test]
async fn a_standby_is_refused_until_it_is_promoted_and_is_then_the_same_database() {
    let primary = Postgres::start_with(&["wal_level = replica", "max_wal_senders = 4"]);
    let database = primary.database().await;
    let mut engine = claimed(database.engine().await).await;
    apply(&mut engine, &[("001_a.sql", "CREATE TABLE a ()")]).await.unwrap();
    let identity = engine.identity().clone();
    engine.close().await;
    let standby = Postgres::standby_of(&primary);
    // It streams, and has what was done since it was copied.
    database.admin("CREATE TABLE later ()").await;
    let caught_up =
        "SELECT (count(*) = 1 AND bool_and(replay_lsn >= pg_current_wal_lsn()))::text FROM pg_stat_replication";
    eventually("the standby has all of it", SOON, async || (database.value(caught_up).await? == "true").then_some(()))
        .await;

    let at_standby = database.url.replace(&primary.port.to_string(), &standby.port.to_string());
    let target = Target::from_url(&at_standby).unwrap();
    let error = Engine::connect(target.clone(), "belay/test").await.unwrap_err();
    assert_eq!(error.reason(), Reason::ReadOnlyServer);
    assert!(error.is_transient(), "it may be promoted");
    let text = error.to_string();
    assert!(text.contains("it is a standby. Connect to the primary."), "{text}");

    primary.stop_fast();
    standby.promote();
    let database = database.at(&standby);
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    assert!(identity.system_identifier.is_some() && engine.identity() == &identity);
    apply(&mut engine, &[("002_b.sql", "CREATE TABLE b ()")]).await.unwrap();
    assert_eq!(history(&database).await, "001 002");
}
