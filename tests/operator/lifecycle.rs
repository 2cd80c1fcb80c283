//! What a Migration does from its creation to its end.

use serde_json::json;

use crate::refusal::Refusal;
use crate::shop::{SOON, Shop, condition, ready};

const TWO: [(&str, &str); 2] = [("001_a.sql", "create table a (id int);"), ("002_b.sql", "create table b (id int);")];

#[tokio::test]
async fn a_created_migration_becomes_ready_at_its_latest_version() {
    let shop = Shop::new("created").await;
    let _operator = shop.operator();
    shop.migrate(&TWO).await;
    let status = shop.reason("Succeeded").await;
    assert_eq!(ready(&status)["status"], "True");
    assert_eq!((&status["version"], &status["target"], &status["pending"]), (&json!("002"), &json!("002"), &json!(0)));
    assert_eq!(condition(&status, "Applied")["status"], "True");
    assert_eq!(status["history"][0]["outcome"], "Succeeded");
    assert!(status.get("run").is_none(), "no run is in progress: {status}");
    assert_eq!((shop.ledger().await, shop.tables().await), ("001,002".to_owned(), "a,b".to_owned()));
}

#[tokio::test]
async fn the_finalizer_is_there_only_while_a_run_is_in_progress() {
    let shop = Shop::new("finalizer").await;
    let _operator = shop.operator();
    shop.migrate(&[("001_slow.sql", "select pg_sleep(1); create table a ();")]).await;
    let finalizers =
        async || shop.namespace.get("Migration", "shop").await.map(|m| m["metadata"]["finalizers"].clone());
    shop.namespace
        .wait_for("the finalizer", SOON, async || (finalizers().await? == json!(["belay.dev/run"])).then_some(()))
        .await;
    shop.reason("Succeeded").await;
    shop.namespace.wait_for("its end", SOON, async || finalizers().await?.is_null().then_some(())).await;
}

#[tokio::test]
async fn nothing_is_applied_before_the_finalizer_stands() {
    let finalizer = json!({ "metadata": { "finalizers": ["example.com/probe"] } });
    applies_only_once_taken("unheld", "migrations", "!has(object.metadata.finalizers)", &finalizer).await;
}

#[tokio::test]
async fn nothing_is_applied_before_the_status_says_that_it_will_be() {
    let run = json!({ "status": { "run": { "id": "probe", "startedAt": "2026-01-01T00:00:00Z" } } });
    applies_only_once_taken("untold", "migrations/status", "!has(object.status.run)", &run).await;
}

/// While the API server refuses one of the two writes before a run, here tried by `probe`, the database stays as it is.
async fn applies_only_once_taken(purpose: &str, resource: &str, condition: &str, probe: &serde_json::Value) {
    let shop = Shop::new(purpose).await;
    let operator = shop.operator();
    shop.migrate_with(&TWO, json!({ "suspend": true })).await;
    shop.reason("Suspended").await;
    let refusal = Refusal::of(&shop.namespace, resource, condition, "shop", probe).await;
    shop.migrate_with(&TWO, json!({ "suspend": false })).await;
    refusal.is_met_twice(&operator).await;
    assert_eq!((shop.ledger().await, shop.tables().await), (String::new(), String::new()));
    assert_eq!(shop.database.value("SELECT to_regnamespace('belay')::text").await, None);
    drop(refusal);
    shop.reason("Succeeded").await;
    assert_eq!(shop.ledger().await, "001,002");
}

