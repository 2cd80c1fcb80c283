//! What the chart's admission policies hold: a right to write Belay's objects is no right to run Pods or to read Secrets.

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{Cluster, DEADLINE, Namespace, text};

/// Who may write Belay's objects in a namespace, and what `rules` add.
async fn allow(namespace: &Namespace, who: &str, rules: &str) {
    let belay = "{apiGroups: [belay.dev], resources: ['*'], verbs: ['*']}";
    let role = format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: {who}}}, rules: [{belay}, {rules}]}}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: {who}}}, \
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {who}}}, \
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {who}}}]}}"
    );
    namespace.apply(&role).await;
    // The API server's authorizer learns of a role a moment after it is stored.
    let may = async || {
        let as_them = ["auth", "can-i", "create", "migrations.belay.dev", "--as", who, "--namespace", &namespace.name];
        namespace.cluster.kubectl(as_them).status.success().then_some(())
    };
    namespace.wait_for("the role", DEADLINE, may).await;
}

/// Tries to create an object as somebody: what the API server says to it.
fn create_as(namespace: &Namespace, who: &str, kind: &str, spec: &str) -> Result<(), String> {
    let manifest = format!("{{apiVersion: belay.dev/v1alpha1, kind: {kind}, metadata: {{name: a}}, spec: {spec}}}");
    let create = ["create", "--dry-run=server", "--as", who, "--namespace", &namespace.name, "--filename", "-"];
    let output = namespace.cluster.kubectl_with(create, &manifest);
    if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
}

const TEMPLATE: &str = "template: {spec: {containers: [{name: a, image: a}]}}";

#[tokio::test]
async fn who_writes_a_pod_template_must_be_allowed_to_create_jobs() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("templates").await;
    allow(&namespace, "writer", "{apiGroups: [''], resources: [secrets], verbs: [get]}").await;
    allow(
        &namespace,
        "runner",
        "{apiGroups: [batch], resources: [jobs], verbs: [create]}, {apiGroups: [''], resources: [secrets], verbs: [get]}",
    )
    .await;
    let objects = [
        ("Migration", format!("{{databaseRef: {{name: db}}, source: {{inline: {{}}}}, healthChecks: [{{name: a, job: {{{TEMPLATE}}}}}]}}")),
        ("PostgresBackup", format!("{{databaseRef: {{name: db}}, method: {{job: {{{TEMPLATE}}}}}}}")),
        ("PostgresDatabase", format!("{{connection: {{secretRef: {{name: a}}}}, backup: {{method: {{job: {{{TEMPLATE}}}}}}}}}")),
        (
            "PostgresDatabase",
            "{connection: {secretRef: {name: a}}, backup: {method: {pgDump: {store: {persistentVolumeClaim: {claimName: a}}, \
             podTemplate: {}}}}}"
                .to_owned(),
        ),
    ];
    for (kind, spec) in objects {
        let refused = create_as(&namespace, "writer", kind, &spec).expect_err(&spec);
        assert!(refused.contains("writer writes a Pod template, but may not create Jobs"), "{kind}: {refused}");
        create_as(&namespace, "runner", kind, &spec).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    // Without a template, writing Migrations is enough.
    let plain = "{databaseRef: {name: db}, source: {inline: {}}, healthChecks: [{name: a, sql: {query: select true}}]}";
    create_as(&namespace, "writer", "Migration", plain).unwrap();
    create_as(&namespace, "writer", "PostgresBackup", "{databaseRef: {name: db}}").unwrap();
}

#[tokio::test]
async fn who_names_a_secret_must_be_allowed_to_get_it() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("secrets").await;
    allow(&namespace, "owner", "{apiGroups: [''], resources: [secrets], resourceNames: [own], verbs: [get]}").await;
    let with = |secret: &str, ca: &str| {
        format!("{{connection: {{secretRef: {{name: {secret}}}, caRef: {{kind: {ca}, key: ca.crt}}}}}}")
    };
    let showing =
        |client: &str| format!("{{connection: {{secretRef: {{name: own}}, clientCertSecretRef: {{name: {client}}}}}}}");
    for spec in [with("own", "Secret, name: own"), with("own", "ConfigMap, name: any"), showing("own")] {
        create_as(&namespace, "owner", "PostgresDatabase", &spec).unwrap();
    }
    for spec in [with("other", "ConfigMap, name: any"), with("own", "Secret, name: other"), showing("other")] {
        let refused = create_as(&namespace, "owner", "PostgresDatabase", &spec).expect_err(&spec);
        assert!(refused.contains("owner names a Secret that it may not get"), "{refused}");
    }
}

#[tokio::test]
async fn who_changes_labels_only_is_not_asked() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("labels").await;
    allow(&namespace, "labeller", "{apiGroups: [''], resources: [pods], verbs: [get]}").await;
    let spec = format!(
        "{{databaseRef: {{name: db}}, source: {{inline: {{}}}}, suspend: true, healthChecks: [{{name: a, job: {{{TEMPLATE}}}}}]}}"
    );
    namespace
        .apply(&format!("{{apiVersion: belay.dev/v1alpha1, kind: Migration, metadata: {{name: m}}, spec: {spec}}}"))
        .await;
    let as_them = |arguments: &[&str]| {
        let base = ["--as", "labeller", "--namespace", &namespace.name];
        let output = namespace.cluster.kubectl(base.iter().chain(arguments));
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    };
    as_them(&["label", "migration", "m", "team=shop"]).unwrap();
    let changed = as_them(&["patch", "migration", "m", "--type=merge", "--patch", r#"{"spec":{"target":"3"}}"#]);
    assert!(changed.unwrap_err().contains("may not create Jobs"));
}
