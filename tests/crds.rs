//! The API server holds what the schemas promise: each rule and each bound is tried with an object that it takes and
//! one that it refuses. What there is to try is read from the schemas themselves, so that none is left out.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/schema.rs"]
mod schema;

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use cluster::{Cluster, Namespace, text};
use schema::{Bound, at, bounds, set};

/// Every field that a person can set, in objects that the API server takes: as many as exactly-one-of needs.
fn complete(kind: &str) -> Vec<Value> {
    let local = json!({ "name": "other" });
    let template = json!({ "spec": { "containers": [{ "name": "backup", "image": "busybox" }] } });
    let dump = json!({
        "pgDump": {
            "store": { "persistentVolumeClaim": { "claimName": "backups", "path": "a/b" } },
            "compression": "gzip:1", "podTemplate": template
        }
    });
    let specs = match kind {
        "PostgresDatabase" => vec![
            json!({
                "connection": {
                    "secretRef": local, "host": "db", "port": 5432, "dbname": "shop", "sslMode": "verify-full",
                    "caRef": { "kind": "Secret", "name": "ca", "key": "ca.crt" },
                    "clientCertSecretRef": local
                },
                "role": "owner", "searchPath": ["public"], "historySchema": "belay", "interval": "10m",
                "expect": { "systemIdentifier": "7712054780872700440" },
                "backup": { "when": "Always", "method": dump, "lockWait": "1m", "maxAge": "1h", "keep": 5 },
                "locks": {
                    "lockTimeout": "3s", "statementTimeout": "0s", "retryFor": "15m",
                    "blockers": { "terminateIdleInTransaction": { "olderThan": "5m" } }
                }
            }),
            json!({
                "connection": { "secretRef": local }, "backup": { "method": { "job": { "template": template } } },
                "locks": { "blockers": { "cancelApplications": { "names": ["report"] } } }
            }),
        ],
        "PostgresBackup" => vec![
            json!({ "databaseRef": local, "method": dump, "deletionPolicy": "Retain" }),
            json!({ "databaseRef": local, "method": { "job": { "template": template } } }),
        ],
        "Migration" => vec![
            json!({
                "databaseRef": local, "target": "3", "transaction": "PerScript", "outOfOrder": "Reject", "baseline": "0", "adopt": "Auto",
                "backup": { "when": "Always" }, "suspend": true,
                "source": { "configMaps": [local], "layout": "golang-migrate", "digest": format!("sha256:{}", "0".repeat(64)) },
                "healthChecks": [{ "name": "a", "sql": { "query": "select true" }, "timeout": "60s", "interval": "2s" }]
            }),
            json!({
                "databaseRef": local, "suspend": true, "source": { "inline": { "1_a.sql": "select 1;" } },
                "healthChecks": [{ "name": "a", "http": { "url": "http://shop/", "expectStatus": 200 } }]
            }),
            json!({
                "databaseRef": local, "suspend": true, "source": { "inline": {} },
                "healthChecks": [{ "name": "a", "workload": { "kind": "Deployment", "name": "shop", "ifPresent": true } }]
            }),
            json!({
                "databaseRef": local, "suspend": true, "source": { "inline": {} },
                "healthChecks": [{ "name": "a", "job": { "template": template } }]
            }),
        ],
        _ => panic!("{kind} has no complete object in this test: write one"),
    };
    specs.into_iter().map(|spec| object(kind, "complete", spec)).collect()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{}/v1alpha1", belay::api::GROUP), "kind": kind,
        "metadata": { "name": name }, "spec": spec
    })
}

/// One rule of CEL: its message, and what makes an object keep or break it.
struct Rule {
    kind: &'static str,
    message: &'static str,
    taken: Vec<Change>,
    refused: Vec<Change>,
}

