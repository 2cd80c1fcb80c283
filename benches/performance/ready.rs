//! A created Migration of one script becomes Ready: how long that takes, and what it writes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use belay::api::Migration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::sample::{HEAD, Sample};
use crate::support::cluster::{Cluster, Namespace};
use crate::support::operator::Operator;
use crate::support::postgres::Postgres;
use crate::support::{SOON, eventually, memory};
use crate::{audit, watched};

pub const RUNS: usize = 30;

/// What was measured.
pub struct Ready {
    /// Until the status shows the plan, and that it is being applied.
    planned: Sample,
    ready: Sample,
    /// One small write of this program's own, for comparison.
    write: Sample,
    /// The operator's writes in all runs; None: there is no audit log.
    writes: Option<BTreeMap<String, usize>>,
    /// Resident memory in KiB: idle after its start, and after all runs.
    idle: u64,
    after: u64,
}

/// Runs one Migration after the other, each on a database of its own.
pub async fn measure(cluster: &Cluster, server: &Postgres) -> Ready {
    let namespace = cluster.namespace("bench").await;
    // As the chart has it: under its ServiceAccount, behind its admission policies, one that holds the Lease.
    namespace.let_operators_elect();
    let environment =
        [("BELAY_LOG", "info"), ("BELAY_LEADER_ELECT", "true"), ("BELAY_LEASE_NAMESPACE", namespace.name.as_str())];
    let operator = Operator::start_as(&namespace, &environment);
    eventually("the operator's start", SOON, async || operator.says("this replica leads").then_some(())).await;
    let idle = memory::now(operator.id()).expect("the operator runs");
    namespace.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: written}}").await;
    // The first warms the connections up, and is not counted.
    for n in 0..=RUNS {
        database(&namespace, server, n).await;
    }
    for n in 0..=RUNS {
        looked_at(&namespace, n).await;
    }
    run(&namespace, 0).await;
    let mark = audit::mark(cluster);
    let (mut planned, mut ready, mut write) = (Sample::default(), Sample::default(), Sample::default());
    for n in 1..=RUNS {
        write.add(one_write(&namespace, n).await);
        let (until_planned, until_ready) = run(&namespace, n).await;
        until_planned.into_iter().for_each(|until| planned.add(until));
        ready.add(until_ready);
    }
    let writes = mark.map(|mark| mark.writes(&namespace.name));
    Ready { planned, ready, write, writes, idle, after: memory::now(operator.id()).expect("the operator runs") }
}

async fn database(namespace: &Namespace, server: &Postgres, n: usize) {
    let database = server.database().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("db{n}") },
        "stringData": { "uri": database.url },
    });
    let object = json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": format!("db{n}") },
        "spec": { "connection": { "secretRef": { "name": format!("db{n}") } }, "backup": { "when": "Never" } },
    });
    namespace.apply(&secret.to_string()).await;
    namespace.apply(&object.to_string()).await;
}

/// Waits until the operator has looked at the Database, so that this is not a part of what is measured.
async fn looked_at(namespace: &Namespace, n: usize) {
    let look = async || is_ready(&namespace.get("PostgresDatabase", &format!("db{n}")).await?).then_some(());
    eventually("the Database", SOON, look).await;
}

async fn run(namespace: &Namespace, n: usize) -> (Option<Duration>, Duration) {
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
    // All that comes after: the finalizer, the events, the look at the Database.
    eventually("the end of the run", SOON, async || {
        let migration = api.get(&name).await.ok()?;
        let database = namespace.get("PostgresDatabase", &format!("db{n}")).await?;
        let events = namespace.kubectl(
            &["get", "events", "--output", "name", "--field-selector"]
                .into_iter()
                .chain([format!("involvedObject.name={name},reason=Succeeded").as_str()])
                .collect::<Vec<_>>(),
        );
        let ended = migration.finalizers().is_empty() && database["status"]["version"] == "001" && !events.is_empty();
        ended.then_some(())
    })
    .await;
    let ready = shown.until(is_ready).expect("it was waited for");
    (shown.until(|migration| !migration["status"]["plan"].is_null()), ready)
}

/// How long one small write takes at this API server.
async fn one_write(namespace: &Namespace, n: usize) -> Duration {
    let api = Api::<ConfigMap>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let patch = Patch::Merge(json!({ "data": { "run": n.to_string() } }));
    let started = Instant::now();
    api.patch("written", &PatchParams::default(), &patch).await.expect("a patch");
    started.elapsed()
}

pub fn is_ready(object: &Value) -> bool {
    crate::support::cluster::ready(object).is_some_and(|ready| ready["status"] == "True")
}

impl Ready {
    pub fn markdown(&self) -> String {
        let mut text = format!("### Created → Ready=True\n\n{HEAD}");
        text += &self.ready.row("created → `Ready=True`");
        text += &self.planned.row("of that, until the plan stands in the status");
        text += &self.write.row("one write of a small object, beside it");
        text += &format!("\n{RUNS} runs, one at a time, each on a fresh database.\n\n### API writes\n\n");
        match &self.writes {
            Some(writes) => {
                text += "| a run | writes |\n| --- | ---: |\n";
                for (write, count) in writes {
                    text += &format!("| `{write}` | {} |\n", a_run(*count));
                }
                text += &format!("| all | **{}** |\n", a_run(writes.values().sum()));
            }
            None => text += "Not counted: this cluster keeps no audit log here.\n",
        }
        let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
        text += "\n### Memory\n\n";
        text += &format!(
            "Resident, idle after its start: **{}**; after {} runs: {}.\n",
            mib(self.idle),
            RUNS + 1,
            mib(self.after)
        );
        text
    }
}

fn a_run(count: usize) -> String {
    let text = format!("{:.2}", count as f64 / RUNS as f64);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
