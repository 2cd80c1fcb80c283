//! Writing a status: whole, once, and only when it says something new.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::conditions::READY;

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
    put(object, old, new, None, client).await.map(|_| ())
}

/// The same, where the object still says what `old` says of `conditions`' Ready: what was sent by a former leader, and was under
/// way until another had the Lease and wrote, must not take that one's place. Gives the resource version that it has since.
///
/// # Errors
/// Also when it says something else by now ([`is_overtaken`]).
pub async fn write_over<K, S>(
    object: &K,
    old: &S,
    conditions: &[Condition],
    new: &S,
    client: &Client,
) -> Result<Option<String>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    let ready = conditions.iter().enumerate().find(|(_, condition)| condition.type_ == READY);
    // The whole status would have to be alike to the byte, as the API server keeps it; a reason is a word.
    let said = ready.map(
        |(at, ready)| json!({ "op": "test", "path": format!("/status/conditions/{at}/reason"), "value": ready.reason }),
    );
    put(object, old, new, said, client).await
}

/// Whether a test of a patch did not hold. The API server says neither so nor which: but what the schema refuses has causes.
pub fn is_overtaken(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 422 && status.details.as_ref().is_none_or(|details| details.causes.is_empty())
}

/// Whether the API server does not take the object as it would be. A policy that refuses a write is something else: it names no
/// field, and may be another soon.
pub fn is_invalid(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.into_iter().any(|cause| !cause.reason.is_empty())
}

/// What the API server says where it does not take a new object: its schema, a policy, a quota or a right is in the way, and another try
/// changes nothing.
pub fn refusal(error: &kube::Error) -> Option<&str> {
    let kube::Error::Api(status) = error else { return None };
    [400, 403, 422].contains(&status.code).then_some(&status.message)
}

async fn put<K, S>(
    object: &K,
    old: &S,
    new: &S,
    said: Option<Value>,
    client: &Client,
) -> Result<Option<String>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    let status = serde_json::to_value(new).map_err(kube::Error::SerdeError)?;
    let before = serde_json::to_value(old).map_err(kube::Error::SerdeError)?;
    if timeless(status.clone()) == timeless(before) {
        return Ok(None);
    }
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let same = json!({ "op": "test", "path": "/metadata/uid", "value": object.uid() });
    let told = json!({ "op": "add", "path": "/status", "value": status });
    let patch: Vec<_> = [Some(same), said, Some(told)].into_iter().flatten().collect();
    let patch = serde_json::from_value(Value::Array(patch)).map_err(kube::Error::SerdeError)?;
    let name = object.name_any();
    let written = api.patch_status(&name, &PatchParams::default(), &Patch::Json::<()>(patch)).await;
    let is_there = match &written {
        Err(kube::Error::Api(error)) if error.code == 404 => false,
        Err(error) if is_overtaken(error) => {
            api.get_metadata_opt(&name).await?.is_some_and(|found| found.metadata.uid == object.uid())
        }
        _ => true,
    };
    if !is_there {
        tracing::debug!(name, "the status has no object any more");
        return Ok(None);
    }
    Ok(written?.resource_version())
}

/// The object that `metadata` names, as the API server has it now. None: it is gone, or was made again.
///
/// # Errors
/// When the API server does not answer.
pub async fn present<K>(api: &Api<K>, metadata: &ObjectMeta) -> Result<Option<K>, kube::Error>
where
    K: Resource + DeserializeOwned + Clone + Debug,
{
    // Listed, as a watch does it: the right to get one of any kind is one that nothing else needs.
    let name = metadata.name.as_deref().unwrap_or_default();
    let found = api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await?.items;
    Ok(found.into_iter().find(|found| found.meta().uid == metadata.uid))
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