/// On creation, the fields of a complete object (by its number) to set; or on an update, from one to the other.
#[derive(Clone)]
enum Change {
    Named(usize),
    Set(usize, Vec<(&'static str, Value)>),
    Update(Vec<(&'static str, Value)>),
}

/// Null takes a field away.
fn rules() -> Vec<Rule> {
    use Change::{Named, Set, Update};
    let name = "metadata.name may be at most 50 characters, so that names derived from it stay valid";
    let local = || json!({ "name": "other" });
    let job = || json!({ "template": { "spec": { "containers": [{}] } } });
    let dump = || json!({ "store": { "persistentVolumeClaim": { "claimName": "backups" } } });
    let one_of_checks =
        [("sql", json!({ "query": "select true" })), ("http", json!({ "url": "http://shop/" })), ("job", job())];
    let two_checks = one_of_checks.iter().cloned().map(|(check, value)| {
        let path = match check {
            "sql" => "spec.healthChecks.0.sql",
            "http" => "spec.healthChecks.0.http",
            _ => "spec.healthChecks.0.job",
        };
        Set(2, vec![(path, value)])
    });
    let mut rules: Vec<Rule> = ["Migration", "PostgresBackup", "PostgresDatabase"]
        .into_iter()
        .map(|kind| Rule { kind, message: name, taken: vec![Named(50)], refused: vec![Named(51)] })
        .collect();
    rules.extend([
        Rule {
            kind: "Migration",
            message: "spec.databaseRef cannot be changed: make another Migration",
            taken: vec![Update(vec![("spec.target", json!("2"))])],
            refused: vec![Update(vec![("spec.databaseRef.name", json!("changed"))])],
        },
        Rule {
            kind: "Migration",
            message: "exactly one of configMaps and inline must be set",
            taken: vec![Set(0, vec![]), Set(1, vec![])],
            refused: vec![
                Set(0, vec![("spec.source.inline", json!({}))]),
                Set(0, vec![("spec.source.configMaps", Value::Null)]),
                Set(1, vec![("spec.source.configMaps", json!([local()]))]),
            ],
        },
        Rule {
            kind: "Migration",
            message: "exactly one of sql, http, workload and job must be set",
            taken: (0..4).map(|number| Set(number, vec![])).collect(),
            refused: two_checks.chain([Set(0, vec![("spec.healthChecks.0.sql", Value::Null)])]).collect(),
        },
        Rule {
            kind: "PostgresDatabase",
            message: "spec.historySchema cannot be changed: the ledger lives there",
            taken: vec![
                Update(vec![("spec.interval", json!("5m"))]),
                Update(vec![("spec.historySchema", json!("belay"))]),
            ],
            refused: vec![Update(vec![("spec.historySchema", json!("changed"))])],
        },
        Rule {
            kind: "PostgresDatabase",
            message: "exactly one of terminateIdleInTransaction and cancelApplications must be set",
            taken: vec![Set(0, vec![]), Set(1, vec![]), Set(0, vec![("spec.locks.blockers", Value::Null)])],
            refused: vec![
                Set(0, vec![("spec.locks.blockers.cancelApplications", json!({ "names": ["a"] }))]),
                Set(0, vec![("spec.locks.blockers", json!({}))]),
            ],
        },
        Rule {
            kind: "PostgresDatabase",
            message: "exactly one of pgDump and job must be set",
            taken: vec![Set(0, vec![]), Set(1, vec![])],
            refused: vec![
                Set(0, vec![("spec.backup.method.job", job())]),
                Set(0, vec![("spec.backup.method", json!({}))]),
            ],
        },
        Rule {
            kind: "PostgresBackup",
            message: "exactly one of pgDump and job must be set",
            taken: vec![Set(0, vec![]), Set(1, vec![]), Set(0, vec![("spec.method", Value::Null)])],
            refused: vec![Set(1, vec![("spec.method.pgDump", dump())]), Set(0, vec![("spec.method", json!({}))])],
        },
        Rule {
            kind: "PostgresBackup",
            message: "a backup's databaseRef and method cannot be changed: make another one",
            taken: vec![Update(vec![("spec.deletionPolicy", json!("Delete"))])],
            refused: vec![
                Update(vec![("spec.databaseRef.name", json!("changed"))]),
                Update(vec![("spec.method", json!({ "pgDump": dump() }))]),
            ],
        },
    ]);
    rules
}

/// What the smallest object of a kind says: for updates, which need a stored object. Nothing comes of it.
fn smallest(kind: &str) -> Value {
    let local = json!({ "name": "not-there" });
    let spec = match kind {
        "PostgresDatabase" => json!({ "connection": { "secretRef": local } }),
        "PostgresBackup" => json!({ "databaseRef": local }),
        _ => json!({ "databaseRef": local, "source": { "inline": {} }, "suspend": true }),
    };
    object(kind, "smallest", spec)
}

/// Every status field, filled.
fn complete_status(kind: &str) -> Value {
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"
    });
    let specific = match kind {
        "Migration" => json!({
            "plan": [{
                "version": "1", "description": "a", "mode": "Transaction", "statements": 1, "rollback": "no",
                "locks": ["a: ACCESS EXCLUSIVE"], "destructive": "line 1: DROP TABLE"
            }],
            "run": {
                "id": "a", "startedAt": "a",
                "waitingOn": [{ "pid": 1, "user": "a", "application": "a", "relations": ["a"], "lock": "a" }]
            }, "failure": { "reason": "a", "message": "a" },
            "history": [{ "id": "a", "startedAt": "a", "completedAt": "a", "outcome": "Succeeded" }]
        }),
        "PostgresBackup" => json!({
            "store": { "persistentVolumeClaim": { "claimName": "backups", "path": "a" } }, "verified": "Read", "databaseOid": 5
        }),
        _ => json!({ "lastBackup": { "name": "a", "snapshotAt": "a" }, "databaseOid": 5 }),
    };
    let mut status = json!({ "observedGeneration": 1, "conditions": [condition] });
    status.as_object_mut().unwrap().extend(specific.as_object().unwrap().clone());
    status
}

fn kinds() -> Vec<(String, String, JSONSchemaProps)> {
    let schema =
        |crd: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.clone().unwrap()
        };
    let crds = belay::api::crds();
    crds.iter().map(|crd| (crd.spec.names.kind.clone(), crd.spec.names.plural.clone(), schema(crd))).collect()
}

fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

/// Creates on trial: nothing is stored.
async fn create(api: &Api<DynamicObject>, object: &Value) -> Result<DynamicObject, String> {
    let object = serde_json::from_value(object.clone()).unwrap();
    let on_trial = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&on_trial, &object).await.map_err(|error| error.to_string())
}

