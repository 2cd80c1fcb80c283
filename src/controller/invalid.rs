//! An object that cannot be read says so in its conditions, and holds nobody else up.

use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, error_boundary::InvalidObject};
use kube::{Api, Resource};

use super::Context;
use crate::api::{Reason, conditions};

/// Writes InvalidSpec to the conditions of an object of kind `K` that could not be read.
pub async fn report<K: Resource<DynamicType = ()>>(
    invalid: &InvalidObject,
    context: &Context,
) -> Result<(), kube::Error> {
    let name = invalid.metadata.name.clone().unwrap_or_default();
    let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
    let message = format!("The object cannot be read: {}. Nothing is done. Correct it.", invalid.error);
    tracing::warn!(name, namespace, kind = K::kind(&()).as_ref(), "{message}");
    let mut fresh = Vec::new();
    let generation = invalid.metadata.generation;
    let now = jiff::Timestamp::now();
    conditions::set_summary(&mut fresh, (Reason::InvalidSpec, &message), std::time::Duration::ZERO, generation, now);
    let resource = kube::api::ApiResource::erase::<K>(&());
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource);
    let status = serde_json::json!({ "status": { "observedGeneration": generation, "conditions": fresh } });
    match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await {
        Err(kube::Error::Api(error)) if [404, 422].contains(&error.code) => {
            tracing::warn!(name, namespace, "its status does not take that it cannot be read: {error}");
            Ok(())
        }
        result => result.map(|_| ()),
    }
}
