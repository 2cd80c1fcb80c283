//! Before anything is watched: does the API server know every kind and field of this Belay's? What an older
//! CustomResourceDefinition lacks, the API server drops without a word, also from a status.
//!
//! To read a CRD itself takes a right on cluster-wide objects. What it comes to stands in the API server's description of the
//! group (OpenAPI), which every account may read.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::http::Request;
use kube::{Client, Resource as _};
use serde::Deserialize;
use serde_json::Value;

use crate::api::{self, GROUP, Migration};

/// How often older CRDs are looked at again.
const AGAIN: Duration = Duration::from_secs(2);

/// Waits until the API server knows all that this Belay writes, and says meanwhile which CRD is older and what it lacks.
///
/// A process that ended instead would be started anew by Kubernetes ever more rarely; this one goes on as soon as they are updated.
pub async fn wait(client: &Client) {
    let mut told = Vec::new();
    loop {
        match served(client).await {
            Ok(served) => {
                let faults = faults(&served);
                if faults.is_empty() {
                    return;
                }
                if faults != told {
                    for fault in &faults {
                        tracing::error!(
                            "{fault}. Belay does nothing until it is updated: belay crds | kubectl apply --server-side \
                             --force-conflicts --filename -"
                        );
                    }
                    told = faults;
                }
            }
            Err(kube::Error::Api(refusal)) if [401, 403].contains(&refusal.code) => {
                tracing::warn!(
                    "whether the CustomResourceDefinitions are older than this Belay is not known: {}. Bind ClusterRole \
                     system:discovery to it",
                    refusal.message
                );
                return;
            }
            Err(error) => {
                let fault = format!("the API server does not describe the group {GROUP}: {error}");
                if told != [fault.clone()] {
                    tracing::warn!("{fault}. It is asked again");
                    told = vec![fault];
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The fields of a schema, and the words that a field may hold.
#[derive(Debug, Default, Deserialize)]
struct Shape {
    #[serde(default)]
    properties: BTreeMap<String, Shape>,
    items: Option<Box<Shape>>,
    #[serde(default, rename = "enum")]
    words: Vec<Value>,
}

/// What the API server says of a group.
#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    components: Components,
}

#[derive(Debug, Default, Deserialize)]
struct Components {
    #[serde(default)]
    schemas: HashMap<String, Described>,
}

#[derive(Debug, Deserialize)]
struct Described {
    #[serde(default, rename = "x-kubernetes-group-version-kind")]
    kinds: Vec<Kind>,
    #[serde(flatten)]
    shape: Shape,
}

#[derive(Debug, Deserialize)]
struct Kind {
    kind: String,
}

/// The kinds that the API server knows of the group; none when it does not know the group.
async fn served(client: &Client) -> Result<HashMap<String, Shape>, kube::Error> {
    let path = format!("/openapi/v3/apis/{}", Migration::api_version(&()));
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let document = match client.request::<Document>(request).await {
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => Document::default(),
        document => document?,
    };
    let described = document.components.schemas.into_values();
    Ok(described.filter_map(|mut described| Some((described.kinds.pop()?.kind, described.shape))).collect())
}

/// What is wrong with each CRD that is older than this Belay, or is not there.
fn faults(served: &HashMap<String, Shape>) -> Vec<String> {
    let mut faults = Vec::new();
    for crd in api::crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.clone());
        let wanted: Shape = serde_json::to_value(schema).and_then(serde_json::from_value).unwrap_or_default();
        let Some(known) = served.get(&crd.spec.names.kind) else {
            faults.push(format!("CustomResourceDefinition {name} is not there"));
            continue;
        };
        let mut lacks = Vec::new();
        wanted.missing_in(known, "", &mut lacks);
        if !lacks.is_empty() {
            faults.push(format!("CustomResourceDefinition {name} is older than this Belay: it lacks {}", some(&lacks)));
        }
    }
    faults
}

impl Shape {
    /// The paths of the fields, and the words of fields, that `known` lacks.
    fn missing_in(&self, known: &Shape, path: &str, lacks: &mut Vec<String>) {
        for (name, field) in &self.properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match known.properties.get(name) {
                Some(known) => field.missing_in(known, &path, lacks),
                None => lacks.push(path),
            }
        }
        if let Some(item) = &self.items {
            item.missing_in(known.items.as_deref().unwrap_or(&Shape::default()), &format!("{path}[]"), lacks);
        }
        // A field of any text takes these too.
        let narrower = !known.words.is_empty();
        let unknown = self.words.iter().filter(|word| narrower && !known.words.contains(word));
        lacks.extend(unknown.map(|word| format!("{word} of {path}")));
    }
}

/// The first few, and how many more there are.
fn some(lacks: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = lacks.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match lacks.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an API server would say of the CRDs of this Belay, after a change of theirs.
    fn served(change: impl Fn(&str, &mut Value)) -> HashMap<String, Shape> {
        let crds = api::crds().into_iter().map(|crd| {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let mut schema = serde_json::to_value(schema).unwrap();
            change(&crd.spec.names.kind, &mut schema);
            (crd.spec.names.kind, serde_json::from_value(schema).unwrap())
        });
        crds.collect()
    }

    fn take(schema: &mut Value, fields: &str, name: &str) {
        schema.pointer_mut(fields).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    }

    #[test]
    fn crds_of_this_belay_have_nothing_wrong_with_them() {
        assert_eq!(faults(&served(|_, _| ())), Vec::<String>::new());
    }

    #[test]
    fn an_older_crd_is_named_with_the_fields_and_words_that_it_lacks() {
        let older = served(|kind, schema| match kind {
            "Migration" => {
                take(schema, "/properties/spec/properties", "suspend");
                take(schema, "/properties/spec/properties/healthChecks/items/properties", "http");
                take(schema, "/properties/status/properties", "sourceDigest");
            }
            "PostgresDatabase" => {
                let words = schema.pointer_mut("/properties/spec/properties/backup/properties/when/enum").unwrap();
                words.as_array_mut().unwrap().retain(|word| word != "BeforeDestructive");
            }
            _ => {}
        });
        assert_eq!(
            faults(&older),
            [
                "CustomResourceDefinition migrations.belay.dev is older than this Belay: it lacks spec.healthChecks[].http, \
                 spec.suspend, status.sourceDigest",
                "CustomResourceDefinition postgresdatabases.belay.dev is older than this Belay: it lacks \
                 \"BeforeDestructive\" of spec.backup.when",
            ]
        );
    }

    #[test]
    fn a_newer_crd_is_no_fault_and_a_missing_one_is() {
        let mut newer = served(|_, schema| {
            let spec = schema.pointer_mut("/properties/spec/properties").unwrap().as_object_mut().unwrap();
            spec.insert("later".to_owned(), serde_json::json!({ "type": "string" }));
        });
        assert_eq!(faults(&newer), Vec::<String>::new());
        newer.remove("PostgresBackup");
        assert_eq!(faults(&newer), ["CustomResourceDefinition postgresbackups.belay.dev is not there"]);
    }
}
