//! What docs/operations.md tells a person to do, done.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/server.rs"]
mod server;

use serde_json::json;

use cluster::{Cluster, DEADLINE, message, text};

/// Backups go where the documentation has them.
const BACKUP: &str = "backup: {method: {pgDump: {store: {persistentVolumeClaim: {claimName: backups, path: shop}}}}}";

const SCRIPTS: [(&str, &str); 3] = [
    ("001_a.sql", "create table orders (id int primary key); insert into orders select generate_series(1, 1000)"),
    ("002_b.sql", "alter table orders add paid boolean not null default false"),
    ("003_c.sql", "delete from orders where id > 10"),
];

#[tokio::test]
async fn a_backup_is_put_back_by_hand_and_belay_goes_on_from_where_it_is() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("restore").await;
    let database = cluster.database().await;
    namespace.apply(&database.secret("belay")).await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "backups" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    namespace.apply(&claim.to_string()).await;
    namespace.apply(&database.object(BACKUP)).await;
    namespace.migrate(&SCRIPTS[..2], json!({})).await;
    namespace.reason("m", "Succeeded").await;
    namespace.migrate(&SCRIPTS, json!({})).await;
    let migration = namespace.reason("m", "Succeeded").await;
    assert_eq!(database.sql("select count(*) from orders").trim(), "10");

    // The harm is seen: the run's own backup, and the Pod that puts it back.
    namespace.migrate(&SCRIPTS[..2], json!({ "suspend": true })).await;
    let backup = migration["status"]["history"][0]["backup"].as_str().expect("the run's backup");
    let backup = namespace.get("PostgresBackup", backup).await.expect("it is there");
    let (location, sum) = (&backup["status"]["location"], &backup["status"]["sha256"]);
    let file = format!("/backup/{}", location.as_str().expect("where it is"));
    let image = ["--namespace", cluster::OPERATOR, "get", "deployment", "belay", "--output"];
    let image = cluster.kubectl(image.iter().chain(&["jsonpath={.spec.template.spec.containers[0].image}"]));
    let pod = include_str!("../examples/restore/pod.yaml")
        .replace("image: belay\n", &format!("image: {}\n", text(&image.stdout)))
        .replace("shop-postgres", "db");
    namespace.apply(&pod).await;
    let look = async || {
        let phase = namespace.kubectl(&["get", "pod", "restore", "--output", "jsonpath={.status.phase}"]);
        (phase == "Running").then_some(())
    };
    namespace.wait_for("the Pod", DEADLINE, look).await;
    let exec = |command: &[&str]| namespace.kubectl(&[&["exec", "restore", "--"], command].concat());
    let sum_now = exec(&["sha256sum", &file]);
    assert_eq!(sum_now.split(' ').next(), sum.as_str().and_then(|sum| sum.strip_prefix("sha256:").or(Some(sum))));

    let restored = database.beside("restored");
    let major = database.sql("show server_version_num").trim()[..2].to_owned();
    let program = |name: &str| format!("/usr/lib/postgresql/{major}/bin/{name}");
    exec(&[&program("psql"), "--command", &format!("CREATE DATABASE {}", restored.name)]);
    exec(&[&program("pg_restore"), "--exit-on-error", "--no-owner", "--dbname", &restored.name, &file]);
    assert_eq!(restored.sql("select count(*) from orders").trim(), "1000");

    // Belay is pointed at it, asks, and goes on when it is answered.
    let dbname = json!({ "stringData": { "dbname": restored.name } }).to_string();
    namespace.kubectl(&["patch", "secret", "db", "--patch", &dbname]);
    namespace.patch("Migration", "m", json!({ "spec": { "suspend": false } })).await;
    let stalled = namespace.reason("m", "IdentityChanged").await;
    let accept = message(&stalled).split_once("belay.dev/accept=").expect("the message has the command").1;
    let accept = accept.split([' ', '.']).next().unwrap_or_default();
    namespace.kubectl(&["annotate", "postgresdatabase", "db", "--overwrite", &format!("belay.dev/accept={accept}")]);
    let done = namespace.reason("m", "Succeeded").await;
    assert_eq!(done["status"]["version"], "002", "{done}");

    // What is corrected comes on top, and only that.
    let corrected = [SCRIPTS[0], SCRIPTS[1], ("003_c.sql", "delete from orders where id > 990")];
    namespace.migrate(&corrected, json!({ "suspend": false })).await;
    let look = async || (restored.sql("select count(*) from belay.history").trim() == "3").then_some(());
    namespace.wait_for("the corrected script", DEADLINE, look).await;
    assert_eq!(restored.sql("select count(*) from orders").trim(), "990");
    assert_eq!(database.sql("select count(*) from orders").trim(), "10", "what was there stays as it was");
}
