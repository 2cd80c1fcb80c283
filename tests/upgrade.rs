//! The chart over time: another value and back again, and CustomResourceDefinitions that are older than the operator. It concerns
//! everybody in the cluster: cargo runs this program alone, and its tests take turns.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use cluster::{Cluster, DEADLINE, Namespace, OPERATOR, text};

static TURN: Mutex<()> = Mutex::const_new(());

fn helm(cluster: &Cluster, arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = root.join("target/cluster/bin/helm");
    let output = Command::new(if built.exists() { built } else { "helm".into() })
        .args(["--namespace", OPERATOR])
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .current_dir(root)
        .output()
        .expect("helm is missing: tests/cluster/tools builds it");
    assert!(output.status.success(), "helm {arguments:?}: {}{}", text(&output.stderr), cluster.report(OPERATOR));
    text(&output.stdout)
}

/// The operator's objects, by kubectl.
fn of_operator(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.kubectl(["--namespace", OPERATOR].iter().chain(arguments));
    assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn log_level(cluster: &Cluster) -> String {
    let path = "jsonpath={.spec.template.spec.containers[0].env[?(@.name==\"BELAY_LOG\")].value}";
    of_operator(cluster, &["get", "deployment", "belay", "--output", path])
}

/// What an upgrade must not make anew.
fn identities(namespace: &Namespace) -> String {
    let uid = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    let crds = ["migrations.belay.dev", "postgresdatabases.belay.dev", "postgresbackups.belay.dev"];
    let crds = namespace.cluster.kubectl([&["get", "crd"][..], &crds, &["--output", uid]].concat());
    text(&crds.stdout) + &namespace.kubectl(&["get", "migrations,postgresdatabases,secrets", "--output", uid])
}

/// A release of one more script, which brings the database there.
async fn release(namespace: &Namespace, version: usize) {
    let scripts: Vec<_> = (1..=version).map(|n| (format!("{n}_t.sql"), format!("create table t{n} ();"))).collect();
    let scripts: Vec<_> = scripts.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
    namespace.migrate(&scripts, json!({})).await;
    let migration = namespace.reason("m", "Succeeded").await;
    assert_eq!(migration["status"]["version"], version.to_string(), "{migration}");
}

#[tokio::test]
async fn an_upgrade_and_its_rollback_leave_every_object_as_it_is_and_the_next_release_goes_through() {
    let _turn = TURN.lock().await;
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("upgrade").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    release(&namespace, 1).await;
    let (before, level) = (identities(&namespace), log_level(&cluster));

    helm(
        &cluster,
        &["upgrade", "belay", "charts/belay", "--reuse-values", "--set", "logLevel=debug", "--wait", "--timeout", "2m"],
    );
    assert_eq!((log_level(&cluster), identities(&namespace)), ("debug".to_owned(), before.clone()));
    release(&namespace, 2).await;

    helm(&cluster, &["rollback", "belay", "--wait", "--timeout", "2m"]);
    assert_eq!((log_level(&cluster), identities(&namespace)), (level, before));
    release(&namespace, 3).await;
}

/// The CRDs of this Belay, by the command that the operator names.
fn update_crds(cluster: &Cluster) {
    let crds = Command::new(env!("CARGO_BIN_EXE_belay")).arg("crds").output().expect("belay crds");
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
    let applied = cluster.kubectl_with(apply, &text(&crds.stdout));
    assert!(applied.status.success(), "{}", text(&applied.stderr));
}

/// Has the CRDs updated whatever becomes of the test.
struct Older<'a>(&'a Cluster);

impl Drop for Older<'_> {
    fn drop(&mut self) {
        update_crds(self.0);
    }
}

#[tokio::test]
async fn an_operator_that_is_newer_than_the_crds_says_what_they_lack_and_leaves_the_work_to_the_former_until_they_are_updated()
 {
    let _turn = TURN.lock().await;
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("older").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    release(&namespace, 1).await;

    let older = Older(&cluster);
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/sourceDigest";
    let patch = json!([{ "op": "remove", "path": field }]).to_string();
    let patched = cluster.kubectl(["patch", "crd", "migrations.belay.dev", "--type", "json", "--patch", &patch]);
    assert!(patched.status.success(), "{}", text(&patched.stderr));
    let described = async || {
        let group = cluster.kubectl(["get", "--raw", "/openapi/v3/apis/belay.dev/v1alpha1"]);
        let group: Value = serde_json::from_slice(&group.stdout).ok()?;
        let fields =
            &group["components"]["schemas"]["dev.belay.v1alpha1.Migration"]["properties"]["status"]["properties"];
        (fields["version"].is_object() && fields["sourceDigest"].is_null()).then_some(())
    };
    namespace.wait_for("the older schema", DEADLINE, described).await;

    of_operator(&cluster, &["rollout", "restart", "deployment/belay"]);
    let refusal = "CustomResourceDefinition migrations.belay.dev is older than this Belay: it lacks status.sourceDigest. \
                   Belay does nothing until it is updated: belay crds | kubectl apply --server-side";
    let newest =
        ["get", "pods", "--selector", "app.kubernetes.io/name=belay", "--sort-by", ".metadata.creationTimestamp"];
    let newest = [&newest[..], &["--output", "jsonpath={.items[-1:].metadata.name}"]].concat();
    let refuses = async || {
        let pod = of_operator(&cluster, &newest);
        let log = text(&cluster.kubectl(["--namespace", OPERATOR, "logs", &pod]).stdout);
        log.contains(refusal).then_some(pod)
    };
    let pod = namespace.wait_for(refusal, DEADLINE, refuses).await;
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(of_operator(&cluster, &["get", "pod", &pod, "--output", ready]), "False");
    release(&namespace, 2).await;

    drop(older);
    of_operator(&cluster, &["rollout", "status", "deployment/belay", "--timeout", "60s"]);
    assert_eq!(of_operator(&cluster, &["get", "pod", &pod, "--output", ready]), "True", "the same Pod goes on");
    release(&namespace, 3).await;
    let migration = namespace.get("Migration", "m").await.expect("the Migration");
    assert!(migration["status"]["sourceDigest"].is_string(), "{migration}");
}
