//! What is secret is told nowhere: values are planted wherever Belay comes by them, and then looked for in everything that it says, its
//! log at the most talkative level included.

use std::thread::JoinHandle;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::generate;
use crate::shop::SOON;
use crate::support::cluster::{Cluster, DEADLINE, Namespace, OPERATOR, message, ready, text};
use crate::support::server::Database;

/// Values that nothing else in the cluster has.
#[derive(Debug)]
struct Planted {
    /// Of the login, in the Secret's URI.
    password: String,
    /// Another, which the server refuses; and one in a URI that cannot be read.
    wrong: String,
    broken: String,
    /// Of a role, in a script.
    clause: String,
    /// In a row that the scripts stumble over.
    row: String,
    /// In a script's COPY data.
    copied: String,
    /// In the query of a session that is in the way.
    literal: String,
    /// In a Secret that a backup's Pod template names, as an object store's key would be.
    key: String,
}

impl Planted {
    fn new() -> Self {
        let value = |what: &str| format!("{what}x{}", uuid::Uuid::new_v4().simple());
        Self {
            password: value("password"),
            wrong: value("wrong"),
            broken: value("broken"),
            clause: value("clause"),
            row: value("row"),
            copied: value("copied"),
            literal: value("literal"),
            key: value("key"),
        }
    }

    /// Each value, as it is and as a Secret has it.
    fn all(&self) -> Vec<String> {
        let values = [
            &self.password,
            &self.wrong,
            &self.broken,
            &self.clause,
            &self.row,
            &self.copied,
            &self.literal,
            &self.key,
        ];
        let encoded = |value: &String| serde_json::to_value(ByteString(value.clone().into_bytes())).unwrap();
        values.iter().flat_map(|value| [(*value).clone(), encoded(value).as_str().unwrap().to_owned()]).collect()
    }
}

/// The chart in the test's own namespace, with every word that Belay has to say in its log.
async fn operator(namespace: &Namespace) {
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let image = namespace.cluster.kubectl(["--namespace", OPERATOR, "get", "deployment", "belay", "--output", image]);
    let image = text(&image.stdout);
    let (repository, tag) = image.rsplit_once(':').expect("an image with a tag");
    let name = &namespace.name;
    let values = format!(
        "watchNamespace={name},clusterName={name},crds.install=false,admissionPolicies.enabled=false,logLevel=trace,\
         image.repository={repository}"
    );
    let tag = format!("image.tag={tag}");
    let template = ["template", "solo", "charts/belay", "--namespace", name, "--kube-version", generate::KUBERNETES];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let rendered = generate::helm(root, &[&template[..], &["--set", &values, "--set-string", &tag]].concat());
    let applied = namespace.cluster.kubectl_with(["apply", "--filename", "-"], &rendered);
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    namespace.kubectl(&["rollout", "status", "deployment/solo-belay", "--timeout", "60s"]);
}

async fn secret(namespace: &Namespace, name: &str, key: &str, value: &str) {
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { key: value } });
    namespace.apply(&secret.to_string()).await;
}

async fn database(namespace: &Namespace, name: &str, backup: Value) {
    let spec = json!({ "connection": { "secretRef": { "name": name } }, "backup": backup });
    let object = json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": name }, "spec": spec
    });
    namespace.apply(&object.to_string()).await;
}

