//! Finalizers of Belay's own, set and taken away without touching those of others.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};
use serde_json::json;

use super::status;

/// Sets `finalizer` on the object of kind `K` that `of` names. It is a set, and the apply as `manager` owns its part.
///
/// # Errors
/// When the API server does not take it. That the object is gone, or was made again, is no error: there is nothing to hold.
pub async fn set<K>(of: &ObjectMeta, finalizer: &str, manager: &str, client: &Client) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
{
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": { "name": of.name, "uid": of.uid, "finalizers": [finalizer] },
    });
    put::<K, _>(of, &PatchParams::apply(manager).force(), &Patch::Apply(patch), client).await
}

/// Takes `finalizer` away, whoever set it: an object that a backup of the cluster brought back has it from somebody else.
///
/// # Errors
/// When the API server does not take it. That the object is gone, or that its finalizers are others by now, is no error: the
/// watch brings what there is.
pub async fn take_away<K>(of: &ObjectMeta, finalizer: &str, client: &Client) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
{
    let Some(at) = of.finalizers.iter().flatten().position(|one| one == finalizer) else { return Ok(()) };
    let path = format!("/metadata/finalizers/{at}");
    let patch = json!([
        { "op": "test", "path": "/metadata/uid", "value": of.uid },
        { "op": "test", "path": path, "value": finalizer },
        { "op": "remove", "path": path },
    ]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch).map_err(kube::Error::SerdeError)?);
    put::<K, ()>(of, &PatchParams::default(), &patch, client).await
}

async fn put<K, P>(
    of: &ObjectMeta,
    parameters: &PatchParams,
    patch: &Patch<P>,
    client: &Client,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug,
    P: serde::Serialize + Debug,
{
    let (name, namespace) = (of.name.as_deref().unwrap_or_default(), of.namespace.as_deref().unwrap_or_default());
    let api = Api::<PartialObjectMeta<K>>::namespaced(client.clone(), namespace);
    match api.patch_metadata(name, parameters, patch).await {
        Err(kube::Error::Api(error)) if [404, 409].contains(&error.code) => Ok(()),
        Err(error) if status::is_overtaken(&error) || status::is_invalid(&error) => Ok(()),
        result => result.map(|_| ()),
    }
}
