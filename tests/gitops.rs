//! The examples for kustomize, Helm and Argo CD, as those tools read them: a changed script is a changed spec.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "generate/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only helm is wanted here")]
mod generate;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize as _;
use serde_json::{Value, json};

use cluster::{Cluster, text};

/// A copy of an example, to be changed as its owner would.
struct Example(PathBuf);

impl Example {
    fn of(name: &str) -> Self {
        let copy = std::env::temp_dir().join(format!("belay-example-{}", uuid::Uuid::new_v4().simple()));
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        assert!(Command::new("cp").arg("-r").args([&original, &copy]).status().unwrap().success());
        Self(copy)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The objects of a manifest, by kind: there is one of each.
fn objects(manifest: &str) -> Value {
    let mut objects = json!({});
    for document in serde_yaml::Deserializer::from_str(manifest) {
        let object = Value::deserialize(document).unwrap();
        objects[object["kind"].as_str().unwrap()] = object.clone();
    }
    objects
}

fn kustomized(cluster: &Cluster, path: &str) -> (String, Value) {
    let rendered = cluster.kubectl(["kustomize", path]);
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    let manifest = text(&rendered.stdout);
    let objects = objects(&manifest);
    (manifest, objects)
}

/// The API server takes it, by Belay's schema and rules.
async fn accepted(cluster: &Cluster, manifest: &str) {
    let namespace = cluster.namespace("example").await;
    let apply = ["--namespace", &namespace.name, "apply", "--server-side", "--dry-run=server", "--filename", "-"];
    let output = cluster.kubectl_with(apply, manifest);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

const SECOND: &str = "ALTER TABLE orders ADD COLUMN note text;\n";

#[tokio::test]
async fn kustomize_follows_what_it_renames_into_belays_specs() {
    let cluster = Cluster::connect().await;
    let example = Example::of("kustomize");
    let (manifest, before) = kustomized(&cluster, example.path());
    accepted(&cluster, &manifest).await;
    let scripts = |objects: &Value| objects["Migration"]["spec"]["source"]["configMaps"][0]["name"].clone();
    let secret = |objects: &Value| objects["PostgresDatabase"]["spec"]["connection"]["secretRef"]["name"].clone();
    assert!(scripts(&before).as_str().unwrap().starts_with("shop-migrations-"), "{before}");
    assert_eq!(scripts(&before), before["ConfigMap"]["metadata"]["name"]);
    assert_eq!(secret(&before), before["Secret"]["metadata"]["name"]);

    example.write("migrations/001_orders.sql", &format!("CREATE TABLE orders ();\n{SECOND}"));
    let (_, after) = kustomized(&cluster, example.path());
    assert_ne!(scripts(&after), scripts(&before), "a changed script changes the spec");
    assert_eq!(scripts(&after), after["ConfigMap"]["metadata"]["name"]);
    assert_eq!(secret(&after), secret(&before), "and nothing beside it");
}

#[tokio::test]
async fn kustomize_follows_a_prefix_into_every_reference() {
    let cluster = Cluster::connect().await;
    let example = Example::of("kustomize");
    example.write(
        "more.yaml",
        &[
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "shop" } }),
            json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "backups" } }),
            json!({
                "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresBackup", "metadata": { "name": "nightly" },
                "spec": {
                    "databaseRef": { "name": "shop" },
                    "method": { "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "backups" } } } },
                },
            }),
        ]
        .map(|object| object.to_string())
        .join("\n---\n"),
    );
    let migration = std::fs::read_to_string(example.0.join("migration.yaml")).unwrap();
    let check = "  healthChecks: [{name: rollout, workload: {kind: Deployment, name: shop}}]\n";
    example.write("migration.yaml", &(migration + check));
    let database = std::fs::read_to_string(example.0.join("database.yaml")).unwrap();
    let ca = "  connection:\n    caRef: {kind: Secret, name: shop-postgres, key: ca.crt}\n";
    example.write("database.yaml", &database.replace("  connection:\n", ca));
    let base = std::fs::read_to_string(example.0.join("kustomization.yaml")).unwrap();
    let overlay = base.replace("  - migration.yaml\n", "  - migration.yaml\n  - more.yaml\n") + "namePrefix: eu-\n";
    example.write("kustomization.yaml", &overlay);

    let (_, objects) = kustomized(&cluster, example.path());
    let spec = |kind: &str, pointer: &str| objects[kind].pointer(&format!("/spec{pointer}")).cloned();
    let claim = "/method/pgDump/store/persistentVolumeClaim/claimName";
    for (kind, field, of) in [
        ("Migration", "/databaseRef/name", "PostgresDatabase"),
        ("Migration", "/source/configMaps/0/name", "ConfigMap"),
        ("Migration", "/healthChecks/0/workload/name", "Deployment"),
        ("PostgresDatabase", "/connection/secretRef/name", "Secret"),
        ("PostgresDatabase", "/connection/caRef/name", "Secret"),
        ("PostgresDatabase", &format!("/backup{claim}"), "PersistentVolumeClaim"),
        ("PostgresBackup", "/databaseRef/name", "PostgresDatabase"),
        ("PostgresBackup", claim, "PersistentVolumeClaim"),
    ] {
        let name = &objects[of]["metadata"]["name"];
        assert!(name.as_str().unwrap().starts_with("eu-"), "{name}");
        assert_eq!(spec(kind, field).as_ref(), Some(name), "{kind} {field}");
    }
}