async fn tried(namespace: &Namespace, kind: &str, change: &Change) -> Result<DynamicObject, String> {
    let api = namespace.cluster.api(&namespace.name, kind, &plural(kind));
    match change {
        Change::Named(length) => {
            let mut object = complete(kind).swap_remove(0);
            set(&mut object, "metadata.name", json!("a".repeat(*length)));
            create(&api, &object).await
        }
        Change::Set(number, fields) => {
            let mut object = complete(kind).swap_remove(*number);
            for (path, value) in fields {
                set(&mut object, path, value.clone());
            }
            create(&api, &object).await
        }
        Change::Update(fields) => {
            let mut patch = json!({});
            for (path, value) in fields {
                set(&mut patch, path, value.clone());
            }
            let on_trial = PatchParams { dry_run: true, ..PatchParams::default() };
            api.patch("smallest", &on_trial, &Patch::Merge(patch)).await.map_err(|error| error.to_string())
        }
    }
}

#[tokio::test]
async fn every_rule_of_the_schemas_is_held_by_the_api_server() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("rules").await;
    for (kind, plural, _) in kinds() {
        let object = serde_json::from_value(smallest(&kind)).unwrap();
        cluster.api(&namespace.name, &kind, &plural).create(&PostParams::default(), &object).await.unwrap();
    }
    let rules = rules();
    for Rule { kind, message, taken, refused } in &rules {
        for change in taken {
            if let Err(error) = tried(&namespace, kind, change).await {
                panic!("{kind}, {message:?}: this should be taken: {error}");
            }
        }
        for change in refused {
            match tried(&namespace, kind, change).await {
                Ok(object) => panic!("{kind}, {message:?}: this should be refused: {:?}", object.data),
                Err(error) => assert!(error.contains(message), "{kind}: refused, but not with {message:?}: {error}"),
            }
        }
    }
    let tried: BTreeSet<_> = rules.iter().map(|rule| (rule.kind.to_owned(), rule.message.to_owned())).collect();
    let there: BTreeSet<_> = kinds()
        .iter()
        .flat_map(|(kind, _, root)| schema::rules(root).into_iter().map(|message| (kind.clone(), message)))
        .collect();
    assert_eq!(there, tried, "the rules of the schemas, and those that this test tries");
}

