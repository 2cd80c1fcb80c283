use std::borrow::Cow;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A Pod template that a team writes: a `PodTemplateSpec` of Kubernetes.
///
/// Its schema is left open: spelled out it would make the CRD larger than what `kubectl apply` can
/// handle (256 KiB), and would age with every Kubernetes release. It is read when it is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodTemplate(pub serde_json::Map<String, serde_json::Value>);

impl PodTemplate {
    /// The template as Kubernetes' own type.
    ///
    /// # Errors
    /// When a field has another type than `PodTemplateSpec` gives it; the error names the field.
    pub fn read(&self) -> Result<PodTemplateSpec, serde_json::Error> {
        serde_json::from_value(serde_json::Value::Object(self.0.clone()))
    }
}

impl JsonSchema for PodTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}