#[tokio::test]
async fn a_backup_that_the_api_server_does_not_take_stops_the_run_and_is_told() {
    let shop = Shop::new("quota").await;
    let quota = json!({ "hard": { "count/postgresbackups.belay.dev": "0" } });
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" }, "spec": quota });
    shop.apply(&quota).await;
    let store = json!({ "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "backups" } } } });
    shop.apply_database(json!({ "backup": { "when": "Always", "method": store } })).await;
    let _operator = shop.operator();
    shop.migrate(&TWO).await;
    let status = shop.reason("BackupFailed").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("quota") && message.contains("No script was run"), "{message}");
    assert_eq!(condition(&status, "BackedUp")["status"], "False");
    assert!(status.get("run").is_none(), "{status}");
    // The lock is free for whoever mends it, and so is the object.
    let locks = "SELECT count(*)::text FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                 WHERE d.datname = current_database() AND l.locktype = 'advisory'";
    shop.until(locks, "0").await;
    let free =
        async || shop.namespace.get("Migration", "shop").await?["metadata"].get("finalizers").is_none().then_some(());
    shop.namespace.wait_for("no finalizer", SOON, free).await;
}

#[tokio::test]
async fn a_changed_config_map_acts_at_once() {
    let shop = Shop::new("changed").await;
    let _operator = shop.operator();
    shop.config_map(&[TWO[0], ("README.md", "ignored")]).await;
    shop.migrate_config_map(json!({})).await;
    shop.reason("Succeeded").await;
    shop.config_map(&TWO).await;
    shop.until("SELECT count(*)::text FROM belay.history", "2").await;
    let at_two = async || (shop.status().await["version"] == "002").then_some(());
    shop.namespace.wait_for("version 002", SOON, at_two).await;
}

#[tokio::test]
async fn a_suspended_migration_plans_and_leaves_no_trace_in_the_database() {
    let shop = Shop::new("suspended").await;
    let _operator = shop.operator();
    shop.migrate_with(&TWO, json!({ "suspend": true })).await;
    let status = shop.reason("Suspended").await;
    assert_eq!(condition(&status, "Stalled")["status"], "True");
    assert_eq!(status["pending"], 2);
    assert_eq!(status["plan"][1]["version"], "002");
    assert_eq!(shop.database.value("SELECT to_regnamespace('belay')::text").await, None);
    shop.migrate_with(&TWO, json!({ "suspend": false })).await;
    shop.reason("Succeeded").await;
}

#[tokio::test]
async fn suspending_cancels_a_run_on_the_server_and_rolls_it_back() {
    let shop = Shop::new("suspending").await;
    let _operator = shop.operator();
    let slow = [("001_slow.sql", "create table a (); select pg_sleep(600);")];
    shop.migrate(&slow).await;
    shop.until(
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
        "1",
    )
    .await;
    shop.migrate_with(&slow, json!({ "suspend": true })).await;
    shop.reason("Suspended").await;
    assert_eq!((shop.tables().await, shop.ledger().await), (String::new(), String::new()));
}

#[tokio::test]
async fn deleting_a_migration_in_mid_run_cancels_on_the_server_rolls_back_and_then_lets_it_go() {
    let shop = Shop::new("deleting").await;
    let _operator = shop.operator();
    shop.migrate(&[("001_slow.sql", "create table a (); select pg_sleep(600);")]).await;
    let sleeping =
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    shop.until(sleeping, "1").await;
    shop.namespace.kubectl(&["delete", "migration", "shop", "--timeout=60s"]);
    shop.until(sleeping, "0").await;
    assert_eq!((shop.tables().await, shop.ledger().await), (String::new(), String::new()));
}

#[tokio::test]
async fn a_run_finishes_when_its_database_is_deleted_and_says_so_after() {
    let shop = Shop::new("orphaned").await;
    let _operator = shop.operator();
    shop.migrate(&[("001_slow.sql", "select pg_sleep(2); create table a ();")]).await;
    shop.reason("Applying").await;
    shop.namespace.kubectl(&["delete", "postgresdatabase", "shop"]);
    let status = shop.reason("DatabaseNotFound").await;
    assert_eq!(status["version"], "001", "what was read back is kept: {status}");
    assert_eq!(shop.tables().await, "a");
}

#[tokio::test]
async fn a_namespace_goes_with_a_run_in_it() {
    let shop = Shop::new("namespace").await;
    let _operator = shop.operator();
    shop.migrate(&[("001_slow.sql", "create table a (); select pg_sleep(600);")]).await;
    shop.reason("Applying").await;
    shop.namespace.kubectl(&["delete", "namespace", &shop.namespace.name, "--timeout=60s"]);
    shop.until(
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
        "0",
    )
    .await;
    assert_eq!(shop.tables().await, "");
}

#[tokio::test]
async fn a_namespace_goes_with_a_backup_in_it_whose_data_was_to_go_first() {
    let shop = Shop::new("backed").await;
    shop.apply(&json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresBackup",
        "metadata": { "name": "nightly", "finalizers": ["belay.dev/data"] },
        "spec": { "databaseRef": { "name": "shop" }, "deletionPolicy": "Delete" },
    }))
    .await;
    let written = json!({ "status": { "store": { "persistentVolumeClaim": { "claimName": "backups" } } } });
    let patch = ["patch", "postgresbackup", "nightly", "--subresource", "status", "--type", "merge", "--patch"];
    shop.namespace.kubectl(&[&patch[..], &[&written.to_string()]].concat());
    let operator = shop.operator();
    let deleted = ["delete", "namespace", shop.namespace.name.as_str(), "--timeout=60s"];
    let deleted = shop.namespace.cluster.kubectl(deleted);
    assert!(deleted.status.success() && operator.says("the data stays in the store"), "{}", operator.log());
}

