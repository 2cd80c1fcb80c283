//! A PostgreSQL server in the cluster, one for all tests, and a database of its own for each.

#![allow(dead_code, reason = "each test program uses another part")]

use super::cluster::{Cluster, Namespace, text};

/// The namespace of the server that tests share. It stays: the next run finds it warm.
const NAMESPACE: &str = "belay-tests";

/// A database of one test, gone when the test is done.
pub struct Database {
    cluster: Cluster,
    pub name: String,
}

impl Cluster {
    /// The image of PostgreSQL servers: the cluster of `make cluster`, whose node is called belay, pulls nothing.
    pub fn postgres_image(&self) -> &'static str {
        let here = self.kubectl(["get", "node", "belay", "--ignore-not-found", "--output", "name"]);
        if here.stdout.is_empty() { "postgres:17" } else { "belay-postgres:dev" }
    }

    /// An empty database on the server that tests share, which is started if it is not there.
    pub async fn database(&self) -> Database {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let database = Database { cluster: self.clone(), name };
        let create = format!("create database {}", database.name);
        if psql(self, "postgres", &create).is_err() {
            self.start_server().await;
            psql(self, "postgres", &create).unwrap_or_else(|error| panic!("{create}: {error}"));
        }
        database
    }

    async fn start_server(&self) {
        let manifest = include_str!("server.yaml").replace("IMAGE", self.postgres_image());
        let applied = self.kubectl_with(["apply", "--server-side", "--force-conflicts", "--filename", "-"], &manifest);
        assert!(applied.status.success(), "{}", text(&applied.stderr));
        let wait = ["--namespace", NAMESPACE, "rollout", "status", "deployment/postgres", "--timeout", "90s"];
        let waited = self.kubectl(wait);
        assert!(waited.status.success(), "{}{}", text(&waited.stderr), self.report(NAMESPACE));
    }
}

impl Database {
    /// A database that somebody makes beside this one, and that goes as this one does.
    pub fn beside(&self, what: &str) -> Self {
        Self { cluster: self.cluster.clone(), name: format!("{}_{what}", self.name) }
    }

    /// What a query answers: rows as lines, columns parted by `|`.
    ///
    /// # Panics
    /// When the server says no.
    pub fn sql(&self, query: &str) -> String {
        psql(&self.cluster, &self.name, query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The manifests of a Secret and a PostgresDatabase, both called `db`, for this database; without backups.
    pub fn manifests(&self) -> String {
        format!("{}\n---\n{}", self.secret("belay"), self.object("backup: {when: Never}"))
    }

    /// The manifest of a Secret `db`, with this password; the server's own is `belay`.
    pub fn secret(&self, password: &str) -> String {
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: db}}, stringData: {{host: postgres.{NAMESPACE}.svc, port: \
             '5432', dbname: {}, username: belay, password: {password}}}}}",
            self.name
        )
    }

    /// The manifest of a PostgresDatabase `db` with these further fields of its spec.
    pub fn object(&self, fields: &str) -> String {
        format!(
            "{{apiVersion: belay.dev/v1alpha1, kind: PostgresDatabase, metadata: {{name: db}}, spec: \
             {{connection: {{secretRef: {{name: db}}, sslMode: disable}}, {fields}}}}}"
        )
    }

    /// Sees that Belay has made nothing here: no ledger, no table.
    pub fn is_untouched(&self) {
        const MADE: &str = "select string_agg(n.nspname || '.' || c.relname, ' ') from pg_class c join pg_namespace n on \
            n.oid = c.relnamespace where n.nspname !~ '^pg_|^information_schema$'";
        assert_eq!(self.sql(MADE).trim(), "", "relations were made in a database that was to stay untouched");
        assert_eq!(self.sql("select count(*) from pg_namespace where nspname = 'belay'").trim(), "0");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::env::var_os("BELAY_KEEP").is_none() {
            let _ = psql(&self.cluster, "postgres", &format!("drop database {} with (force)", self.name));
        }
    }
}

fn psql(cluster: &Cluster, database: &str, query: &str) -> Result<String, String> {
    let program =
        "exec psql --username belay --no-psqlrc --no-align --tuples-only --quiet --set ON_ERROR_STOP=1 --dbname \"$0\"";
    let exec =
        ["--namespace", NAMESPACE, "exec", "--stdin", "deployment/postgres", "--", "sh", "-c", program, database];
    let output = cluster.kubectl_with(exec, query);
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Namespace {
    /// A Migration called `m` of the database `db`, with these scripts inline and further fields of its spec.
    pub async fn migrate(&self, scripts: &[(&str, &str)], fields: serde_json::Value) {
        let inline: serde_json::Value =
            scripts.iter().map(|(name, sql)| ((*name).to_owned(), serde_json::json!(sql))).collect();
        self.migrate_from(serde_json::json!({ "inline": inline }), fields).await;
    }

    /// A Migration called `m` of the database `db`, with this source and further fields of its spec.
    pub async fn migrate_from(&self, source: serde_json::Value, fields: serde_json::Value) {
        let mut spec = serde_json::json!({ "databaseRef": { "name": "db" }, "source": source });
        spec.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        let migration = serde_json::json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": "m" }, "spec": spec
        });
        self.apply(&migration.to_string()).await;
    }

    /// A ConfigMap called `scripts` of these files; those that are not UTF-8 in its binaryData.
    pub async fn scripts(&self, files: &[(&str, &[u8])]) {
        let (mut data, mut binary) = (serde_json::Map::new(), serde_json::Map::new());
        for (name, bytes) in files {
            match std::str::from_utf8(bytes) {
                Ok(text) => drop(data.insert((*name).to_owned(), text.into())),
                Err(_) => {
                    let bytes = k8s_openapi::ByteString(bytes.to_vec());
                    drop(binary.insert((*name).to_owned(), serde_json::to_value(bytes).unwrap()));
                }
            }
        }
        let map = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "scripts" }, "data": data, "binaryData": binary
        });
        self.apply(&map.to_string()).await;
    }
}
