//! What a watch shows of Belay's objects over their whole lives, and what Flux and Argo CD make of each of these states.

#![allow(dead_code, reason = "each test program uses another part")]

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use futures::{StreamExt, pin_mut};
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use serde_json::Value;

use super::cluster::{DEADLINE, Namespace};

/// Belay's kinds, and the names of their lists.
const KINDS: [(&str, &str); 3] =
    [("Migration", "migrations"), ("PostgresDatabase", "postgresdatabases"), ("PostgresBackup", "postgresbackups")];

/// Every state that watches have shown of a namespace's objects, in order.
pub struct Recorder<'a> {
    namespace: &'a Namespace,
    seen: Arc<Mutex<Vec<Value>>>,
    watches: Vec<tokio::task::JoinHandle<std::convert::Infallible>>,
}

/// A state of an object, and what is made of it.
pub struct State {
    pub object: Value,
    pub kstatus: String,
    pub health: String,
    pub health_message: String,
    /// By each action that Argo CD offers: what the object becomes; null where it is disabled.
    pub actions: Value,
}

impl<'a> Recorder<'a> {
    /// Watches from now on.
    pub async fn start(namespace: &'a Namespace) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut watches = Vec::new();
        for (kind, plural) in KINDS {
            let api = namespace.cluster.api(&namespace.name, kind, plural);
            let mut version = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
            let seen = seen.clone();
            watches.push(tokio::spawn(async move {
                // The API server ends a watch after some minutes.
                loop {
                    let events = api.watch(&WatchParams::default(), &version).await.unwrap();
                    pin_mut!(events);
                    while let Some(event) = events.next().await {
                        match event.unwrap() {
                            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                                version = object.metadata.resource_version.clone().unwrap();
                                seen.lock().unwrap().push(value(&object));
                            }
                            // Nobody asks about what is gone.
                            WatchEvent::Deleted(object) => version = object.metadata.resource_version.unwrap(),
                            WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
                            WatchEvent::Error(error) => panic!("the watch: {error:?}"),
                        }
                    }
                }
            }));
        }
        Self { namespace, seen, watches }
    }

    /// Every state so far of the object, which is still there or is gone.
    pub async fn of(&self, kind: &str, name: &str) -> Vec<State> {
        let latest = self.namespace.get(kind, name).await;
        let states = || -> Vec<Value> {
            let seen = self.seen.lock().unwrap();
            let of = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
            seen.iter().filter(of).cloned().collect()
        };
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        if let Some(latest) = latest {
            let brought = async || states().iter().any(|state| version(state) == version(&latest)).then_some(());
            self.namespace.wait_for(&format!("the watch of {kind} {name}"), DEADLINE, brought).await;
        }
        assert!(self.watches.iter().all(|watch| !watch.is_finished()), "a watch ended");
        judge(&states())
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        self.watches.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// In one line: a life is many of them.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kstatus, health) = (&self.kstatus, &self.health);
        writeln!(f, "\n{} {kstatus} {health} {}: {}", self.generation(), self.reason(), self.object["status"])
    }
}

impl State {
    pub fn generation(&self) -> i64 {
        self.object["metadata"]["generation"].as_i64().unwrap()
    }

    pub fn reason(&self) -> &str {
        let conditions = self.object["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
        ready.and_then(|ready| ready["reason"].as_str()).unwrap_or_default()
    }

    fn has(&self, kind: &str) -> bool {
        let conditions = self.object["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
    }
}

/// What Flux says, and what Argo CD says, without what is said twice in a row: `1 InProgress Progressing`, by generation.
pub fn course(states: &[State]) -> Vec<String> {
    let told = |state: &State| format!("{} {} {}", state.generation(), state.kstatus, state.health);
    let mut course: Vec<String> = states.iter().map(told).collect();
    course.dedup();
    course
}

/// What holds of every state there may be.
///
/// # Panics
/// With the state of which it does not.
pub fn honest(states: &[State]) {
    assert!(!states.is_empty(), "a watch shows something");
    let first = &states[0];
    assert_eq!((&*first.kstatus, &*first.health), ("InProgress", "Progressing"), "as it was created: {first:?}");
    for state in states {
        let (metadata, status) = (&state.object["metadata"], &state.object["status"]);
        let told: Vec<&str> = ["Ready", "Reconciling", "Stalled"].into_iter().filter(|kind| state.has(kind)).collect();
        let (kstatus, health) = match told[..] {
            _ if !metadata["deletionTimestamp"].is_null() => ("Terminating", "Progressing"),
            _ if status["observedGeneration"] != metadata["generation"] => ("InProgress", "Progressing"),
            ["Ready"] => ("Current", "Healthy"),
            ["Reconciling"] => ("InProgress", "Progressing"),
            ["Stalled"] if state.reason() == "Suspended" => ("Failed", "Suspended"),
            ["Stalled"] => ("Failed", "Degraded"),
            _ => panic!("exactly one of Ready, Reconciling, Stalled, and not {told:?}: {state:?}"),
        };
        assert_eq!((&*state.kstatus, &*state.health), (kstatus, health), "{state:?}");
        assert!(!state.health_message.is_empty(), "{state:?}");
    }
}

/// What Flux and Argo CD say of objects, by their own code.
pub fn judge(objects: &[Value]) -> Vec<State> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = PROGRAM.get_or_init(|| {
        let install = root.join("tests/gitops/install");
        let done = Command::new(&install).stderr(Stdio::inherit()).output().expect("tests/gitops/install runs");
        assert!(done.status.success(), "{}: {}", install.display(), done.status);
        PathBuf::from(String::from_utf8(done.stdout).expect("a path").trim())
    });
    let mut child = Command::new(program)
        .arg(root.join("examples/argocd/argocd-cm.yaml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
    let mut stdin = child.stdin.take().expect("stdin");
    // It answers while it reads: neither pipe may fill up.
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    writer.join().unwrap().expect("it reads all of it");
    let answers = String::from_utf8(output.stdout).expect("JSON");
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), objects.len());
    let text = |answer: &Value, key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let state = |(object, answer): (&Value, &Value)| State {
        object: object.clone(),
        kstatus: text(answer, "kstatus"),
        health: text(answer, "health"),
        health_message: text(answer, "healthMessage"),
        actions: answer["actions"].clone(),
    };
    objects.iter().zip(&answers).map(state).collect()
}

fn value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap()
}
