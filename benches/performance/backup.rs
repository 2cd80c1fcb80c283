//! A Migration above a verified backup, beside a bare Job that runs pg_dump: in turns, on the same databases.

use std::time::Duration;

use belay::api::Migration;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use serde_json::{Value, json};

use crate::sample::{HEAD, Sample};
use crate::support::cluster::{Cluster, Namespace, OPERATOR, ready, text};
use crate::support::operator::Operator;
use crate::support::postgres::Postgres;
use crate::support::{SOON, eventually};
use crate::watched;

pub const PAIRS: usize = 8;

/// What was measured.
pub struct BackedUp {
    job: Sample,
    migration: Sample,
    /// Until the backup is verified and the scripts begin.
    verified: Sample,
    ratios: Vec<f64>,
}

/// An address of the cluster's node, when the node is this machine.
pub async fn node_address(cluster: &Cluster) -> Option<String> {
    let path = "jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}";
    let addresses = text(&cluster.kubectl(["get", "nodes", "--output", path]).stdout);
    let here = |address: &&str| std::net::TcpListener::bind((*address, 0)).is_ok();
    addresses.split_whitespace().find(here).map(ToOwned::to_owned)
}

/// Runs the pairs.
pub async fn measure(cluster: &Cluster, server: &Postgres, address: &str) -> BackedUp {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let image =
        text(&cluster.kubectl(["--namespace", OPERATOR, "get", "deployment", "belay", "--output", path]).stdout);
    let namespace = cluster.namespace("bench-backup").await;
    let operator = Operator::start_as(&namespace, &[("BELAY_LOG", "info"), ("BELAY_IMAGE", &image)]);
    eventually("the operator's start", SOON, async || operator.log().contains("watching").then_some(())).await;
    namespace
        .apply(
            "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: backups}, spec: \
             {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}",
        )
        .await;
    let mut measured = BackedUp {
        job: Sample::default(),
        migration: Sample::default(),
        verified: Sample::default(),
        ratios: Vec::new(),
    };
    // The first binds the claim and warms everything up, and is not counted.
    for n in 0..=PAIRS {
        database(&namespace, server, address, n).await;
        let (job, migration) = if n % 2 == 0 {
            let job = bare_job(&namespace, &image, n).await;
            (job, migrate(&namespace, n).await)
        } else {
            let migration = migrate(&namespace, n).await;
            (bare_job(&namespace, &image, n).await, migration)
        };
        if n > 0 {
            measured.job.add(job);
            measured.migration.add(migration.1);
            migration.0.into_iter().for_each(|verified| measured.verified.add(verified));
            measured.ratios.push(migration.1.as_secs_f64() / job.as_secs_f64());
        }
    }
    measured
}

/// A database with something in it, its Secret, and its Database with the policy.
async fn database(namespace: &Namespace, server: &Postgres, address: &str, n: usize) {
    let database = server.database().await;
    let uri = database.url.replace("@127.0.0.1:", &format!("@{address}:"));
    namespace
        .apply(
            &json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("db{n}") },
                "stringData": { "uri": uri },
            })
            .to_string(),
        )
        .await;
    let store = json!({ "persistentVolumeClaim": { "claimName": "backups", "path": "dumps" } });
    namespace
        .apply(
            &json!({
                "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": format!("db{n}") },
                "spec": {
                    "connection": { "secretRef": { "name": format!("db{n}") } },
                    "backup": { "when": "Always", "method": { "pgDump": { "store": store } } },
                },
            })
            .to_string(),
        )
        .await;
    let look = async || is_ready(&namespace.get("PostgresDatabase", &format!("db{n}")).await?).then_some(());
    eventually("the Database", SOON, look).await;
}

/// Until the backup is verified, and until Ready=True.
async fn migrate(namespace: &Namespace, n: usize) -> (Option<Duration>, Duration) {
    let name = format!("m{n}");
    let migration: Migration = serde_json::from_value(json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name },
        "spec": { "databaseRef": { "name": format!("db{n}") }, "source": { "inline": {
            "001_orders.sql": "create table orders (id bigint primary key, total_cents bigint not null);",
        } } },
    }))
    .expect("a Migration");
    let api = Api::<Migration>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let shown = watched::create(&api, &name, &migration, is_ready).await;
    let verified = shown.until(|migration| condition(migration, "BackedUp"));
    (verified, shown.until(is_ready).expect("it was waited for"))
}

/// The same dump by a Job that does nothing else, until it is Complete.
async fn bare_job(namespace: &Namespace, image: &str, n: usize) -> Duration {
    let name = format!("bare{n}");
    let script = "set -- /usr/lib/postgresql/*/bin/pg_dump; exec \"$1\" --format=custom --compress=1 \
                  --file=\"/backup/$NAME.dump\" \"$URI\"";
    let job: Job = serde_json::from_value(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
        "spec": { "backoffLimit": 0, "template": { "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "dump", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["bash", "-c", script],
                "env": [
                    { "name": "NAME", "value": name },
                    { "name": "URI", "valueFrom": { "secretKeyRef": { "name": format!("db{n}"), "key": "uri" } } },
                ],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
                },
                "volumeMounts": [{ "name": "backups", "mountPath": "/backup" }],
            }],
            "volumes": [{ "name": "backups", "persistentVolumeClaim": { "claimName": "backups" } }],
        } } },
    }))
    .expect("a Job");
    let api = Api::<Job>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let ended = |job: &Value| condition(job, "Complete") || condition(job, "Failed");
    let shown = watched::create(&api, &name, &job, ended).await;
    shown.until(|job| condition(job, "Complete")).expect("the bare Job failed")
}

fn is_ready(object: &Value) -> bool {
    ready(object).is_some_and(|ready| ready["status"] == "True")
}

/// Whether a condition is True.
fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

impl BackedUp {
    pub fn markdown(&self) -> String {
        let mut ratios = self.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        let median = match ratios.len() % 2 {
            0 => (ratios[middle - 1] + ratios[middle]) / 2.0,
            _ => ratios[middle],
        };
        format!(
            "{HEAD}{}{}{}\nThe ratio within a pair: median **{median:.2}**, from {:.2} to {:.2}. {PAIRS} pairs, in turns, on the \
             same databases, image and claim.\n",
            self.migration.row("created → `Ready=True`, above a verified backup"),
            self.verified.row("of that, until the backup is verified and the script begins"),
            self.job.row("a bare Job of `pg_dump`, created → Complete"),
            ratios.first().copied().unwrap_or_default(),
            ratios.last().copied().unwrap_or_default(),
        )
    }
}
