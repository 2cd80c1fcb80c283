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

use crate::mutants::{Mutants, planted};
use crate::refusal::Refusal;
use crate::support::apiserver::ApiServer;
use crate::support::cluster::{DEADLINE, Namespace, ready};
use crate::support::operator::Operator;
use crate::support::postgres::{Postgres, TestDatabase};

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

    async fn database(&self, name: &str) -> TestDatabase {
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
        database
    }

    /// A Migration that nothing is wrong with, in the midst of the others.
    async fn healthy(&self, name: &str) {
        self.database(name).await;
        self.migrate(name, "create table a ();").await;
        self.namespace.reason(name, "Succeeded").await;
    }

    async fn migrate(&self, name: &str, script: &str) {
        let migration = json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name },
            "spec": { "databaseRef": { "name": name }, "source": { "inline": { "1_a.sql": script } } },
        });
        self.namespace.apply(&migration.to_string()).await;
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

    /// Whether the API server takes a status of an object that Belay tells it of: with this one alone where it was read, else over
    /// what it says already. Of what another schema has let in, it may take none.
    async fn takes_a_status(&self, object: &Value) -> bool {
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let status = json!({ "conditions": [condition] });
        let (api, name) = (self.api(object["kind"].as_str().expect("a kind")), &object["metadata"]["name"]);
        let name = name.as_str().expect("a name");
        let on_trial = PatchParams { dry_run: true, ..PatchParams::default() };
        let tried = if is_readable(object) {
            let patch = json!([{ "op": "add", "path": "/status", "value": status }]);
            api.patch_status(name, &on_trial, &Patch::Json::<()>(serde_json::from_value(patch).expect("a patch"))).await
        } else {
            api.patch_status(name, &on_trial, &Patch::Merge(json!({ "status": status }))).await
        };
        tried.is_ok()
    }

    /// What an object was answered, or None. It is a condition; an event where the API server takes none.
    async fn answer(&self, object: &Value, told: &HashSet<String>) -> Option<String> {
        let said = ready(object)
            .filter(|ready| ready["observedGeneration"] == object["metadata"]["generation"])
            .and_then(|ready| ready["reason"].as_str()?.parse::<Reason>().ok());
        match (is_readable(object), said) {
            // Its status may be the very part that could not be read: now it can.
            (true, Some(reason)) => Some(reason.to_string()),
            (false, Some(Reason::InvalidSpec)) => Some("InvalidSpec".to_owned()),
            _ => {
                let by_event = object["metadata"]["uid"].as_str().is_some_and(|uid| told.contains(uid));
                (by_event && !self.takes_a_status(object).await).then(|| "InvalidSpec, by an event".to_owned())
            }
        }
    }

    /// Until every object is answered. What cannot be read is told to be so, and nothing else is.
    async fn all_are_answered(&self) {
        let mut left = Vec::new();
        let look = async || {
            let (objects, told) = (self.objects().await, self.told_by_event().await);
            let mut counts = BTreeMap::<String, usize>::new();
            left.clear();
            for object in objects {
                match self.answer(&object, &told).await {
                    Some(answer) => *counts.entry(answer).or_default() += 1,
                    None => left.push(object),
                }
            }
            left.is_empty().then_some(counts)
        };
        let counts = poll(ANSWERED, look).await;
        let Some(counts) = counts else {
            let some: Vec<_> = left.iter().take(3).map(|object| format!("{object}")).collect();
            panic!("{} objects without an answer within {ANSWERED:?}, such as\n{}", left.len(), some.join("\n"));
        };
        eprintln!("answers: {counts:?}");
    }

    /// Until each object that cannot be read is Stalled in the metrics, for an alert on that.
    async fn unreadable_ones_are_in_the_metrics(&self, operator: &Operator) {
        let address = operator.address().expect("where it serves");
        let look = async || {
            let metrics = reqwest::get(format!("http://{address}/metrics")).await.ok()?.text().await.ok()?;
            let mut unreadable = self.objects().await;
            unreadable.retain(|object| !is_readable(object));
            let is_there = |kind: &str| unreadable.iter().any(|object| object["kind"] == kind);
            assert!(KINDS.iter().all(|(kind, _)| is_there(kind)), "some of each kind");
            let line = |object: &Value| {
                let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
                let namespace = &self.namespace.name;
                format!(
                    "belay_condition{{kind={kind},namespace=\"{namespace}\",name={name},condition=\"Stalled\",reason=\"InvalidSpec\"}} 1"
                )
            };
            unreadable.iter().all(|object| metrics.contains(&line(object))).then_some(())
        };
        self.namespace.wait_for("every unreadable object in the metrics", DEADLINE, look).await;
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
    host.unreadable_ones_are_in_the_metrics(&operator).await;
    host.healthy("after").await;
    host.is_well(&mut operator).await;
}