#[tokio::test]
async fn complete_objects_are_taken_and_smallest_ones_too() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("objects").await;
    for (kind, plural, root) in kinds() {
        let api = cluster.api(&namespace.name, &kind, &plural);
        let objects = complete(&kind);
        for object in objects.iter().chain([&smallest(&kind)]) {
            create(&api, object).await.unwrap_or_else(|error| panic!("{kind}: {error}\n{object}"));
        }
        let missing: Vec<_> = schema::leaves(&root, "spec")
            .into_iter()
            .filter(|path| objects.iter().all(|object| at(object, path).is_none()))
            .collect();
        assert!(missing.is_empty(), "{kind}: no complete object of this test sets {missing:?}");
    }
}

#[tokio::test]
async fn every_bound_of_the_specs_is_held_by_the_api_server() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("bounds").await;
    let mut number = 0;
    for (kind, plural, root) in kinds() {
        let api = cluster.api(&namespace.name, &kind, &plural);
        let objects = complete(&kind);
        for Bound { path, what, taken, refused } in bounds(&root, "spec") {
            let base = objects.iter().find(|object| at(object, &path).is_some());
            let base = base.unwrap_or_else(|| panic!("{kind}: no complete object has {path}"));
            for value in taken {
                let mut object = base.clone();
                set(&mut object, &path, value);
                let outcome = create(&api, &object).await;
                assert!(outcome.is_ok(), "{kind} {path}, {what}: should be taken: {outcome:?}");
            }
            for value in refused {
                let mut object = base.clone();
                set(&mut object, &path, value);
                let error =
                    create(&api, &object).await.expect_err(&format!("{kind} {path}, {what}: should be refused"));
                let field = path.rsplit('.').find(|part| part.parse::<u32>().is_err()).unwrap();
                assert!(error.contains(field), "{kind} {path}, {what}: refused for another reason: {error}");
            }
            number += 1;
        }
    }
    assert!(number > 60, "only {number} bounds were found in the schemas");
}

#[tokio::test]
async fn every_bound_of_the_statuses_is_held_by_the_api_server() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("statuses").await;
    for (kind, plural, root) in kinds() {
        let api = cluster.api(&namespace.name, &kind, &plural);
        let object = serde_json::from_value(smallest(&kind)).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        let on_trial = PatchParams { dry_run: true, ..PatchParams::default() };
        let status = json!({ "status": complete_status(&kind) });
        let mut tries = vec![(status.clone(), None)];
        for Bound { path, what, taken, refused } in bounds(&root, "status") {
            let Some(_) = at(&status, &path) else { panic!("{kind}: the complete status has no {path}") };
            let changed = |value: Value| {
                let mut status = status.clone();
                set(&mut status, &path, value);
                status
            };
            tries.extend(taken.into_iter().map(|value| (changed(value), None)));
            let why = format!("{kind} {path}, {what}");
            tries.extend(refused.into_iter().map(|value| (changed(value), Some(why.clone()))));
        }
        for (status, refused) in tries {
            let outcome = api.patch_status("smallest", &on_trial, &Patch::Merge(&status)).await;
            match refused {
                Some(why) => assert!(outcome.is_err(), "{why}: should be refused"),
                None => drop(outcome.unwrap_or_else(|error| panic!("{kind}: should be taken: {error}\n{status}"))),
            }
        }
    }
}

#[tokio::test]
async fn a_just_created_object_is_in_progress_for_kstatus() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("defaults").await;
    for (kind, plural, _) in kinds() {
        let mut object = smallest(&kind);
        set(&mut object, "status", json!({ "observedGeneration": 7 }));
        let created = create(&cluster.api(&namespace.name, &kind, &plural), &object).await.unwrap();
        assert_eq!(created.data["status"], json!({ "observedGeneration": -1 }), "{kind}");
    }
}

