//! Tests in a real cluster: the operator runs there as a Deployment from its own image, and each test has a namespace
//! of its own. `BELAY_KUBECONFIG` names the cluster; without it, it is the one that `make cluster` brings up.

#![allow(dead_code, reason = "each test program uses another part")]

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use serde::Deserialize as _;
use serde_json::Value;

/// The namespace of the operator, as `make deploy` installs it.
pub const OPERATOR: &str = "belay-system";

/// The operator's user, as the API server knows it.
pub const OPERATORS_ACCOUNT: &str = "system:serviceaccount:belay-system:belay";

/// How often a condition is looked at again.
const EVERY: Duration = Duration::from_millis(50);

/// When a test gives up on what the operator should have done: far above what it takes, for a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The cluster that tests run in.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    kubeconfig: PathBuf,
}

/// A namespace of one test, gone when the test is done.
pub struct Namespace {
    pub cluster: Cluster,
    pub name: String,
}

impl Cluster {
    /// Connects, and sees that the operator of `make deploy` is there.
    ///
    /// # Panics
    /// With what to do, when there is no cluster or no operator in it.
    pub async fn connect() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cluster = Self::at(match std::env::var_os("BELAY_KUBECONFIG") {
            Some(path) => PathBuf::from(path),
            None => root.join("target/cluster/kubeconfig"),
        })
        .await;
        let crds = cluster.kubectl(["get", "crd", "migrations.belay.dev", "--output", "name"]);
        assert!(crds.status.success(), "{}the operator is not there: make deploy", text(&crds.stderr));
        cluster
    }

    /// The cluster that a kubeconfig names, whatever is in it.
    ///
    /// # Panics
    /// When that cannot be read.
    pub async fn at(kubeconfig: PathBuf) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = Kubeconfig::read_from(&kubeconfig)
            .unwrap_or_else(|error| panic!("{}: {error}. make deploy brings a cluster up", kubeconfig.display()));
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        Self { client: Client::try_from(config).unwrap(), kubeconfig }
    }

    /// A new namespace under the same Pod Security as production's: restricted.
    pub async fn namespace(&self, purpose: &str) -> Namespace {
        let random: String = uuid::Uuid::new_v4().simple().to_string().chars().take(6).collect();
        let name = format!("{purpose}-{random}");
        let labels = "{belay.dev/tests: 'true', pod-security.kubernetes.io/enforce: restricted}";
        let manifest = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {labels}}}}}");
        self.apply_to(None, &manifest).await;
        Namespace { cluster: self.clone(), name }
    }

    /// The file that names the cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig of the operator's own ServiceAccount: what the chart does not let it do, an operator that is started by
    /// this one may not do either.
    pub fn operators_kubeconfig(&self) -> &'static Path {
        static FILE: OnceLock<PathBuf> = OnceLock::new();
        FILE.get_or_init(|| {
            let create = ["--namespace", OPERATOR, "create", "token", "belay", "--duration", "4h"];
            let token = self.kubectl(create);
            assert!(token.status.success(), "{}", text(&token.stderr));
            let token = serde_yaml::to_value(serde_json::json!({ "token": text(&token.stdout) })).expect("a token");
            self.kubeconfig_as("operator", |user| *user = token.clone())
        })
    }

    /// A kubeconfig of a user who may learn which kinds there are, and read none.
    pub fn strangers_kubeconfig(&self) -> &'static Path {
        static FILE: OnceLock<PathBuf> = OnceLock::new();
        FILE.get_or_init(|| self.kubeconfig_as("stranger", |user| user["as"] = "stranger".into()))
    }

    /// The administrator's kubeconfig, as somebody else's, who is made of each user in it.
    fn kubeconfig_as(&self, who: &str, turn: impl Fn(&mut serde_yaml::Value)) -> PathBuf {
        let admins = std::fs::read_to_string(&self.kubeconfig).expect("the cluster's kubeconfig");
        let mut config: serde_yaml::Value = serde_yaml::from_str(&admins).expect("a kubeconfig");
        for user in config["users"].as_sequence_mut().expect("users") {
            turn(&mut user["user"]);
        }
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{who}.kubeconfig"));
        // Another test program may be reading it.
        let new = file.with_extension(std::process::id().to_string());
        std::fs::write(&new, serde_yaml::to_string(&config).expect("a kubeconfig")).expect("a file for it");
        std::fs::rename(&new, &file).expect("a file for it");
        file
    }

    /// The objects of one of Belay's kinds in a namespace.
    pub fn api(&self, namespace: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(belay::api::GROUP, "v1alpha1", kind);
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, plural))
    }

    /// Runs the cluster's own kubectl.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl with `input` as its standard input.
    pub fn kubectl_with<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &str) -> Output {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cluster/bin/kubectl");
        let mut child = Command::new(if built.exists() { built } else { "kubectl".into() })
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl is missing: tests/cluster/tools builds it");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Creates or changes the objects of a manifest, as `kubectl apply --server-side` does.
    async fn apply_to(&self, namespace: Option<&str>, manifest: &str) {
        for document in serde_yaml::Deserializer::from_str(manifest) {
            let object = Value::deserialize(document).unwrap_or_else(|error| panic!("{error}\n{manifest}"));
            if object.is_null() {
                continue;
            }
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            let types = object.types.clone().unwrap();
            let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
            let kind = GroupVersionKind::gvk(group, version, &types.kind);
            let resource = ApiResource::from_gvk_with_plural(&kind, &format!("{}s", types.kind.to_lowercase()));
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
                None => Api::all_with(self.client.clone(), &resource),
            };
            let name = object.metadata.name.clone().unwrap();
            let applied = api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&object)).await;
            applied.unwrap_or_else(|error| panic!("{} {name}: {error}", types.kind));
        }
    }

    /// What a person on call would look at first.
    pub fn report(&self, namespace: &str) -> String {
        let looks: [&[&str]; 4] = [
            &["get", "migrations,postgresdatabases,postgresbackups,jobs,pods"],
            &[
                "get",
                "migrations,postgresdatabases,postgresbackups",
                "--output",
                "jsonpath={range .items[*]}{.kind} {.metadata.name}: {.status}{\"\\n\"}{end}",
            ],
            &["get", "events", "--sort-by", ".lastTimestamp"],
            &["logs", "--selector", "belay.dev/database", "--all-containers", "--tail", "20"],
        ];
        let mut report = String::new();
        for look in looks {
            let output = self.kubectl(["--namespace", namespace].iter().chain(look));
            report += &format!("$ kubectl {}\n{}{}", look.join(" "), text(&output.stdout), text(&output.stderr));
        }
        let logs = self.kubectl(["--namespace", OPERATOR, "logs", "deployment/belay", "--tail", "400"]);
        let ours = text(&logs.stdout);
        let ours = ours.lines().filter(|line| line.contains(namespace)).collect::<Vec<_>>().join("\n");
        report + "$ operator's log\n" + &ours + "\n"
    }
}