async fn migration(namespace: &Namespace, name: &str, scripts: &str, fields: Value) {
    let mut spec = json!({
        "databaseRef": { "name": name }, "source": { "configMaps": [{ "name": scripts }] }, "baseline": "0"
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    let object =
        json!({ "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name }, "spec": spec });
    namespace.apply(&object.to_string()).await;
}

/// Waits until the second script fails with this SQLSTATE.
async fn fails(namespace: &Namespace, first: &str, second: &str, state: &str) {
    namespace.scripts(&[("001_a.sql", first.as_bytes()), ("002_b.sql", second.as_bytes())]).await;
    let look = async || {
        let migration = namespace.get("Migration", "db").await?;
        (migration["status"]["failure"]["sqlState"] == state).then_some(())
    };
    namespace.wait_for(&format!("{state} from {second}"), DEADLINE, look).await;
}

/// A session that holds the rows, with a value in its query, until it is ended.
fn in_the_way(cluster: &Cluster, database: &Database, literal: &str) -> JoinHandle<()> {
    let (cluster, name) = (cluster.clone(), database.name.clone());
    let query = format!("begin; lock table rows; select pg_sleep(600), '{literal}'");
    std::thread::spawn(move || {
        let psql = ["--namespace", "belay-tests", "exec", "deployment/postgres", "--", "psql", "-qU", "belay", "-d"];
        cluster.kubectl(psql.iter().copied().chain([name.as_str(), "-c", &query]));
    })
}

/// Everything that Belay said or made, by where it stands.
fn told(namespace: &Namespace, database: &Database) -> Vec<(&'static str, String)> {
    let all = |kinds: &str| namespace.kubectl(&["get", kinds, "--output", "json", "--show-managed-fields"]);
    let metrics = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let ledger: String = ["meta", "run", "history", "event", "statement"]
        .map(|table| database.sql(&format!("select row_to_json(t) from belay.{table} t")))
        .concat();
    vec![
        ("the log", namespace.kubectl(&["logs", "deployment/solo-belay"])),
        ("the metrics", namespace.kubectl(&["exec", "deployment/solo-belay", "--", "bash", "-c", metrics])),
        ("the objects", all("migrations,postgresdatabases,postgresbackups")),
        ("events", all("events") + &all("events.events.k8s.io")),
        ("Jobs and Pods", all("jobs,pods")),
        // The scripts are the team's, and hold what they hold.
        (
            "ConfigMaps",
            namespace.kubectl(&["get", "configmaps", "--field-selector", "metadata.name!=scripts", "--output", "json"]),
        ),
        (
            "the backups' logs",
            namespace.kubectl(&["logs", "--selector", "belay.dev/database", "--all-containers", "--tail=-1"]),
        ),
        ("the ledger", ledger),
    ]
}

#[tokio::test]
async fn no_password_no_rows_value_and_no_querys_text_is_told_anywhere() {
    let cluster = Cluster::connect().await;
    let (namespace, server) = (cluster.namespace("secrecy").await, cluster.database().await);
    let planted = Planted::new();
    let Planted { password, wrong, broken, clause, row, copied, literal, key } = &planted;
    let login = format!("login_{}", server.name);
    server.sql(&format!(
        "create role {login} login createrole password '{password}'; grant all on database {0} to {login}; \
         alter schema public owner to {login}; create table rows (x text); create table narrow (x text check (length(x) < 9)); \
         insert into rows values ('{row}'), ('{row}'); alter table rows owner to {login}; alter table narrow owner to {login}",
        server.name
    ));
    operator(&namespace).await;

    // A backup, a role's password and a table's data.
    let uri = |password: &str, port: &str| {
        format!("postgres://{login}:{password}@postgres.belay-tests.svc:{port}/{}?sslmode=disable", server.name)
    };
    secret(&namespace, "db", "uri", &uri(password, "5432")).await;
    secret(&namespace, "store", "key", key).await;
    namespace
        .apply("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: backups}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}")
        .await;
    let variable = json!({ "name": "STORE_KEY", "valueFrom": { "secretKeyRef": { "name": "store", "key": "key" } } });
    let dump = json!({ "method": { "pgDump": {
        "store": { "persistentVolumeClaim": { "claimName": "backups" } },
        "podTemplate": { "spec": { "containers": [{ "name": "backup", "env": [variable] }] } },
    } } });
    database(&namespace, "db", dump).await;
    let other = format!("other_{}", server.name);
    let first = format!(
        "create role {other} password '{clause}';\ncreate table copied (x text);\ncopy copied from stdin;\n{copied}\n\\.\n"
    );
    namespace.scripts(&[("001_a.sql", first.as_bytes())]).await;
    migration(&namespace, "db", "scripts", json!({})).await;
    namespace.reason("db", "Succeeded").await;

    // What the server says of rows is theirs.
    for (script, state) in [
        ("create unique index on rows (x);".to_owned(), "23505"),
        ("alter table rows alter x type int using x::int;".to_owned(), "22P02"),
        ("insert into narrow select x from rows;".to_owned(), "23514"),
        (format!("alter role {other} password '{clause}' valid until 'no time';"), "22007"),
        (format!("alter role {other} password '{clause}' nonsense;"), "42601"),
    ] {
        fails(&namespace, &first, &script, state).await;
    }
    let mut before = told(&namespace, &server);

    // What others ask is theirs too.
    let session = in_the_way(&cluster, &server, literal);
    let sleeps =
        format!("select count(*) from pg_stat_activity where query like '%{literal}%' and wait_event = 'PgSleep'");
    namespace.wait_for("a session in the way", SOON, async || (server.sql(&sleeps).trim() == "1").then_some(())).await;
    let second = "alter table rows add y int;";
    namespace.scripts(&[("001_a.sql", first.as_bytes()), ("002_b.sql", second.as_bytes())]).await;
    let waits = async || {
        let migration = namespace.get("Migration", "db").await?;
        migration["status"]["run"]["waitingOn"][0]["pid"].is_i64().then_some(())
    };
    namespace.wait_for("the session in the status", SOON, waits).await;
    before.extend(told(&namespace, &server));
    server.sql(&format!("select pg_terminate_backend(pid) from pg_stat_activity where query like '%{literal}%' and wait_event = 'PgSleep'"));
    session.join().expect("psql ended");
    namespace.reason("db", "Succeeded").await;
    let check = json!({ "name": "rows", "sql": { "query": "select x::int > 0 from rows" }, "timeout": "300ms" });
    migration(&namespace, "db", "scripts", json!({ "healthChecks": [check] })).await;
    namespace.reason("db", "Unhealthy").await;

    // Credentials that do not let anybody in.
    for (name, uri) in [("wrong", uri(wrong, "5432")), ("broken", uri(broken, "no-port"))] {
        secret(&namespace, name, "uri", &uri).await;
        database(&namespace, name, json!({ "when": "Never" })).await;
        migration(&namespace, name, "scripts", json!({})).await;
        let refused = async || {
            let migration = namespace.get("Migration", name).await?;
            (ready(&migration)?["status"] == "False" && !message(&migration).is_empty()).then_some(())
        };
        namespace.wait_for(&format!("what is wrong with {name}"), DEADLINE, refused).await;
    }
    namespace.reason("wrong", "AuthenticationFailed").await;

    let said = [before, told(&namespace, &server)].concat();
    for (place, words) in &said {
        for value in planted.all() {
            let context = words.find(&value).map(|at| words[..at].chars().rev().take(300).collect::<String>());
            let context = context.map(|reversed| reversed.chars().rev().collect::<String>());
            assert_eq!(context, None, "{value} is told in {place}, behind these words");
        }
    }
    // It was looked for where it would have been told.
    let log = &said.iter().rfind(|(place, _)| *place == "the log").expect("the log").1;
    for words in ["\"level\":\"DEBUG\"", "decided", "23505", "22P02", "AuthenticationFailed"] {
        assert!(log.contains(words), "{words} is not in the log: {log}");
    }
    assert!(said.iter().all(|(place, words)| *place == "ConfigMaps" || !words.is_empty()), "something says nothing");
    server.sql(&format!("drop owned by {login} cascade; drop role {login}, {other}"));
}
