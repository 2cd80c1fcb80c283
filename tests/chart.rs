//! The chart as it is installed: what the operator may do, how its Pod runs, and what is left when it is gone.

#[path = "generate/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only helm is wanted here")]
mod generate;
#[path = "chart/kubeconform.rs"]
mod kubeconform;
mod support;

use std::process::Command;

use serde_json::{Value, json};

use kubeconform::Schemas;
use support::apiserver::ApiServer;
use support::cluster::{Cluster, DEADLINE, Namespace, OPERATOR, OPERATORS_ACCOUNT, text};
use support::{SOON, eventually};

fn get(cluster: &Cluster, arguments: &[&str]) -> Value {
    let output = cluster.kubectl(arguments.iter().chain(&["--output", "json"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn the_operator_may_do_what_it_needs_and_nothing_beside_it() {
    let cluster = Cluster::connect().await;
    let may = |what: &str| {
        let arguments =
            ["auth", "can-i", "--as", OPERATORS_ACCOUNT, "--namespace", "default"].into_iter().chain(what.split(' '));
        cluster.kubectl(arguments).status.success()
    };
    for needed in [
        "get secrets",
        "list configmaps",
        "watch migrations.belay.dev",
        "patch migrations.belay.dev --subresource=status",
        "create jobs.batch",
        "delete postgresbackups.belay.dev",
        "create events.events.k8s.io",
        "get deployments.apps",
        "get namespaces/kube-system",
    ] {
        assert!(may(needed), "it may not {needed}");
    }
    let may_at_home = |what: &str| {
        let arguments =
            ["auth", "can-i", "--as", OPERATORS_ACCOUNT, "--namespace", OPERATOR].into_iter().chain(what.split(' '));
        cluster.kubectl(arguments).status.success()
    };
    for needed in ["create leases.coordination.k8s.io", "update leases.coordination.k8s.io/belay"] {
        assert!(may_at_home(needed), "it may not {needed}");
    }
    for beyond in ["update leases.coordination.k8s.io/other", "delete leases.coordination.k8s.io/belay"] {
        assert!(!may_at_home(beyond), "it may {beyond}");
    }
    for beyond in [
        "create leases.coordination.k8s.io",
        "list secrets",
        "watch secrets",
        "update migrations.belay.dev",
        "update migrations.belay.dev --subresource=status",
        "patch postgresdatabases.belay.dev",
        "get customresourcedefinitions.apiextensions.k8s.io",
        "create secrets",
        "update configmaps",
        "create pods",
        "create pods --subresource=exec",
        "delete migrations.belay.dev",
        "create migrations.belay.dev",
        "delete postgresdatabases.belay.dev",
        "update deployments.apps",
        "get namespaces/default",
        "delete persistentvolumeclaims",
        "impersonate users",
        "create rolebindings.rbac.authorization.k8s.io",
    ] {
        assert!(!may(beyond), "it may {beyond}");
    }
}

#[tokio::test]
async fn the_operators_pod_passes_the_restricted_profile() {
    let cluster = Cluster::connect().await;
    // The namespace of the plain manifests enforces it; here the same is asked of the API server for the Pod as it runs.
    let mut deployment = get(&cluster, &["--namespace", OPERATOR, "get", "deployment", "belay"]);
    let namespace = cluster.namespace("restricted").await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" }, "spec": deployment["spec"]["template"]["spec"].take()
    });
    let mut pod = pod;
    pod["spec"]["serviceAccountName"] = json!("default");
    pod["spec"].as_object_mut().unwrap().remove("serviceAccount");
    let create = ["create", "--dry-run=server", "--namespace", &namespace.name, "--filename", "-"];
    let output = cluster.kubectl_with(create, &pod.to_string());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 65);
}

/// What the API server says of a manifest, to the letter: a field that it does not know is an error.
fn take(cluster: &Cluster, manifest: &str) -> Result<(), String> {
    let apply = ["apply", "--dry-run=server", "--validate=strict", "--filename", "-"];
    let output = cluster.kubectl_with(apply, manifest);
    if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
}

fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Everything that is there to be applied, with what it is. What needs kinds of the Prometheus Operator's has a test of its own.
fn manifests(namespace: &Namespace) -> Vec<(String, String)> {
    let mut manifests = vec![
        ("deploy/belay.yaml".to_owned(), std::fs::read_to_string(root().join("deploy/belay.yaml")).unwrap()),
        ("belay crds".to_owned(), belay::cli::crds::render().unwrap()),
    ];
    for example in ["shop", "rbac"] {
        let folder = root().join("examples").join(example);
        let rendered = text(&namespace.cluster.kubectl(["kustomize", folder.to_str().unwrap()]).stdout);
        // A namespace of that name need not be there.
        let rendered = rendered.replace("namespace: shop\n", &format!("namespace: {}\n", namespace.name));
        manifests.push((folder.display().to_string(), rendered));
    }
    for values in [
        "replicas=2,networkPolicy.enabled=true,metrics.dashboard.enabled=true,imagePullSecrets={pull}",
        "watchNamespace=belay-system,clusterName=west,httpChecks.allowedHosts={status.example.com},leaderElection.enabled=false",
    ] {
        let arguments =
            ["template", "belay", "charts/belay", "--namespace", OPERATOR, "--set", values, "--kube-version"];
        let rendered = generate::helm(root(), &[&arguments[..], &[generate::KUBERNETES]].concat());
        manifests.push((values.to_owned(), rendered));
    }
    manifests
}

#[tokio::test]
async fn the_api_server_takes_every_manifest_to_the_letter() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("manifests").await;
    let manifests = manifests(&namespace);
    for (what, manifest) in &manifests {
        take(&cluster, manifest).unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    }
    let refusal = take(&cluster, &manifests[0].1.replace("  replicas: 1\n", "  replcas: 1\n")).unwrap_err();
    assert!(refusal.contains("replcas"), "what is misspelt passes: {refusal}");
}