#[tokio::test]
async fn helm_ships_an_applications_scripts_under_a_name_of_their_content() {
    let cluster = Cluster::connect().await;
    let example = Example::of("helm");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rendered = || generate::helm(root, &["template", "shop", example.path()]);
    let manifest = rendered();
    accepted(&cluster, &manifest).await;
    let before = objects(&manifest);
    let scripts = |objects: &Value| objects["Migration"]["spec"]["source"]["configMaps"][0]["name"].clone();
    assert_eq!(scripts(&before), before["ConfigMap"]["metadata"]["name"]);
    let original = std::fs::read_to_string(example.0.join("migrations/001_orders.sql")).unwrap();
    assert_eq!(before["ConfigMap"]["data"], json!({ "001_orders.sql": original }), "to the byte: its checksum stays");

    // What looks like a template in a script is the script's.
    let second = format!("{SECOND}COMMENT ON TABLE orders IS '{{{{ .Values.database }}}}';\n");
    example.write("migrations/002_note.sql", &second);
    let after = objects(&rendered());
    assert_eq!(after["ConfigMap"]["data"]["002_note.sql"], second);
    assert_ne!(scripts(&after), scripts(&before), "another script changes the spec");
    assert_eq!(scripts(&after), after["ConfigMap"]["metadata"]["name"]);
}

/// As `kubectl patch` does it, and as those do who keep Argo CD itself in Git.
#[tokio::test]
async fn argo_cds_config_map_takes_the_customizations_and_keeps_what_it_has() {
    let cluster = Cluster::connect().await;
    let example = Example::of("argocd");
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "argocd-cm" }, "data": { "url": "https://argocd" },
    });
    let namespace = cluster.namespace("argocd").await;
    namespace.apply(&theirs.to_string()).await;
    let patch = format!("{}/argocd-cm.yaml", example.path());
    namespace.kubectl(&["patch", "configmap", "argocd-cm", "--patch-file", &patch]);
    let patched: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "configmap", "argocd-cm", "--output", "json"])).unwrap();

    example.write("theirs.yaml", &theirs.to_string());
    example.write("kustomization.yaml", "resources: [theirs.yaml]\npatches: [{path: argocd-cm.yaml}]\n");
    let (_, kustomized) = kustomized(&cluster, example.path());
    for data in [&patched["data"], &kustomized["ConfigMap"]["data"]] {
        assert_eq!(data["url"], "https://argocd");
        let health = &data["resource.customizations.health.belay.dev_Migration"];
        assert!(health.as_str().is_some_and(|lua| lua.contains("Progressing")), "{data}");
        for kind in ["PostgresDatabase", "PostgresBackup"] {
            assert_eq!(&data[format!("resource.customizations.health.belay.dev_{kind}")], health);
        }
        assert!(data["resource.customizations.actions.belay.dev_Migration"].is_string(), "{data}");
    }
}
