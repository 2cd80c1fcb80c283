//! Objects of Belay's kinds that are not what anybody meant: changed at random, and the same again for the same seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};

/// What people, templates and other programs leave in a text.
const TEXTS: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "007",
    "null",
    "true",
    "1e999",
    "99999999999999999999999999",
    "a\nb\tc",
    "\u{0}",
    "\u{202e}desrever",
    "\u{feff}shop",
    "ﷺ🐘é",
    "{{ .Values.name }}",
    "${HOME}",
    "%s%n",
    "'; drop table shop; --",
    "../../../etc/passwd",
    "0s",
    "1ms",
    "000000h",
    "999999h999999h999999h999999h",
    "Always",
    "Succeeded",
    "2026-02-30T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
    "http://[::1",
    "http://10.0.0.1:99999/",
    "http://shop.shop.svc/",
    "select pg_sleep(0)",
    "shop",
    "hostile",
    "own",
];

/// What belongs to no release that there was, and may to one that comes.
const FOREIGN: &[&str] = &["Adaptive", "belay.dev/v2", "OCIRepository", "PerStatement", "verify-most", "Rewind"];

const NUMBERS: &[i64] = &[0, 1, -1, 7, 65_536, 4_294_967_296, i64::MIN, i64::MAX];

/// Changes objects at random.
pub struct Mutants {
    random: StdRng,
    made: usize,
}

impl Mutants {
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), made: 0 }
    }

    /// An object that is odd, each value of the type that it should have.
    pub fn odd(&mut self) -> Value {
        self.object(|mutants, object| object["spec"] = mutants.change(&object["spec"].clone(), Self::odder))
    }

    /// The same, with a status that is odd too; or the status alone.
    pub fn odd_with_status(&mut self) -> Value {
        self.object(|mutants, object| {
            if mutants.one_in(2) {
                object["spec"] = mutants.change(&object["spec"].clone(), Self::odder);
            }
            let planted = planted(object["kind"].as_str().expect("a kind"));
            object["status"] = mutants.change(&planted, Self::odder);
        })
    }

    /// An object of a Belay that is older or newer than this one: the schema does not take it, or not this Belay.
    pub fn foreign(&mut self) -> Value {
        self.object(|mutants, object| {
            let planted = planted(object["kind"].as_str().expect("a kind"));
            let whole = [json!(null), json!([]), json!(7), json!("Running"), json!({ "phase": "Running" })];
            match mutants.random.random_range(0..4) {
                0 => object["spec"] = mutants.change(&object["spec"].clone(), Self::stranger),
                1 => object["status"] = mutants.change(&planted, Self::stranger),
                2 => object["status"] = mutants.pick(&whole),
                _ => {
                    object["spec"] = mutants.change(&object["spec"].clone(), Self::stranger);
                    object["status"] = mutants.change(&planted, Self::stranger);
                }
            }
        })
    }

    fn object(&mut self, change: impl FnOnce(&mut Self, &mut Value)) -> Value {
        self.made += 1;
        let n = self.made;
        let (kind, spec) = self.pick(&specs());
        let long = format!("{n}{}", "x".repeat(50))[..50].to_owned();
        let name = self.pick(&[format!("h{n}"), format!("h{n}"), format!("{n}-a.b.c"), long]);
        let mut object = json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        change(self, &mut object);
        // A reference to itself.
        let text = object["spec"].to_string().replace("\"own\"", &format!("{:?}", name));
        object["spec"] = serde_json::from_str(&text).expect("it was one");
        self.annotate(&mut object);
        object
    }

    fn annotate(&mut self, object: &mut Value) {
        let metadata = &mut object["metadata"];
        for annotation in [belay::api::REQUESTED_AT, belay::api::ACCEPT] {
            if self.one_in(4) {
                metadata["annotations"][annotation] = self.text();
            }
        }
        if self.one_in(8) {
            let finalizers = [belay::api::RUN_FINALIZER, belay::api::BACKUP_FINALIZER, "example.com/other"];
            metadata["finalizers"] = json!([self.pick(&finalizers)]);
        }
    }

    /// One to three places are changed.
    fn change(&mut self, value: &Value, how: fn(&mut Self, &Value) -> Value) -> Value {
        let mut changed = value.clone();
        for _ in 0..self.random.random_range(1..=3) {
            let places = places(&changed);
            let place = self.pick(&places);
            let new = how(self, changed.pointer(&place).unwrap_or(&Value::Null));
            if let Some(old) = changed.pointer_mut(&place) {
                *old = new;
            }
        }
        changed
    }

    /// Another value of the same type.
    fn odder(&mut self, old: &Value) -> Value {
        match old {
            Value::Null => Value::Null,
            Value::Bool(value) => json!(!value),
            Value::Number(_) => json!(self.pick(NUMBERS)),
            Value::String(_) => self.text(),
            Value::Array(items) if self.one_in(2) => json!(items.iter().cycle().take(25).collect::<Vec<_>>()),
            Value::Array(_) => json!([]),
            Value::Object(fields) => self.without_one(fields),
        }
    }

    /// A value of another type, one that this Belay does not know, or one that is not there.
    fn stranger(&mut self, old: &Value) -> Value {
        match old {
            Value::Object(fields) => match self.random.random_range(0..4) {
                0 => self.without_one(fields),
                1 => json!([old]),
                2 => {
                    let mut more = fields.clone();
                    more.insert("addedLater".to_owned(), json!({ "mode": "Adaptive", "steps": [1, "two", null] }));
                    Value::Object(more)
                }
                _ => json!(self.pick(FOREIGN)),
            },
            Value::String(text) => match self.random.random_range(0..4) {
                0 => json!({ "value": text }),
                1 => json!([text]),
                2 => json!(self.pick(NUMBERS)),
                _ => json!(self.pick(FOREIGN)),
            },
            Value::Number(_) => self.pick(&[json!("12"), json!(1.5), json!({}), json!(i64::MAX), json!(true)]),
            Value::Array(items) => self.pick(&[json!({ "items": items }), json!("a,b"), json!([[1]]), json!([null])]),
            Value::Bool(value) => self.pick(&[json!(value.to_string()), json!(0), json!([value])]),
            Value::Null => json!(self.pick(FOREIGN)),
        }
    }

    fn without_one(&mut self, fields: &Map<String, Value>) -> Value {
        let mut left = fields.clone();
        let keys: Vec<_> = fields.keys().cloned().collect();
        if !keys.is_empty() {
            left.remove(&self.pick(&keys));
        }
        Value::Object(left)
    }

    fn text(&mut self) -> Value {
        match self.random.random_range(0..8) {
            0 => json!("é".repeat(self.pick(&[50, 63, 253, 1024, 20_000]))),
            1 => json!("x".repeat(self.pick(&[40, 50, 63, 253]))),
            _ => json!(self.pick(TEXTS)),
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among.choose(&mut self.random).expect("there is something to pick").clone()
    }
}