/// Waits until nobody holds Belay's lock.
async fn lock_is_free(host: &Host, database: &TestDatabase) {
    let query = "SELECT count(*)::text FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE l.locktype = 'advisory' \
                 AND d.datname = current_database()";
    let free = async || (database.value(query).await.as_deref() == Some("0")).then_some(());
    host.namespace.wait_for("the end of the lock", DEADLINE, free).await;
}

#[tokio::test]
async fn a_run_whose_object_can_no_longer_be_read_ends_its_step_and_lets_its_lock_go() {
    let host = Host::new("midrun").await;
    let _operator = host.operator();
    // One waits in the middle of its script, and one, that holds the lock as well, for a backup: nobody here runs Jobs.
    let (busy, idle) = (host.database("busy").await, host.database("idle").await);
    busy.admin("create schema gate; create table gate.opened ()").await;
    busy.admin(&format!("grant usage on schema gate to {0}; grant select on gate.opened to {0}", busy.role)).await;
    let waits = "do $$ begin while not exists (select from gate.opened) loop perform pg_sleep(0.02); end loop; end $$;";
    host.migrate("busy", &format!("create table a (); {waits}")).await;
    let store = json!({ "persistentVolumeClaim": { "claimName": "backups" } });
    let backup = json!({ "when": "Always", "method": { "pgDump": { "store": store } } });
    host.namespace.patch("PostgresDatabase", "idle", json!({ "spec": { "backup": backup } })).await;
    host.migrate("idle", "create table a ();").await;
    host.namespace.reason("busy", "Applying").await;
    host.namespace.reason("idle", "BackupRunning").await;

    host.server.loosen().await;
    for name in ["busy", "idle"] {
        host.namespace.patch("Migration", name, json!({ "spec": { "transaction": { "mode": "Adaptive" } } })).await;
        host.namespace.reason(name, "InvalidSpec").await;
    }
    lock_is_free(&host, &idle).await;
    let applied = "select to_regclass('a')::text";
    assert_eq!((busy.value(applied).await, idle.value(applied).await), (None, None));
    busy.admin("insert into gate.opened default values").await;
    lock_is_free(&host, &busy).await;
    assert_eq!(busy.value("select string_agg(version, ' ') from belay.history").await.as_deref(), Some("1"));
    host.namespace.reason("busy", "InvalidSpec").await;
}

#[tokio::test]
async fn an_unreadable_object_whose_status_a_policy_refuses_is_told_as_soon_as_it_is_let() {
    let host = Host::new("refused").await;
    let operator = host.operator();
    host.healthy("a").await;
    host.server.loosen().await;
    let probe = json!({ "status": { "version": "9" } });
    let refusal = Refusal::of(&host.namespace, "migrations/status", "false", "a", &probe).await;
    host.namespace.patch("Migration", "a", json!({ "spec": { "transaction": { "mode": "Adaptive" } } })).await;
    refusal.is_met_twice(&operator).await;
    drop(refusal);
    host.namespace.reason("a", "InvalidSpec").await;
}

#[tokio::test]
async fn a_status_that_another_wrote_over_is_put_right_at_the_next_look() {
    let host = Host::new("healed").await;
    let _operator = host.operator();
    host.healthy("a").await;
    host.namespace.patch("PostgresDatabase", "a", json!({ "spec": { "interval": "1s" } })).await;
    // What a run alone could say again, its history and its backup, is not asked for.
    let told = async |kind: &str| {
        let object = host.namespace.get(kind, "a").await.expect("it is there");
        let said = ["observedGeneration", "version", "target", "pending", "run", "failure"];
        let conditions = ["Ready", "Reconciling", "Stalled"].map(|one| {
            let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            let condition = conditions.find(|condition| condition["type"] == one).unwrap_or(&Value::Null);
            ["status", "reason", "message", "observedGeneration"].map(|field| condition[field].clone())
        });
        (said.map(|field| object["status"][field].clone()), conditions)
    };
    let settled = async || (told("PostgresDatabase").await.0[1] == "1").then_some(());
    host.namespace.wait_for("version 1 of the Database", DEADLINE, settled).await;
    for kind in ["Migration", "PostgresDatabase"] {
        let right = told(kind).await;
        for (what, status) in [("lies", planted(kind)), ("nothing", json!({}))] {
            let patch = json!([{ "op": "add", "path": "/status", "value": status }]);
            let patch = Patch::Json::<()>(serde_json::from_value(patch).expect("a patch"));
            host.api(kind).patch_status("a", &PatchParams::default(), &patch).await.expect("a status of another's");
            let healed = async || (told(kind).await == right).then_some(());
            host.namespace.wait_for(&format!("{kind}'s own status over {what}"), DEADLINE, healed).await;
        }
    }
}
