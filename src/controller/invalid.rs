//! An object that cannot be read, or whose status cannot be written, is told of, and holds nobody else up.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, error_boundary::InvalidObject};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource};

use super::context::Watched;
use super::{Context, status};
use crate::api::{Reason, conditions};

/// How soon a status that the API server does not take is tried again: by then its schema may be another.
const REFUSED: Duration = Duration::from_secs(600);

/// The most that is said of what is wrong: the API server and serde repeat the value, however long it is.
const MAX_WHY: usize = 500;

/// Writes InvalidSpec to the conditions of an object of kind `K` that could not be read; what else its status says stays. Where
/// the status does not take it, an event says it.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn report<K: Resource<DynamicType = ()>>(
    invalid: &InvalidObject,
    context: &Context,
) -> Result<(), kube::Error> {
    let metadata = &invalid.metadata;
    let (name, namespace) = (metadata.name.as_deref().unwrap_or_default(), metadata.namespace.as_deref());
    let resource = kube::api::ApiResource::erase::<K>(&());
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), namespace.unwrap_or_default(), &resource);
    let Some(found) = status::present(&api, metadata).await? else { return Ok(()) };
    let why = conditions::truncate(&invalid.error.to_string(), MAX_WHY);
    let message =
        format!("The object cannot be read: {why}. Nothing is done. Correct it, or run the Belay that wrote it.");
    let generation = metadata.generation;
    let before = found.data.get("status").cloned().unwrap_or_default();
    let mut told: Vec<Condition> = serde_json::from_value(before["conditions"].clone()).unwrap_or_default();
    conditions::set_summary(
        &mut told,
        (Reason::InvalidSpec, &message),
        Duration::ZERO,
        generation,
        jiff::Timestamp::now(),
    );
    let after = serde_json::json!({ "observedGeneration": generation, "conditions": told });
    if before["observedGeneration"] == after["observedGeneration"] && before["conditions"] == after["conditions"] {
        return Ok(());
    }
    let patch = Patch::Merge(serde_json::json!({ "status": after }));
    match api.patch_status(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        Err(error) if status::is_invalid(&error) => {
            tell::<K>(metadata, &message, context);
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => {
            tracing::warn!(name, namespace, kind = K::kind(&()).as_ref(), reason = %Reason::InvalidSpec, "{message}");
            Ok(())
        }
    }
}

/// After how long an object of which a reconcile failed is looked at again. The API server did not take a write, or was out of
/// reach: `soon`. Where its schema does not take the object itself, that changes nothing, and an event says so.
pub fn on_error<K>(watched: &Watched<K>, error: &kube::Error, soon: Duration, context: &Context) -> Duration
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug,
{
    context.metrics.reconcile_failed::<K>(error);
    let metadata = watched.meta();
    match error {
        kube::Error::Api(refused) if status::is_invalid(error) => {
            let why = conditions::truncate(&refused.message, MAX_WHY);
            let message = format!("Its status cannot be written: {why}. Correct the object.");
            tell::<K>(metadata, &message, context);
            REFUSED
        }
        _ => {
            let (name, namespace) = (metadata.name.as_deref(), metadata.namespace.as_deref());
            tracing::warn!(name, namespace, kind = K::kind(&()).as_ref(), "the reconcile failed: {error}");
            soon
        }
    }
}

/// By the log and an event: the object's own status does not take it.
fn tell<K: Resource<DynamicType = ()>>(metadata: &ObjectMeta, message: &str, context: &Context) {
    let kind = K::kind(&());
    let (name, namespace) = (metadata.name.as_deref(), metadata.namespace.as_deref());
    tracing::warn!(name, namespace, kind = kind.as_ref(), reason = %Reason::InvalidSpec, "{message}");
    let reference = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(kind.into_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    };
    let event = Event {
        type_: EventType::Warning,
        reason: Reason::InvalidSpec.as_str().to_owned(),
        note: Some(conditions::truncate(message, 1000)),
        action: "Read".to_owned(),
        secondary: None,
    };
    let recorder = context.recorder.clone();
    tokio::spawn(async move {
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::debug!("an event could not be published: {error}");
        }
    });
}