#[tokio::test]
async fn every_manifest_passes_kubeconform_where_no_api_server_is() {
    let cluster = Cluster::connect().await;
    let schemas = Schemas::of(&cluster);
    let namespace = cluster.namespace("conform").await;
    let manifests = manifests(&namespace);
    for (what, manifest) in &manifests {
        schemas.take(manifest).unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    }
    let misspelt = [
        (0, "  replicas: 1\n", "  replcas: 1\n", "replcas"),
        (0, "  replicas: 1\n", "  replicas: one\n", "replicas"),
        (0, "kind: Deployment\n", "kind: Deploiment\n", "Deploiment"),
        (2, "databaseRef:", "databaseReff:", "databaseReff"),
    ];
    for (at, right, wrong, told) in misspelt {
        assert!(manifests[at].1.contains(right), "{} has no {right}", manifests[at].0);
        let refusal = schemas.take(&manifests[at].1.replace(right, wrong)).expect_err(told);
        assert!(refusal.contains(told), "{refusal}");
    }
}

/// On an API server of its own: in a cluster the kinds are the Prometheus Operator's to install.
#[tokio::test]
async fn the_prometheus_operators_kinds_take_what_the_chart_has_of_them_to_the_letter() {
    let crds = Command::new(root().join("tests/cluster/prometheus-crds")).output().unwrap();
    assert!(crds.status.success(), "{}", text(&crds.stderr));
    let server = ApiServer::start().await;
    for file in text(&crds.stdout).lines() {
        let applied = server.cluster.kubectl(["apply", "--server-side", "--filename", file]);
        assert!(applied.status.success(), "{}", text(&applied.stderr));
    }
    let served = async || {
        let listed = server.cluster.kubectl(["get", "servicemonitors,prometheusrules", "--all-namespaces"]);
        listed.status.success().then_some(())
    };
    eventually("the Prometheus Operator's kinds", SOON, served).await;
    let values = "metrics.serviceMonitor.enabled=true,metrics.serviceMonitor.labels.release=prometheus,\
                  metrics.prometheusRule.enabled=true,metrics.prometheusRule.labels.release=prometheus";
    let arguments = ["template", "belay", "charts/belay", "--namespace", "default", "--set", values, "--kube-version"];
    let rendered = generate::helm(root(), &[&arguments[..], &[generate::KUBERNETES]].concat());
    take(&server.cluster, &rendered).unwrap_or_else(|refusal| panic!("{refusal}"));
    Schemas::of(&server.cluster).take(&rendered).unwrap_or_else(|refusal| panic!("{refusal}"));
    for (kind, field, misspelt) in
        [("ServiceMonitor", "honorLabels", "honourLabels"), ("PrometheusRule", "annotations", "anotations")]
    {
        let mut objects = rendered.split("\n---\n");
        let object = objects.find(|object| object.contains(&format!("kind: {kind}\n"))).expect(kind);
        let refusal = take(&server.cluster, &object.replace(field, misspelt)).expect_err(misspelt);
        assert!(refusal.contains(misspelt), "what is misspelt passes: {refusal}");
    }
}

#[tokio::test]
async fn uninstalling_leaves_the_crds_and_so_every_object() {
    let cluster = Cluster::connect().await;
    for crd in belay::api::crds() {
        let name = crd.metadata.name.unwrap();
        let crd = get(&cluster, &["get", "crd", &name]);
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{name}");
    }
}

#[tokio::test]
async fn an_operator_of_one_namespace_becomes_ready_without_any_cluster_wide_right() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("one").await;
    let deployment = get(&cluster, &["--namespace", OPERATOR, "get", "deployment", "belay"]);
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let name = &namespace.name;
    let values = format!(
        "watchNamespace={name},clusterName={name},crds.install=false,admissionPolicies.enabled=false,image.repository={repository}"
    );
    let tag = format!("image.tag={tag}");
    let rendered = generate::helm(
        root(),
        &[
            "template",
            "solo",
            "charts/belay",
            "--namespace",
            name,
            "--kube-version",
            generate::KUBERNETES,
            "--set",
            &values,
            "--set-string",
            &tag,
        ],
    );
    assert!(!rendered.contains("kind: Cluster") && !rendered.contains("kind: Validating"), "{rendered}");
    let applied = cluster.kubectl_with(["apply", "--filename", "-"], &rendered);
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    let rollout =
        cluster.kubectl(["--namespace", name, "rollout", "status", "deployment/solo-belay", "--timeout", "60s"]);
    assert!(rollout.status.success(), "{}{}", text(&rollout.stderr), cluster.report(name));
    let logs = || namespace.kubectl(&["logs", "deployment/solo-belay"]);
    let leads = async || logs().contains("this replica leads").then_some(());
    namespace.wait_for("its election", DEADLINE, leads).await;
    let logs = logs();
    assert!(logs.contains("watching") && !logs.to_lowercase().contains("forbidden"), "{logs}");
}
