//! An API server of a test's own: etcd and kube-apiserver, and nothing that acts on what they hold. For what would be in
//! the way of others in the cluster that tests share: schemas that are loosened, ten thousand objects, requests counted.

#![allow(dead_code, reason = "each test program uses another part")]

use std::io::{BufRead as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::eventually;
use super::postgres::free_port;

/// Two programs that start on a machine that is busy.
const START: Duration = Duration::from_secs(90);

/// Whose requests the audit log keeps apart: the operator comes by [`ApiServer::kubeconfig`].
const OPERATOR: &str = "belay";

/// Ended, and its files removed, when it is dropped.
pub struct ApiServer {
    /// As an administrator.
    pub cluster: Cluster,
    directory: PathBuf,
    watchdog: Child,
    alive: Option<ChildStdin>,
}

impl ApiServer {
    /// Starts it, with Belay's kinds.
    ///
    /// # Panics
    /// When it does not come up, with what it logged.
    pub async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let built =
            Command::new(root.join("tests/cluster/binaries")).args(["etcd", "kube-apiserver", "kubectl"]).status();
        assert!(built.is_ok_and(|status| status.success()), "tests/cluster/binaries built no API server");
        let directory = std::env::temp_dir().join(format!("belay-api-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a file");
        write("tokens", &format!("admin,admin,admin,system:masters\n{OPERATOR},{OPERATOR},{OPERATOR}\n"));
        write("audit.yaml", AUDIT);
        let key = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(directory.join("key"))
            .stderr(Stdio::null())
            .status();
        assert!(key.is_ok_and(|status| status.success()), "openssl made no key");
        let (client, peer, port) = (free_port(), free_port(), free_port());
        for who in ["admin", OPERATOR] {
            write(&format!("{who}.yaml"), &kubeconfig(&directory, port, who));
        }
        let mut watchdog = Command::new("sh")
            .args(["-c", PROGRAMS, "sh"])
            .args([root.join("target/cluster/bin"), directory.clone()])
            .args([client, peer, port].map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let alive = watchdog.stdin.take();
        let certificate = directory.join("pki/apiserver.crt");
        let log = || std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        let started = std::time::Instant::now();
        let cluster = loop {
            let coming = started.elapsed() < START && !log().contains("command failed");
            assert!(coming, "no API server within {START:?}:\n{}", log());
            if certificate.exists() {
                let cluster = Cluster::at(directory.join("admin.yaml")).await;
                if cluster.kubectl(["get", "--raw", "/readyz"]).status.success() {
                    break cluster;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let server = Self { cluster, directory, watchdog, alive };
        for crd in belay::api::crds() {
            server.serve(&crd).await;
        }
        server
    }

    /// The file by which an operator comes: what it asks for is told from what the test does.
    pub fn kubeconfig(&self) -> String {
        self.directory.join(format!("{OPERATOR}.yaml")).display().to_string()
    }

    /// From now on the API server takes any object of Belay's kinds.
    pub async fn loosen(&self) {
        let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        for mut crd in belay::api::crds() {
            for version in &mut crd.spec.versions {
                let schema = version.schema.as_mut().expect("a schema");
                schema.open_api_v3_schema = serde_json::from_value(anything.clone()).expect("a schema");
            }
            self.serve(&crd).await;
            self.takes_anything(&crd, true).await;
        }
    }

    /// The schemas of this Belay are in force again.
    pub async fn tighten(&self) {
        for crd in belay::api::crds() {
            self.serve(&crd).await;
            self.takes_anything(&crd, false).await;
        }
    }

    async fn serve(&self, crd: &CustomResourceDefinition) {
        let api: Api<CustomResourceDefinition> = Api::all(self.cluster.client.clone());
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(crd)).await.expect("a CRD");
        eventually(&format!("{name} served"), START, async || {
            let status = api.get(&name).await.ok()?.status?;
            let established = |c: &&Value| c["type"] == "Established" && c["status"] == "True";
            let conditions = serde_json::to_value(status.conditions).ok()?;
            conditions.as_array()?.iter().find(established).map(|_| ())
        })
        .await;
    }

    /// The API server takes a moment to go by another schema.
    async fn takes_anything(&self, crd: &CustomResourceDefinition, wanted: bool) {
        let kind = &crd.spec.names.kind;
        let odd = json!({ "apiVersion": "belay.dev/v1alpha1", "kind": kind, "metadata": { "name": "odd" }, "spec": 7 });
        eventually("the schema in force", START, async || {
            let create = ["create", "--dry-run=server", "--namespace", "default", "--filename", "-"];
            let taken = self.cluster.kubectl_with(create, &odd.to_string()).status.success();
            (taken == wanted).then_some(())
        })
        .await;
    }

    /// How much of the audit log there is.
    pub fn mark(&self) -> u64 {
        self.directory.join("audit.log").metadata().map_or(0, |metadata| metadata.len())
    }

    /// What the operator has asked for since then, as the audit log has it: what was answered.
    pub fn requests(&self, since: u64) -> Vec<Value> {
        let mut file = std::fs::File::open(self.directory.join("audit.log")).expect("the audit log");
        file.seek(SeekFrom::Start(since)).expect("what was there");
        std::io::BufReader::new(file)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .filter(|entry| entry["user"]["username"] == OPERATOR)
            .collect()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.alive.take();
        let _ = self.watchdog.wait();
    }
}

fn kubeconfig(directory: &Path, port: u16, who: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "own",
        "clusters": [{ "name": "own", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": directory.join("pki/apiserver.crt"),
        } }],
        "users": [{ "name": who, "user": { "token": who } }],
        "contexts": [{ "name": "own", "context": { "cluster": "own", "user": who } }],
    })
    .to_string()
}

const AUDIT: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

/// Whatever becomes of the test, the pipe closes, and with it they end.
const PROGRAMS: &str = r#"trap '' INT TERM HUP
bin=$1 dir=$2 client=http://127.0.0.1:$3 peer=http://127.0.0.1:$4 port=$5
"$bin/etcd" --name own --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn --quota-backend-bytes 4294967296 \
  --listen-client-urls "$client" --advertise-client-urls "$client" \
  --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "own=$peer" >>"$dir/log" 2>&1 &
etcd=$!
"$bin/kube-apiserver" --etcd-servers "$client" --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$port" \
  --endpoint-reconciler-type none --service-cluster-ip-range 10.0.0.0/24 --cert-dir "$dir/pki" \
  --token-auth-file "$dir/tokens" --authorization-mode AlwaysAllow --disable-admission-plugins ServiceAccount \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$dir/key" \
  --service-account-signing-key-file "$dir/key" --audit-policy-file "$dir/audit.yaml" \
  --audit-log-path "$dir/audit.log" --audit-log-maxsize 100000 >>"$dir/log" 2>&1 &
api=$!
cat >/dev/null
kill -KILL "$api" "$etcd" 2>/dev/null
wait
rm -rf "$dir""#;