#[tokio::test]
async fn the_defaults_are_those_of_the_documentation() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("defaults").await;
    let spec = async |kind: &str| {
        let mut spec = create(&cluster.api(&namespace.name, kind, &plural(kind)), &smallest(kind)).await.unwrap().data
            ["spec"]
            .take();
        for given in ["connection", "databaseRef", "source", "suspend"] {
            spec.as_object_mut().unwrap().remove(given);
        }
        spec
    };
    let database = json!({
        "historySchema": "belay", "interval": "10m",
        "backup": { "when": "Always", "lockWait": "1m", "maxAge": "1h", "keep": 5 },
        "locks": { "lockTimeout": "3s", "statementTimeout": "0s", "retryFor": "15m" }
    });
    assert_eq!(spec("PostgresDatabase").await, database);
    assert_eq!(spec("Migration").await, json!({ "adopt": "None", "transaction": "PerScript", "outOfOrder": "Reject" }));
    assert_eq!(spec("PostgresBackup").await, json!({ "deletionPolicy": "Retain" }));
}

#[tokio::test]
async fn kubectl_get_answers_the_on_call_question_in_one_line() {
    let cluster = Cluster::connect().await;
    let columns = async |plural: &str| {
        let request = http::Request::get(format!("/apis/{}/v1alpha1/{plural}", belay::api::GROUP))
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())
            .unwrap();
        let table: Value = cluster.client.request(request).await.unwrap();
        let columns = table["columnDefinitions"].as_array().unwrap();
        columns.iter().map(|column| column["name"].as_str().unwrap().to_uppercase()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(columns("migrations").await, "NAME DATABASE VERSION TARGET PENDING READY REASON AGE");
    assert_eq!(columns("postgresdatabases").await, "NAME SERVER VERSION READY REASON AGE");
    assert_eq!(columns("postgresbackups").await, "NAME DATABASE VERSION BYTES VERIFIED READY REASON AGE");
}

#[tokio::test]
async fn the_short_names_and_the_category_find_the_kinds() {
    let cluster = Cluster::connect().await;
    for name in ["mig", "pgdb", "pgbk", "belay"] {
        let output = cluster.kubectl(["get", name, "--all-namespaces", "--output", "name"]);
        assert!(output.status.success(), "kubectl get {name}: {}", text(&output.stderr));
    }
}

#[tokio::test]
async fn kubectl_applies_the_crds_client_side_and_reads_what_was_written() {
    let cluster = Cluster::connect().await;
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    let applied = cluster.kubectl(["apply", "--dry-run=server", "--filename", crds]);
    assert!(applied.status.success(), "{}", text(&applied.stderr));

    // kubectl reads YAML 1.1: what it makes of the files is what the types say.
    let read = cluster.kubectl(["create", "--dry-run=client", "--output", "json", "--filename", crds]);
    assert!(read.status.success(), "{}", text(&read.stderr));
    let read: Value = serde_json::from_slice(&read.stdout).or_else(|_| documents(&text(&read.stdout))).unwrap();
    let written: Vec<_> =
        belay::api::crds().into_iter().map(|crd| (crd.name_any(), serde_json::to_value(crd.spec).unwrap())).collect();
    let read = read["items"].as_array().unwrap();
    assert_eq!(read.len(), written.len());
    for (read, (name, spec)) in read.iter().zip(written) {
        assert_eq!(read["metadata"]["name"], name.as_str());
        assert_eq!(whole_numbers(read["spec"].clone()), whole_numbers(spec), "{name}");
    }
}

/// Go prints 1.0 as 1.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect(),
        other => other,
    }
}

/// kubectl prints several objects one after the other, or as a List.
fn documents(text: &str) -> Result<Value, serde_json::Error> {
    let items: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    Ok(json!({ "items": items? }))
}

#[tokio::test]
async fn the_crds_in_the_cluster_are_those_of_this_tree() {
    let cluster = Cluster::connect().await;
    let output = cluster.kubectl(["diff", "--filename", concat!(env!("CARGO_MANIFEST_DIR"), "/crds")]);
    let differences = text(&output.stdout);
    let of_specs: Vec<_> = differences
        .lines()
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"))
        .collect();
    assert!(
        of_specs.iter().all(|line| line.contains("generation:")),
        "the CRDs there are older: make deploy\n{differences}"
    );
}