/// Every place in a value, as JSON pointers have it; the whole is none of them.
fn places(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in below {
        found.push(format!("/{name}"));
        found.extend(places(value).into_iter().map(|place| format!("/{name}{place}")));
    }
    if found.is_empty() { vec![String::new()] } else { found }
}

/// What each kind looks like when it is right, every part of it once.
fn specs() -> Vec<(&'static str, Value)> {
    let database = json!({ "name": "hostile" });
    let template = json!({ "spec": { "containers": [{ "name": "backup", "image": "busybox" }] } });
    let dump = json!({ "pgDump": {
        "store": { "persistentVolumeClaim": { "claimName": "backups", "path": "a/b" } }, "compression": "gzip:1",
        "podTemplate": template,
    } });
    vec![
        (
            "Migration",
            json!({
                "databaseRef": database, "target": "1", "transaction": "PerScript", "outOfOrder": "Reject", "baseline": "0", "adopt": "Auto",
                "backup": { "when": "Never" }, "suspend": false,
                "source": { "inline": { "1_a.sql": "create table if not exists a ();", "2_b.sql": "select 1;" }, "layout": "belay" },
                "healthChecks": [
                    { "name": "sql", "sql": { "query": "select true" }, "timeout": "1s", "interval": "1s" },
                    { "name": "http", "http": { "url": "http://shop/", "expectStatus": 200 }, "timeout": "1s" },
                    { "name": "workload", "workload": { "kind": "Deployment", "name": "shop", "ifPresent": true } },
                ],
            }),
        ),
        (
            "Migration",
            json!({
                "databaseRef": { "name": "own" }, "source": { "configMaps": [{ "name": "own" }, { "name": "own" }] }, "suspend": true,
            }),
        ),
        (
            "Migration",
            json!({
                "databaseRef": database, "source": { "inline": { "1_a.sql": "select 1;" } }, "suspend": true,
                "healthChecks": [{ "name": "a", "job": { "template": template }, "timeout": "1s" }],
            }),
        ),
        (
            "PostgresDatabase",
            json!({
                "connection": {
                    "secretRef": { "name": "hostile" }, "host": "127.0.0.1", "port": 1, "dbname": "shop", "sslMode": "disable",
                    "caRef": { "kind": "Secret", "name": "own", "key": "ca.crt" },
                },
                "role": "owner", "searchPath": ["public"], "historySchema": "belay", "interval": "10m",
                "expect": { "systemIdentifier": "7712054780872700440" },
                "backup": { "when": "Always", "method": dump, "lockWait": "1m", "maxAge": "1h", "keep": 5 },
                "locks": {
                    "lockTimeout": "3s", "statementTimeout": "0s", "retryFor": "15m",
                    "blockers": { "terminateIdleInTransaction": { "olderThan": "5m" } },
                },
            }),
        ),
        (
            "PostgresDatabase",
            json!({
                "connection": { "secretRef": { "name": "hostile" } }, "interval": "1h",
                "backup": { "when": "Never", "method": { "job": { "template": template } } },
                "locks": { "blockers": { "cancelApplications": { "names": ["report"] } } },
            }),
        ),
        ("PostgresBackup", json!({ "databaseRef": database, "method": dump, "deletionPolicy": "Retain" })),
        (
            "PostgresBackup",
            json!({
                "databaseRef": { "name": "own" }, "method": { "job": { "template": template } }, "deletionPolicy": "Delete",
            }),
        ),
    ]
}

