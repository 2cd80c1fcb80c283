//! Many databases at once, many objects at rest, an idle minute, and a leader's end. On an API server of its own, whose audit log
//! tells the operator's requests from this program's.

mod fleet;
mod leaders;
mod rest;

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::document;
use crate::support::apiserver::ApiServer;
use crate::support::cluster::Namespace;
use crate::support::eventually;
use crate::support::operator::Operator;
use crate::support::postgres::{Postgres, TestDatabase};

/// As many requests of this program's own are under way at once.
const AT_ONCE: usize = 16;

/// For what takes minutes on a machine that is busy.
const LATER: Duration = Duration::from_secs(1200);

/// What every part works with.
pub struct Place {
    server: ApiServer,
    postgres: Postgres,
}

/// Measures all of it, and writes each part into the document as soon as there is one.
pub async fn measure() {
    let place = Place { server: ApiServer::start().await, postgres: Postgres::start() };
    let kubernetes = crate::kubernetes(&place.server.cluster).await;
    let write = |name: &str, before: &str, figures: &str| {
        eprintln!("{figures}");
        let circumstances = document::circumstances(&place.postgres, &kubernetes, before);
        document::write(name, &format!("{circumstances}\n{figures}"));
    };
    let before = document::load();
    write("leaders", &before, &leaders::measure(&place).await);
    let before = document::load();
    let (fleet, finished) = fleet::measure(&place).await;
    write("fleet", &before, &fleet);
    let before = document::load();
    write("rest", &before, &rest::measure(&place, finished).await);
}

impl Place {
    /// An operator of the release build, that watches.
    async fn operator(&self, namespace: &Namespace, more: &[(&str, &str)]) -> Operator {
        let kubeconfig = self.server.kubeconfig();
        let environment = [&[("BELAY_LOG", "info"), ("KUBECONFIG", kubeconfig.as_str())], more].concat();
        let operator = Operator::start_as(namespace, &environment);
        eventually("the operator's start", LATER, async || operator.says("\"watching\"").then_some(())).await;
        operator
    }
}

/// The Secret and the Database of a database.
async fn database(namespace: &Namespace, name: &str, database: &TestDatabase) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "uri": database.url },
    });
    let object = json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": name },
        "spec": { "connection": { "secretRef": { "name": name } }, "backup": { "when": "Never" } },
    });
    namespace.apply(&secret.to_string()).await;
    namespace.apply(&object.to_string()).await;
}

/// All of these at once, as far as this program goes.
async fn at_once<F: Future>(work: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    futures::stream::iter(work).buffered(AT_ONCE).collect().await
}

/// Until as many objects of a kind as that are Ready.
async fn until_ready(namespace: &Namespace, kind: &str, count: usize) {
    let api = namespace.cluster.api(&namespace.name, kind, &format!("{}s", kind.to_lowercase()));
    eventually(&format!("{count} of {kind}"), LATER, async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let all = api.list(&Default::default()).await.ok()?;
        let ready = all.iter().filter(|object| crate::ready::is_ready(&json!({ "status": object.data["status"] })));
        (ready.count() >= count).then_some(())
    })
    .await;
}

/// What was asked for: `verb resource` → how often, most first.
fn counted(requests: &[Value]) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for request in requests {
        let (verb, object) = (request["verb"].as_str().unwrap_or_default(), &request["objectRef"]);
        let resource = object["resource"].as_str().unwrap_or_default();
        let what = match object["subresource"].as_str() {
            Some(part) => format!("{verb} {resource}/{part}"),
            None => format!("{verb} {resource}"),
        };
        *counts.entry(what).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