#[tokio::test]
async fn a_health_check_that_fails_is_told_and_recovers_by_itself() {
    let shop = Shop::new("health").await;
    let _operator = shop.operator();
    let checks = json!({ "healthChecks": [
        { "name": "orders", "sql": { "query": "select count(*) > 0 from a" }, "timeout": "1s", "interval": "100ms" },
    ]});
    shop.migrate_with(&TWO, checks).await;
    let status = shop.reason("Unhealthy").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("orders") && message.contains("answered false") && message.contains("at 002"),
        "{message}"
    );
    assert_eq!(condition(&status, "Stalled")["status"], "True");
    assert_eq!(condition(&status, "Applied")["status"], "True");
    shop.database.admin("insert into a values (1)").await;
    shop.reason("Succeeded").await;
}

#[tokio::test]
async fn a_check_that_leaves_the_namespace_or_writes_is_refused_or_fails() {
    let shop = Shop::new("refused").await;
    let _operator = shop.operator();
    let check = |check: serde_json::Value| json!({ "healthChecks": [check] });
    shop.migrate_with(
        &TWO,
        check(json!({ "name": "api", "http": { "url": "http://169.254.169.254/" }, "timeout": "1s" })),
    )
    .await;
    shop.reason("CheckRefused").await;
    shop.migrate_with(
        &TWO,
        check(
            json!({ "name": "w", "sql": { "query": "insert into a values (1) returning true" }, "timeout": "300ms" }),
        ),
    )
    .await;
    shop.reason("Unhealthy").await;
    shop.migrate_with(
        &TWO,
        check(json!({ "name": "w", "sql": { "query": "commit; drop table a" }, "timeout": "300ms" })),
    )
    .await;
    shop.reason("Unhealthy").await;
    assert_eq!(shop.database.value("select count(*)::text from a").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn all_pending_scripts_share_one_transaction_when_asked_to() {
    let shop = Shop::new("together").await;
    let _operator = shop.operator();
    let scripts = [("001_a.sql", "create table a ();"), ("002_b.sql", "create table b (); select 1/0;")];
    shop.migrate_with(&scripts, json!({ "transaction": "AllPending" })).await;
    let status = shop.reason("ScriptFailed").await;
    assert_eq!(status["failure"]["script"], "002_b.sql");
    assert_eq!((shop.tables().await, shop.ledger().await), (String::new(), String::new()));
}