/// What each kind's status looks like when it is right, every part of it once; of a generation that never was, so that it is no
/// answer.
pub fn planted(kind: &str) -> Value {
    let conditions = json!([
        { "type": "Ready", "status": "False", "reason": "Applying", "message": "planted", "observedGeneration": 999,
          "lastTransitionTime": "2026-01-01T00:00:00Z" },
        { "type": "Reconciling", "status": "True", "reason": "Applying", "message": "planted", "observedGeneration": 999,
          "lastTransitionTime": "2026-01-01T00:00:00Z" },
    ]);
    let store = json!({ "persistentVolumeClaim": { "claimName": "backups", "path": "a" } });
    match kind {
        "Migration" => json!({
            "observedGeneration": 999, "conditions": conditions, "sourceDigest": "sha256:0", "version": "1", "description": "a",
            "target": "2", "pending": 1, "lastHandledRequestedAt": "2026-01-01T00:00:00Z",
            "plan": [{ "version": "2", "description": "b", "mode": "Transaction", "statements": 1, "rollback": "no", "locks": ["a"] }],
            "run": { "id": "5a0ab29e-7f5c-4d11-a9b9-8c86a09b2ac3", "startedAt": "2026-01-01T00:00:00Z", "script": "2_b.sql",
                     "statement": 1, "statements": 1, "line": 1, "attempts": 1, "backup": "own",
                     "waitingOn": [{ "pid": 1, "user": "a", "application": "b", "lock": "ShareLock", "relations": ["c"] }] },
            "failure": { "reason": "ScriptFailed", "message": "planted", "line": 1, "column": 1, "attempts": 1 },
            "history": [{ "id": "1", "startedAt": "2026-01-01T00:00:00Z", "completedAt": "2026-01-01T00:00:00Z",
                          "outcome": "Succeeded", "to": "1" }],
        }),
        "PostgresDatabase" => json!({
            "observedGeneration": 999, "conditions": conditions, "serverVersion": "15.1", "systemIdentifier": "7", "databaseOid": 1,
            "sizeBytes": 1, "version": "1", "lastBackup": { "name": "own", "snapshotAt": "2026-01-01T00:00:00Z", "version": "1" },
        }),
        _ => json!({
            "observedGeneration": 999, "conditions": conditions, "job": "own", "store": store, "location": "a", "bytes": 1,
            "sha256": "00", "serverVersion": "15.1", "toolVersion": "15.1", "snapshotAt": "2026-01-01T00:00:00Z",
            "ledgerVersion": "1", "systemIdentifier": "7", "databaseOid": 1, "completedAt": "2026-01-01T00:00:00Z", "verified": "Read",
        }),
    }
}
