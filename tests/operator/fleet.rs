//! Many databases on one server.

use serde_json::json;

use crate::shop::{SOON, ready};
use crate::support::cluster::Cluster;
use crate::support::operator::Operator;
use crate::support::postgres::Postgres;

const DATABASES: usize = 40;

#[tokio::test]
async fn a_fleet_on_one_server_is_migrated_within_the_connections_that_it_has() {
    // Three are the superuser's.
    let server = Postgres::start_with(&["max_connections = 22"]);
    let namespace = Cluster::connect().await.namespace("fleet").await;
    let mut objects = Vec::new();
    let mut databases = Vec::new();
    for n in 0..DATABASES {
        let name = format!("d{n}");
        let database = server.database().await;
        objects.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "uri": database.url },
        }));
        objects.push(json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": name },
            "spec": { "connection": { "secretRef": { "name": name } }, "backup": { "when": "Never" } },
        }));
        objects.push(json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name },
            "spec": { "databaseRef": { "name": name }, "source": { "inline": {
                "1_a.sql": "CREATE TABLE a (); SELECT pg_sleep(0.05)", "2_b.sql": "CREATE TABLE b ()",
            } } },
        }));
        databases.push(database);
    }
    for object in objects {
        namespace.apply(&object.to_string()).await;
    }
    let operator = Operator::start(&namespace);
    for kind in ["Migration", "PostgresDatabase"] {
        for n in 0..DATABASES {
            let name = format!("d{n}");
            let look = async || {
                let object = namespace.get(kind, &name).await?;
                (ready(&object["status"])["status"] == "True" && object["status"]["version"] == "2").then_some(())
            };
            namespace.wait_for(&format!("{kind} {name} ready"), 3 * SOON, look).await;
        }
    }
    // A server that has no connection left says so (53300), and is then out of reach, or refuses a second one.
    for refused in ["ConnectionFailed", "53300", "too many"] {
        assert!(!operator.says(refused), "{refused}: {}", operator.log());
    }
    for database in databases {
        assert_eq!(database.value("SELECT count(*)::text FROM belay.history").await.as_deref(), Some("2"));
    }
}
