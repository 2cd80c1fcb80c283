//! Writing a status: whole, once, and only when it says something new.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Puts `new` in the place of `old`, if it says something else; only on the very object that was looked at.
///
/// # Errors
/// When the API server does not take it. That the object is gone, or was made again, is no error: there is nobody to
/// tell.
pub async fn write<K, S>(object: &K, old: &S, new: &S, client: &Client) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    let status = serde_json::to_value(new).map_err(kube::Error::SerdeError)?;
    let before = serde_json::to_value(old).map_err(kube::Error::SerdeError)?;
    if timeless(status.clone()) == timeless(before) {
        return Ok(());
    }
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!([
        { "op": "test", "path": "/metadata/uid", "value": object.uid() },
        { "op": "add", "path": "/status", "value": status },
    ]);
    let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
    match api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Json::<()>(patch)).await {
        Err(kube::Error::Api(error)) if error.code == 404 || (error.code == 422 && error.message.contains("test")) => {
            tracing::debug!(name = object.name_any(), "the status has no object any more: {error}");
            Ok(())
        }
        result => result.map(|_| ()),
    }
}

/// Whether two statuses say the same, whenever they said it.
pub fn same<S: Serialize>(a: &S, b: &S) -> bool {
    match (serde_json::to_value(a), serde_json::to_value(b)) {
        (Ok(a), Ok(b)) => timeless(a) == timeless(b),
        _ => false,
    }
}

/// A status without the times of its conditions.
fn timeless(mut status: Value) -> Value {
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove("lastTransitionTime");
        }
    }
    status
}
