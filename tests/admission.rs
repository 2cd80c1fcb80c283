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
    let all = "{connection: {secretRef: {name: own}, caRef: {kind: Secret, name: own, key: ca.crt}, clientCertSecretRef: {name: own}}}";
    for spec in [with("own", "Secret, name: own"), with("own", "ConfigMap, name: any"), showing("own"), all.to_owned()]
    {
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

/// Whether somebody of a group may do this, as the API server says when it is tried without effect.
fn try_as(namespace: &Namespace, group: &str, arguments: &[&str], manifest: &str) -> Result<(), String> {
    let as_them = ["--as", "somebody", "--as-group", group, "--namespace", &namespace.name];
    let output = namespace.cluster.kubectl_with(as_them.iter().chain(arguments), manifest);
    if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
}

#[tokio::test]
async fn by_the_roles_of_the_examples_developers_ship_scripts_team_leads_run_jobs_and_admins_say_where_databases_are() {
    const DEVELOPERS: &str = "shop-developers";
    const LEADS: &str = "shop-team-leads";
    const ADMINS: &str = "platform-team";
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("roles").await;
    let rendered = cluster.kubectl(["kustomize", concat!(env!("CARGO_MANIFEST_DIR"), "/examples/rbac")]);
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    namespace
        .apply(&text(&rendered.stdout).replace("namespace: shop\n", &format!("namespace: {}\n", namespace.name)))
        .await;
    namespace.apply("{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {uri: 'postgres://a/b'}}").await;
    let spec = "spec: {connection: {secretRef: {name: s}}, backup: {when: Never}}";
    let database =
        format!("{{apiVersion: belay.dev/v1alpha1, kind: PostgresDatabase, metadata: {{name: db}}, {spec}}}");
    namespace.apply(&database).await;
    let may = async || {
        let admins = try_as(&namespace, ADMINS, &["auth", "can-i", "create", "postgresdatabases.belay.dev"], "");
        let leads = try_as(&namespace, LEADS, &["auth", "can-i", "create", "jobs.batch"], "");
        let developers = try_as(&namespace, DEVELOPERS, &["auth", "can-i", "create", "configmaps"], "");
        (admins.is_ok() && leads.is_ok() && developers.is_ok()).then_some(())
    };
    namespace.wait_for("the roles", DEADLINE, may).await;

    let belays = |kind: &str, spec: &str| {
        format!("{{apiVersion: belay.dev/v1alpha1, kind: {kind}, metadata: {{name: new}}, spec: {spec}}}")
    };
    let source = "databaseRef: {name: db}, source: {inline: {}}";
    let create: &[&str] = &["create", "--dry-run=server", "--filename", "-"];
    let accept: &[&str] = &["annotate", "postgresdatabase", "db", "--dry-run=server", "belay.dev/accept=a/b/c"];
    let no_policy = "may not create Jobs in namespace";
    let tries = [
        (
            "a ConfigMap",
            create,
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: new}}".to_owned(),
            [None, None, None],
        ),
        ("a Migration", create, belays("Migration", &format!("{{{source}}}")), [None, None, None]),
        (
            "a Migration that runs a Job",
            create,
            belays("Migration", &format!("{{{source}, healthChecks: [{{name: a, job: {{{TEMPLATE}}}}}]}}")),
            [Some(no_policy), None, None],
        ),
        (
            "a Backup",
            create,
            belays("PostgresBackup", "{databaseRef: {name: db}}"),
            [Some("cannot create resource \"postgresbackups\""), None, None],
        ),
        (
            "a Backup by a script of its own",
            create,
            belays("PostgresBackup", &format!("{{databaseRef: {{name: db}}, method: {{job: {{{TEMPLATE}}}}}}}")),
            [Some("cannot create resource \"postgresbackups\""), None, None],
        ),
        (
            "a Database",
            create,
            belays("PostgresDatabase", "{connection: {secretRef: {name: s}}, backup: {when: Never}}"),
            [
                Some("cannot create resource \"postgresdatabases\""),
                Some("cannot create resource \"postgresdatabases\""),
                None,
            ],
        ),
        (
            "to accept another database",
            accept,
            String::new(),
            [
                Some("cannot patch resource \"postgresdatabases\""),
                Some("cannot patch resource \"postgresdatabases\""),
                None,
            ],
        ),
        (
            "to read the Secret",
            &["get", "secret", "s"],
            String::new(),
            [Some("cannot get resource \"secrets\""), Some("cannot get resource \"secrets\""), None],
        ),
    ];
    for (what, arguments, manifest, refusals) in tries {
        for (group, refusal) in [DEVELOPERS, LEADS, ADMINS].into_iter().zip(refusals) {
            match (try_as(&namespace, group, arguments, &manifest), refusal) {
                (Ok(()), None) => {}
                (Err(said), Some(refusal)) => assert!(said.contains(refusal), "{group}, {what}: {said}"),
                (Ok(()), Some(_)) => panic!("{group} may do what they should not: {what}"),
                (Err(said), None) => panic!("{group} may not do what they should: {what}: {said}"),
            }
        }
    }
}
