use std::borrow::Cow;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

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

/// The schema of a template that is all of a Pod: that it has containers is what Kubernetes asks of any.
pub(super) fn of_a_pod(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["spec"], "properties": { "spec": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["containers"], "properties": { "containers": {
                "type": "array", "minItems": 1, "maxItems": 20,
                "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true }
            } }
        } }
    })
}

/// Reads an object as an object alone: of a list, serde takes the items for the fields, in their order.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let object = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?;
    object.map(|object| serde_json::from_value(object.into()).map_err(D::Error::custom)).transpose()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::{BackupMethod, HealthCheck};

    #[test]
    fn a_list_is_no_job() {
        let template = json!({ "template": { "spec": { "containers": [{ "name": "a" }] } } });
        let method = |job| serde_json::from_value::<BackupMethod>(json!({ "job": job }));
        let check = |job| serde_json::from_value::<HealthCheck>(json!({ "name": "a", "job": job }));
        assert!(method(template.clone()).unwrap().job.is_some() && check(template).unwrap().job.is_some());
        assert!(method(json!(null)).unwrap().job.is_none() && check(json!(null)).unwrap().job.is_none());
        let error = method(json!([{}])).unwrap_err().to_string();
        assert!(error.contains("expected a map"), "{error}");
        assert!(check(json!([{}])).is_err());
    }
}
