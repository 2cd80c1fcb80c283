//! A namespace with a Database and a Migration in it, as each test here begins.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Namespace};
use crate::support::operator::Operator;
use crate::support::postgres::{Postgres, TestDatabase};

/// What should take no time at all, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(60);

/// A namespace, an operator for it, and a PostgreSQL database.
pub struct Shop {
    pub namespace: Namespace,
    pub database: TestDatabase,
}

impl Shop {
    /// The Secret and the PostgresDatabase `shop`, without backups.
    pub async fn new(purpose: &str) -> Self {
        let shop = Self::on(Postgres::shared(), purpose).await;
        shop.apply_database(json!({})).await;
        shop
    }

    /// On a server of its own, and with nothing in the namespace yet.
    pub async fn on(server: &Postgres, purpose: &str) -> Self {
        let cluster = Cluster::connect().await;
        Self { namespace: cluster.namespace(purpose).await, database: server.database().await }
    }

    pub async fn apply_secret(&self) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "shop-postgres" },
            "stringData": { "uri": self.database.url },
        }))
        .await;
    }

    /// The Secret, and the Database with these fields over the plainest spec.
    pub async fn apply_database(&self, fields: Value) {
        self.apply_secret().await;
        let mut spec =
            json!({ "connection": { "secretRef": { "name": "shop-postgres" } }, "backup": { "when": "Never" } });
        merge(&mut spec, fields);
        self.apply(&json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": "shop" }, "spec": spec,
        })).await;
    }

    /// The Migration `shop` with these scripts inline.
    pub async fn migrate(&self, scripts: &[(&str, &str)]) {
        self.migrate_with(scripts, json!({})).await;
    }

    /// The same, with these fields over the plainest spec.
    pub async fn migrate_with(&self, scripts: &[(&str, &str)], fields: Value) {
        self.migration("shop", scripts, fields).await;
    }

    /// The same, under another name.
    pub async fn migration(&self, name: &str, scripts: &[(&str, &str)], fields: Value) {
        let inline: serde_json::Map<_, _> =
            scripts.iter().map(|(name, sql)| ((*name).to_owned(), json!(sql))).collect();
        let mut spec = json!({ "source": { "inline": inline } });
        merge(&mut spec, fields);
        self.create(name, spec).await;
    }

    /// The ConfigMap `scripts`.
    pub async fn config_map(&self, scripts: &[(&str, &str)]) {
        let scripts: Vec<_> = scripts.iter().map(|(name, sql)| (*name, sql.as_bytes())).collect();
        self.namespace.scripts(&scripts).await;
    }

    /// The Migration `shop`, which reads that one, with these fields in its source beside it.
    pub async fn migrate_config_map(&self, fields: Value) {
        let mut source = json!({ "configMaps": [{ "name": "scripts" }] });
        merge(&mut source, fields);
        self.create("shop", json!({ "source": source })).await;
    }

    /// A Migration of the shop's database, with this spec beside it.
    async fn create(&self, name: &str, fields: Value) {
        let mut spec = json!({ "databaseRef": { "name": "shop" } });
        merge(&mut spec, fields);
        self.apply(&json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name }, "spec": spec,
        }))
        .await;
    }

    pub async fn apply(&self, object: &Value) {
        self.namespace.apply(&object.to_string()).await;
    }

    pub fn operator(&self) -> Operator {
        Operator::start(&self.namespace)
    }

    pub async fn status(&self) -> Value {
        self.namespace.get("Migration", "shop").await.map(|object| object["status"].clone()).unwrap_or_default()
    }

    /// Waits until Ready has this reason for the spec's present generation, and gives the status.
    pub async fn reason(&self, reason: &str) -> Value {
        self.reason_of("shop", reason).await
    }

    pub async fn reason_of(&self, name: &str, reason: &str) -> Value {
        let look = async || {
            let object = self.namespace.get("Migration", name).await?;
            let status = &object["status"];
            let current = status["observedGeneration"] == object["metadata"]["generation"];
            (current && ready(status)["reason"] == reason).then(|| status.clone())
        };
        self.namespace.wait_for(&format!("reason {reason}"), SOON, look).await
    }

    /// Waits until a query gives this text.
    pub async fn until(&self, query: &str, wanted: &str) {
        let look = async || (self.database.value(query).await.as_deref() == Some(wanted)).then_some(());
        self.namespace.wait_for(&format!("{wanted} from {query}"), SOON, look).await;
    }

    /// Waits until the Database's status shows this version.
    pub async fn pinned(&self, version: &str) {
        let look = async || {
            let database = self.namespace.get("PostgresDatabase", "shop").await?;
            (database["status"]["version"] == version).then_some(())
        };
        self.namespace.wait_for(&format!("version {version} of PostgresDatabase shop"), SOON, look).await;
    }

    /// The versions in the ledger, in order; none when there is no ledger.
    pub async fn ledger(&self) -> String {
        let there = self.database.value("SELECT to_regclass('belay.history')::text").await;
        match there {
            Some(_) => self
                .database
                .value("SELECT coalesce(string_agg(version, ',' ORDER BY version), '') FROM belay.history")
                .await
                .unwrap_or_default(),
            None => String::new(),
        }
    }

    /// Every table of the schema public, in order.
    pub async fn tables(&self) -> String {
        let query = "SELECT coalesce(string_agg(tablename, ',' ORDER BY tablename), '')::text FROM pg_tables WHERE schemaname = 'public'";
        self.database.value(query).await.unwrap_or_default()
    }
}

/// The condition Ready.
pub fn ready(status: &Value) -> &Value {
    condition(status, "Ready")
}

/// The condition of this type.
pub fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}
