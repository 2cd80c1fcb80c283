use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;

use super::{Migration, PostgresBackup, PostgresDatabase};

/// The CustomResourceDefinitions of every kind, in the order of their names.
///
/// To what is derived from the types they add the default of `status`, `{observedGeneration: -1}`: kstatus then
/// reads a just-created object as in progress, not as current.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![Migration::crd(), PostgresBackup::crd(), PostgresDatabase::crd()];
    for crd in &mut crds {
        for version in &mut crd.spec.versions {
            let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
            if let Some(status) = root.and_then(status_of) {
                status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
            }
        }
    }
    crds
}

fn status_of(root: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    root.properties.as_mut()?.get_mut("status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crd_is_small_enough_for_kubectl_apply() {
        for crd in crds() {
            let size = serde_json::to_string(&crd).unwrap().len();
            assert!(size < 256 * 1024, "{} has {size} bytes", crd.metadata.name.unwrap_or_default());
        }
    }

    #[test]
    fn a_just_created_object_is_in_progress_for_kstatus() {
        for mut crd in crds() {
            let root = crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap();
            assert_eq!(status_of(root).unwrap().default, Some(JSON(serde_json::json!({ "observedGeneration": -1 }))));
        }
    }
}