impl Namespace {
    /// Creates or changes the objects of a manifest.
    pub async fn apply(&self, manifest: &str) {
        self.cluster.apply_to(Some(&self.name), manifest).await;
    }

    /// Runs kubectl in this namespace, and gives what it printed.
    ///
    /// # Panics
    /// When kubectl says no.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments = [&["--namespace", &self.name], arguments].concat();
        let output = self.cluster.kubectl(&arguments);
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Lets the operator's account hold a Lease here, by the very rules that the chart gives it for its own namespace.
    pub fn let_operators_elect(&self) {
        let may = ["auth", "can-i", "update", "leases.coordination.k8s.io/belay", "--as", OPERATORS_ACCOUNT];
        let may = || self.cluster.kubectl(["--namespace", &self.name].iter().chain(&may)).status.success();
        if may() {
            return;
        }
        for kind in ["role", "rolebinding"] {
            let get = ["--namespace", OPERATOR, "get", kind, "belay-election", "--output", "json"];
            let got = self.cluster.kubectl(get);
            let mut object: Value =
                serde_json::from_slice(&got.stdout).unwrap_or_else(|_| panic!("{}", text(&got.stderr)));
            object["metadata"] = serde_json::json!({ "name": "belay-election" });
            let applied =
                self.cluster.kubectl_with(["--namespace", &self.name, "apply", "--filename", "-"], &object.to_string());
            assert!(applied.status.success(), "{}", text(&applied.stderr));
        }
        // The API server's authorizer learns of a role a moment after it is stored.
        let started = Instant::now();
        while !may() {
            assert!(started.elapsed() < DEADLINE, "the role belay-election came to nothing in {}", self.name);
        }
    }

    /// An object of one of Belay's kinds as it is now.
    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let api = self.cluster.api(&self.name, kind, &format!("{}s", kind.to_lowercase()));
        api.get_opt(name).await.unwrap().map(|object| serde_json::to_value(object).unwrap())
    }

    /// Polls until the Migration's condition Ready has this reason, for its present generation; gives the Migration.
    pub async fn reason(&self, name: &str, reason: &str) -> Value {
        let look = async || {
            let migration = self.get("Migration", name).await?;
            let seen = ready(&migration)?;
            let current = seen["observedGeneration"] == migration["metadata"]["generation"];
            (current && seen["reason"] == reason).then_some(migration)
        };
        self.wait_for(&format!("reason {reason} of Migration {name}"), DEADLINE, look).await
    }

    /// Changes fields of an object of one of Belay's kinds; null takes one away.
    pub async fn patch(&self, kind: &str, name: &str, fields: Value) {
        let api = self.cluster.api(&self.name, kind, &format!("{}s", kind.to_lowercase()));
        api.patch(name, &PatchParams::default(), &Patch::Merge(fields)).await.unwrap();
    }

    /// Asks for an object of one of Belay's kinds to be deleted.
    pub async fn delete(&self, kind: &str, name: &str) {
        let api = self.cluster.api(&self.name, kind, &format!("{}s", kind.to_lowercase()));
        drop(api.delete(name, &DeleteParams::default()).await.unwrap());
    }

    /// Polls until `look` gives something; gives that.
    ///
    /// # Panics
    /// At the deadline, with what was seen: the objects, their events, what the operator logged of them.
    pub async fn wait_for<T>(&self, what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            let report = || self.cluster.report(&self.name);
            assert!(started.elapsed() < deadline, "{what} did not come in {deadline:?}.\n{}", report());
            tokio::time::sleep(EVERY).await;
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Also after a panic; BELAY_KEEP leaves it for a person to look at.
        if std::env::var_os("BELAY_KEEP").is_none() {
            self.cluster.kubectl(["delete", "namespace", &self.name, "--wait=false"]);
        }
    }
}

/// Bytes of a program's output.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The condition Ready of an object.
pub fn ready(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

/// What the condition Ready says.
pub fn message(object: &Value) -> &str {
    ready(object).and_then(|ready| ready["message"].as_str()).unwrap_or_default()
}
