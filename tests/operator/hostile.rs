//! Objects that are wrong in any way that a spec or a status can be: those that the API server takes, and those that an older or a
//! newer Belay has left. Each is answered, and holds nobody else up.
//!
//! The API server is the test's own: no other operator is to see what is in it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use belay::api::{Migration, PostgresBackup, PostgresDatabase, Reason};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::mutants::Mutants;
use crate::support::apiserver::ApiServer;
use crate::support::cluster::{Namespace, ready};
use crate::support::operator::Operator;
use crate::support::postgres::Postgres;

/// Objects of each test; 500 in both.
const OBJECTS: usize = 250;

/// For all of them, on a machine that is busy.
const ANSWERED: Duration = Duration::from_secs(180);

/// The most lines that the log may have of one object: what is news, and none of it for ever.
const LINES: usize = 24;

const KINDS: [(&str, &str); 3] =
    [("Migration", "migrations"), ("PostgresDatabase", "postgresdatabases"), ("PostgresBackup", "postgresbackups")];

fn seed() -> u64 {
    let seed = std::env::var("BELAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125);
    eprintln!("BELAY_SEED={seed}");
    seed
}

struct Host {
    namespace: Namespace,
    server: ApiServer,
}

impl Host {
    /// With one Database that hostile objects can reach.
    async fn new(purpose: &str) -> Self {
        let server = ApiServer::start().await;
        let host = Self { namespace: server.cluster.namespace(purpose).await, server };
        host.database("hostile").await;
        host
    }

    fn operator(&self) -> Operator {
        Operator::start_as(&self.namespace, &[("BELAY_LOG", "info"), ("KUBECONFIG", &self.server.kubeconfig())])
    }

    async fn database(&self, name: &str) {
        let database = Postgres::shared().database().await;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "uri": database.url },
        });
        let object = json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": name },
            "spec": { "connection": { "secretRef": { "name": name } }, "backup": { "when": "Never" } },
        });
        self.namespace.apply(&secret.to_string()).await;
        self.namespace.apply(&object.to_string()).await;
    }

    /// A Migration that nothing is wrong with, in the midst of the others.
    async fn healthy(&self, name: &str) {
        self.database(name).await;
        let migration = json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name },
            "spec": { "databaseRef": { "name": name }, "source": { "inline": { "1_a.sql": "create table a ();" } } },
        });
        self.namespace.apply(&migration.to_string()).await;
        self.namespace.reason(name, "Succeeded").await;
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let (kind, plural) = KINDS.iter().find(|(one, _)| *one == kind).expect("a kind of Belay's");
        self.namespace.cluster.api(&self.namespace.name, kind, plural)
    }

    /// Creates an object with its status; false when the API server does not take it.
    async fn plant(&self, object: &Value) -> bool {
        let api = self.api(object["kind"].as_str().expect("a kind"));
        let name = object["metadata"]["name"].as_str().expect("a name");
        let typed: DynamicObject = serde_json::from_value(object.clone()).expect("an object");
        if api.create(&PostParams::default(), &typed).await.is_err() {
            return false;
        }
        let planted = match object.get("status") {
            // JSON Patch: a merge would take nulls for fields that go.
            Some(status) => {
                let patch = json!([{ "op": "add", "path": "/status", "value": status }]);
                let patch = Patch::Json::<()>(serde_json::from_value(patch).expect("a patch"));
                api.patch_status(name, &PatchParams::default(), &patch).await.is_ok()
            }
            None => true,
        };
        if !planted {
            api.delete(name, &DeleteParams::default()).await.expect("it is deleted");
            let finalizers = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
            let _ = api.patch(name, &PatchParams::default(), &finalizers).await;
        }
        planted
    }

    /// Creates as many as that, and tells how many the API server did not take.
    async fn plant_odd(&self, count: usize, mut odd: impl FnMut() -> Value) -> usize {
        let (mut planted, mut refused) = (0, 0);
        while planted < count {
            match self.plant(&odd()).await {
                true => planted += 1,
                false => refused += 1,
            }
        }
        refused
    }

    /// Every object of Belay's kinds, as it is now.
    async fn objects(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for (kind, _) in KINDS {
            let listed = self.api(kind).list(&ListParams::default()).await.expect("a list");
            for object in listed {
                let mut object = serde_json::to_value(object).expect("an object");
                object["kind"] = json!(kind);
                object["apiVersion"] = json!("belay.dev/v1alpha1");
                all.push(object);
            }
        }
        all
    }

    /// UIDs of what an event says that it cannot be read.
    async fn told_by_event(&self) -> HashSet<String> {
        let api = Api::<Event>::namespaced(self.namespace.cluster.client.clone(), &self.namespace.name);
        let events = api.list(&ListParams::default()).await.expect("events");
        let told = events.into_iter().filter(|event| event.reason.as_deref() == Some("InvalidSpec"));
        told.filter_map(|event| event.involved_object.uid).collect()
    }

    /// Until every object is answered: by a condition, or an event where its status cannot be written. What cannot be read is told
    /// to be so, and nothing else is.
    async fn all_are_answered(&self) {
        let mut left = Vec::new();
        let look = async || {
            let (objects, told) = (self.objects().await, self.told_by_event().await);
            let answers: Vec<_> = objects.iter().map(|object| (object, answer(object, &told))).collect();
            left = answers.iter().filter(|(_, answer)| answer.is_none()).map(|(object, _)| (*object).clone()).collect();
            left.is_empty().then(|| {
                let mut counts = BTreeMap::<String, usize>::new();
                answers.into_iter().flat_map(|(_, answer)| answer).for_each(|one| *counts.entry(one).or_default() += 1);
                counts
            })
        };
        let counts = poll(ANSWERED, look).await;
        let Some(counts) = counts else {
            let some: Vec<_> = left.iter().take(3).map(|object| format!("{object}")).collect();
            panic!("{} objects without an answer within {ANSWERED:?}, such as\n{}", left.len(), some.join("\n"));
        };
        eprintln!("answers: {counts:?}");
    }

    /// It is the process that was started, and has said of each object what there was to say.
    async fn is_well(&self, operator: &mut Operator) {
        assert_eq!(operator.ended(), None, "the operator ended");
        let log = operator.log();
        assert!(!log.contains("panicked"), "the operator panicked");
        let names: Vec<String> =
            self.objects().await.iter().filter_map(|o| o["metadata"]["name"].as_str().map(str::to_owned)).collect();
        let mut lines = BTreeMap::<&str, usize>::new();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let of = ["name", "migration", "backup", "database"].iter().find_map(|field| line[*field].as_str());
            if let Some(name) = names.iter().find(|name| of == Some(name.as_str())) {
                *lines.entry(name.as_str()).or_default() += 1;
            }
        }
        let most = lines.iter().max_by_key(|(_, count)| **count);
        eprintln!("log: {} lines, {} bytes; most: {most:?}", log.lines().count(), log.len());
        assert!(most.is_none_or(|(_, count)| *count <= LINES), "{most:?}");
        let longest = log.lines().map(str::len).max().unwrap_or_default();
        assert!(longest < 8192, "a line of {longest} bytes");
    }
}

