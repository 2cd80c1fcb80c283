//! kubeconform, as pipelines without a cluster run it: with the schemas that an API server publishes, written down one file a kind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::root;
use crate::support::cluster::{Cluster, text};

/// Schemas of every kind that an API server serves. The files are removed when it is dropped.
pub struct Schemas {
    folder: PathBuf,
    kubeconform: PathBuf,
}

impl Schemas {
    pub fn of(cluster: &Cluster) -> Self {
        let installed =
            Command::new(root().join("tests/cluster/kubeconform")).output().expect("tests/cluster/kubeconform");
        assert!(installed.status.success(), "{}", text(&installed.stderr));
        let kubeconform = PathBuf::from(text(&installed.stdout).trim());
        let published = cluster.kubectl(["get", "--raw", "/openapi/v2"]);
        assert!(published.status.success(), "{}", text(&published.stderr));
        let mut published: Value = serde_json::from_slice(&published.stdout).expect("an OpenAPI document");
        let Value::Object(definitions) = published["definitions"].take() else { panic!("it defines nothing") };
        let folder = std::env::temp_dir().join(format!("belay-schemas-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).expect("a folder");
        for (name, definition) in &definitions {
            for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let mut used = BTreeMap::new();
                collect(name, &definitions, &mut used);
                let schema = json!({ "$ref": format!("#/definitions/{name}"), "definitions": used });
                let [group, version, kind] = ["group", "version", "kind"].map(|part| kind[part].as_str().unwrap());
                // What kubeconform calls a group is the part before the slash, which is the version where there is none.
                let group = if group.is_empty() { version } else { group };
                let file = folder.join(format!("{group}_{version}_{}.json", kind.to_lowercase()));
                std::fs::write(file, schema.to_string()).expect("a schema");
            }
        }
        Self { folder, kubeconform }
    }

    /// What kubeconform says of a manifest: a field that no schema has, and a kind that nobody serves, are errors.
    pub fn take(&self, manifest: &str) -> Result<(), String> {
        let file = self.folder.join("manifest.yaml");
        std::fs::write(&file, manifest).expect("a manifest");
        let place = "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json";
        let said = Command::new(&self.kubeconform)
            .args(["-strict", "-summary", "-schema-location"])
            .arg(self.folder.join(place))
            .arg(&file)
            .output()
            .expect("kubeconform");
        if said.status.success() { Ok(()) } else { Err(text(&said.stdout) + &text(&said.stderr)) }
    }
}

impl Drop for Schemas {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A definition and those that it refers to, as JSON Schema.
fn collect(name: &str, definitions: &Map<String, Value>, used: &mut BTreeMap<String, Value>) {
    if used.contains_key(name) {
        return;
    }
    let mut definition = match name {
        // Written as text, and read from a number too.
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => json!({ "type": ["string", "number"] }),
        _ => definitions[name].clone(),
    };
    tighten(&mut definition);
    used.insert(name.to_owned(), definition.clone());
    refer(&definition, &mut |to| collect(to, definitions, used));
}

/// What OpenAPI has otherwise than JSON Schema; and an object has the properties that are named, and no other.
fn tighten(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("format").is_some_and(|format| format == "int-or-string") {
                fields.remove("format");
                fields.insert("type".to_owned(), json!(["integer", "string"]));
            }
            let is_open = fields.contains_key("additionalProperties")
                || fields.get("x-kubernetes-preserve-unknown-fields").is_some_and(|open| open == true);
            if fields.get("properties").is_some_and(Value::is_object) && !is_open {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(tighten);
        }
        Value::Array(items) => items.iter_mut().for_each(tighten),
        _ => {}
    }
}

/// Names every definition that a schema refers to.
fn refer(schema: &Value, found: &mut impl FnMut(&str)) {
    match schema {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                found(to.trim_start_matches("#/definitions/"));
            }
            fields.values().for_each(|field| refer(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| refer(item, found)),
        _ => {}
    }
}
