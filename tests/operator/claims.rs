//! One writer a database: locks, rivals, claimants.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};

use crate::shop::{SOON, Shop, ready};
use crate::support::operator::Operator;

const ONE: [(&str, &str); 1] = [("001_a.sql", "create table a ();")];

#[tokio::test]
async fn a_lock_that_another_session_holds_is_waited_for_and_its_holder_named() {
    let shop = Shop::new("lock").await;
    let mut other = shop.database.owner().await;
    let take = format!("SET application_name = 'nightly-job'; SELECT pg_advisory_lock({})", belay::postgres::LOCK_KEY);
    sqlx::raw_sql(AssertSqlSafe(take)).execute(&mut other).await.expect("the lock");
    let _operator = shop.operator();
    shop.migrate(&ONE).await;
    let status = shop.reason("LockHeld").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("nightly-job") && message.contains(&shop.database.role), "{message}");
    assert_eq!(shop.tables().await, "");
    other.close().await.expect("the other session ends");
    shop.reason("Succeeded").await;
}

#[tokio::test]
async fn a_session_that_a_script_waits_for_is_named_while_it_waits_and_not_after() {
    let shop = Shop::new("blocked").await;
    shop.migrate(&ONE).await;
    let operator = shop.operator();
    shop.reason("Succeeded").await;
    let mut other = shop.database.owner().await;
    let take = "SET application_name = 'report'; BEGIN; SELECT * FROM a";
    sqlx::raw_sql(take).execute(&mut other).await.expect("a lock on the table");
    shop.migrate(&[ONE[0], ("002_b.sql", "alter table a add column b int;")]).await;
    let waiting = async || {
        let run = shop.status().await["run"].clone();
        (run["waitingOn"][0]["application"] == "report").then_some(run)
    };
    let run = shop.namespace.wait_for("waitingOn", SOON, waiting).await;
    assert_eq!(run["script"], "002_b.sql");
    let blocker = &run["waitingOn"][0];
    assert_eq!(blocker["lock"], "AccessExclusiveLock", "{blocker}");
    assert!(blocker["relations"][0].as_str().is_some_and(|name| name.ends_with('a')), "{blocker}");
    assert!(!blocker.to_string().contains("FROM a"), "never its query: {blocker}");
    other.close().await.expect("the other session ends");
    let status = shop.reason("Succeeded").await;
    assert_eq!((&status["version"], status.get("run")), (&json!("002"), None));
    drop(operator);
}

#[tokio::test]
async fn of_two_migrations_on_one_database_the_older_keeps_it() {
    let shop = Shop::new("rivals").await;
    let _operator = shop.operator();
    shop.migrate(&ONE).await;
    shop.reason("Succeeded").await;
    shop.migration("younger", &[("001_x.sql", "create table x ();")], json!({})).await;
    let status = shop.reason_of("younger", "DatabaseInUse").await;
    assert!(ready(&status)["message"].as_str().is_some_and(|message| message.contains("Migration shop")), "{status}");
    assert_eq!(shop.tables().await, "a");
}

#[tokio::test]
async fn a_ledger_that_another_object_claims_is_left_alone() {
    let shop = Shop::new("claimed").await;
    let _operator = shop.operator();
    shop.migrate(&ONE).await;
    shop.reason("Succeeded").await;
    shop.namespace.kubectl(&["delete", "migration", "shop"]);
    shop.migration("other", &[("001_a.sql", "create table a ();"), ("002_b.sql", "create table b ();")], json!({}))
        .await;
    let status = shop.reason_of("other", "DatabaseInUse").await;
    let owner = format!("/{}/shop", shop.namespace.name);
    assert!(ready(&status)["message"].as_str().is_some_and(|message| message.contains(&owner)), "{status}");
    assert_eq!(shop.tables().await, "a");
}

#[tokio::test]
async fn of_two_clusters_with_the_same_object_one_has_the_ledger() {
    let shop = Shop::new("clusters").await;
    let of_cluster =
        |cluster| Operator::start_as(&shop.namespace, &[("BELAY_LOG", "debug"), ("BELAY_CLUSTER", cluster)]);
    let east = of_cluster("east");
    shop.migrate(&ONE).await;
    shop.reason("Succeeded").await;
    // The very same objects, as Git has them: only the cluster is another.
    shop.namespace.kubectl(&["delete", "migration", "shop"]);
    east.kill();
    let two = [ONE[0], ("002_b.sql", "create table b ();")];
    shop.migrate(&two).await;
    let west = of_cluster("west");
    let status = shop.reason("DatabaseInUse").await;
    let owner = format!("east/{}/shop", shop.namespace.name);
    assert!(ready(&status)["message"].as_str().is_some_and(|message| message.contains(&owner)), "{status}");
    assert_eq!(shop.tables().await, "a");
    west.kill();
    let _east = of_cluster("east");
    shop.reason("Succeeded").await;
    assert_eq!(shop.tables().await, "a,b");
}

#[tokio::test]
async fn two_histories_in_one_database_take_turns() {
    let shop = Shop::new("histories").await;
    shop.apply(&json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": "audit" },
        "spec": {
            "connection": { "secretRef": { "name": "shop-postgres" } }, "backup": { "when": "Never" },
            "historySchema": "audit_history", "searchPath": ["audit"],
        },
    }))
    .await;
    shop.database.admin(&format!("create schema audit authorization {}", shop.database.role)).await;
    shop.migrate(&[("001_a.sql", "select pg_sleep(0.5); create table a ();")]).await;
    shop.apply(&json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": "audit" },
        "spec": { "databaseRef": { "name": "audit" }, "source": { "inline": { "001_log.sql": "select pg_sleep(0.5); create table log ();" } } },
    })).await;
    let _operator = shop.operator();
    shop.reason("Succeeded").await;
    shop.reason_of("audit", "Succeeded").await;
    assert_eq!(shop.database.value("select to_regclass('audit.log')::text").await.as_deref(), Some("audit.log"));
}

#[tokio::test]
async fn a_deleted_idle_migration_is_let_go_at_once() {
    let shop = Shop::new("idle").await;
    let _operator = shop.operator();
    shop.migrate(&ONE).await;
    shop.reason("Succeeded").await;
    shop.namespace.kubectl(&["delete", "migration", "shop", "--timeout=30s"]);
    let gone = async || shop.namespace.get("Migration", "shop").await.is_none().then_some(());
    shop.namespace.wait_for("its end", SOON, gone).await;
    assert_eq!(shop.ledger().await, "001", "the ledger stays as it is");
}

#[tokio::test]
async fn when_the_older_migration_goes_the_younger_one_takes_over_at_once() {
    let shop = Shop::new("successor").await;
    shop.migrate_with(&ONE, json!({ "source": { "digest": format!("sha256:{}", "0".repeat(64)) } })).await;
    let _operator = shop.operator();
    shop.reason("InvalidSource").await;
    shop.migration("younger", &ONE, json!({})).await;
    shop.reason_of("younger", "DatabaseInUse").await;
    shop.namespace.kubectl(&["delete", "migration", "shop"]);
    shop.reason_of("younger", "Succeeded").await;
}