async fn poll<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = std::time::Instant::now() + limit;
    while std::time::Instant::now() < end {
        if let Some(seen) = look().await {
            return Some(seen);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    None
}

/// What an object was answered, or None.
fn answer(object: &Value, told: &HashSet<String>) -> Option<String> {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Some("going".to_owned());
    }
    let by_event = object["metadata"]["uid"].as_str().is_some_and(|uid| told.contains(uid));
    let said = ready(object)
        .filter(|ready| ready["observedGeneration"] == object["metadata"]["generation"])
        .and_then(|ready| ready["reason"].as_str()?.parse::<Reason>().ok());
    match (is_readable(object), said) {
        // Its status may be the very part that could not be read: now it can.
        (true, Some(reason)) => Some(reason.to_string()),
        (false, Some(Reason::InvalidSpec)) => Some("InvalidSpec".to_owned()),
        (_, None) | (false, _) if by_event => Some("InvalidSpec, by an event".to_owned()),
        _ => None,
    }
}

fn is_readable(object: &Value) -> bool {
    let object = object.clone();
    match object["kind"].as_str() {
        Some("Migration") => serde_json::from_value::<Migration>(object).is_ok(),
        Some("PostgresDatabase") => serde_json::from_value::<PostgresDatabase>(object).is_ok(),
        _ => serde_json::from_value::<PostgresBackup>(object).is_ok(),
    }
}

#[tokio::test]
async fn whatever_the_api_server_takes_is_answered_and_holds_nobody_up() {
    let host = Host::new("odd").await;
    let mut mutants = Mutants::new(seed());
    // A status that another writes after the operator's own would take the answer away.
    let mut refused = host.plant_odd(OBJECTS / 2, || mutants.odd_with_status()).await;
    let mut operator = host.operator();
    host.healthy("before").await;
    refused += host.plant_odd(OBJECTS - OBJECTS / 2, || mutants.odd()).await;
    host.healthy("between").await;
    eprintln!("{refused} more were refused by the API server");
    host.all_are_answered().await;
    host.healthy("after").await;
    host.is_well(&mut operator).await;
}

#[tokio::test]
async fn what_an_older_or_a_newer_belay_has_left_is_answered_and_holds_nobody_up() {
    let host = Host::new("foreign").await;
    host.server.loosen().await;
    let mut mutants = Mutants::new(seed());
    for _ in 0..OBJECTS {
        let object = mutants.foreign();
        assert!(host.plant(&object).await, "{object}");
    }
    host.server.tighten().await;
    let mut operator = host.operator();
    host.healthy("before").await;
    host.all_are_answered().await;
    host.healthy("after").await;
    host.is_well(&mut operator).await;
}
