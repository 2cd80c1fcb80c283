//! What is at rest takes little: of a Migration that is well the cache keeps what tells that it is, and nothing is read for it
//! until it is looked at again. Then the whole object is asked for.

use std::sync::Arc;

use kube::{Api, ResourceExt};

use super::context::Watched;
use super::{Context, status};
use crate::api::conditions::{self, READY};
use crate::api::{Migration, REQUESTED_AT, Reason};

/// Whether the object itself says that nothing is to be done, as long as the source and the database are what they were.
pub fn is_at_rest(migration: &Migration) -> bool {
    let metadata = &migration.metadata;
    migration.status.as_ref().is_some_and(|status| {
        conditions::is_current(&status.conditions, READY, metadata.generation.unwrap_or_default())
            && status.run.is_none()
            && migration
                .annotations()
                .get(REQUESTED_AT)
                .is_none_or(|request| status.last_handled_requested_at.as_ref() == Some(request))
            && migration.finalizers().is_empty()
            && metadata.deletion_timestamp.is_none()
    })
}

/// Takes what only a run needs out of one that is at rest: its SQL, the runs before the last one, and what the conditions say
/// beside Ready.
pub fn prune(migration: &mut Migration) {
    if !is_at_rest(migration) {
        return;
    }
    if let Some(inline) = &mut migration.spec.source.inline {
        inline.clear();
    }
    let Some(status) = &mut migration.status else { return };
    status.plan = Vec::new();
    status.conditions.retain(|condition| condition.type_ == READY);
    // No status that was written has an empty message: it is how one that was pruned is told.
    status.conditions.iter_mut().for_each(|ready| ready.message = String::new());
    // What is protected from pruning backups, and when a run last succeeded, the first one says, unless it failed.
    if status.history.first().is_some_and(|last| last.outcome == Reason::Succeeded.as_str()) {
        status.history.truncate(1);
        status.history.shrink_to_fit();
    }
    status.conditions.shrink_to_fit();
}

/// Whether it was pruned: the cache does not have all of it.
pub fn is_pruned(migration: &Migration) -> bool {
    let conditions = migration.status.iter().flat_map(|status| &status.conditions);
    is_at_rest(migration) && conditions.into_iter().all(|ready| ready.message.is_empty())
}

/// The whole of an object that was pruned: as it was `kept`, or from the API server. None: it is gone, or cannot be read.
///
/// # Errors
/// When the API server does not answer.
pub async fn whole(
    pruned: &Migration,
    kept: Option<Arc<Migration>>,
    context: &Context,
) -> Result<Option<Arc<Migration>>, kube::Error> {
    if let Some(kept) = kept.filter(|kept| kept.resource_version() == pruned.resource_version()) {
        return Ok(Some(kept));
    }
    let api = Api::<Watched<Migration>>::namespaced(context.client.clone(), &pruned.namespace().unwrap_or_default());
    let found = status::present(&api, &pruned.metadata).await?;
    Ok(found.and_then(|found| found.0.ok()).map(Arc::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn migration(change: impl FnOnce(&mut Value)) -> Migration {
        let condition = |kind, reason, message: &str| {
            json!({ "type": kind, "status": "True", "reason": reason, "message": message, "observedGeneration": 2,
                    "lastTransitionTime": "2026-01-01T00:00:00Z" })
        };
        let run =
            |id, outcome| json!({ "id": id, "startedAt": "t", "completedAt": "t", "outcome": outcome, "backup": id });
        let mut object = json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration",
            "metadata": { "name": "shop", "namespace": "shop", "generation": 2 },
            "spec": { "databaseRef": { "name": "shop" }, "source": { "inline": { "1_a.sql": "CREATE TABLE a ()" } } },
            "status": {
                "observedGeneration": 2, "version": "1", "sourceDigest": "sha256:1",
                "conditions": [condition("Ready", "Succeeded", "All is well."), condition("Healthy", "Succeeded", "m")],
                "history": [run("3", "Succeeded"), run("2", "ScriptFailed"), run("1", "Succeeded")],
            },
        });
        change(&mut object);
        serde_json::from_value(object).expect("a Migration")
    }

    #[test]
    fn of_one_that_is_well_what_tells_so_is_kept_and_no_more() {
        let mut well = migration(|_| {});
        assert!(is_at_rest(&well) && !is_pruned(&well));
        prune(&mut well);
        assert!(is_at_rest(&well) && is_pruned(&well));
        assert_eq!(well.spec.source.inline, Some(std::collections::BTreeMap::new()));
        let status = well.status.as_ref().unwrap();
        assert_eq!(status.conditions.len(), 1);
        assert_eq!(status.history.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["3"]);
        assert_eq!((status.version.as_deref(), status.source_digest.as_deref()), (Some("1"), Some("sha256:1")));
    }

    #[test]
    fn the_runs_of_one_whose_last_run_failed_stay_for_their_backups() {
        let mut repaired = migration(|object| object["status"]["history"][0]["outcome"] = json!("ScriptFailed"));
        prune(&mut repaired);
        assert!(is_pruned(&repaired));
        assert_eq!(repaired.status.unwrap().history.len(), 3);
    }

    #[test]
    fn nothing_is_taken_out_of_one_that_has_something_to_do() {
        let requested = json!({ REQUESTED_AT: "2026-01-01T00:00:00Z" });
        let changes: [&dyn Fn(&mut Value); 6] = [
            &|object| object["metadata"]["generation"] = json!(3),
            &|object| object["metadata"]["finalizers"] = json!(["belay.dev/run"]),
            &|object| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
            &|object| object["metadata"]["annotations"] = requested.clone(),
            &|object| object["status"]["run"] = json!({ "id": "4", "startedAt": "t" }),
            &|object| object["status"]["conditions"][0]["status"] = json!("False"),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut busy = migration(|object| change(object));
            let whole = busy.clone();
            prune(&mut busy);
            assert_eq!(serde_json::to_value(&busy).unwrap(), serde_json::to_value(&whole).unwrap(), "change {number}");
            assert!(!is_pruned(&busy), "change {number}");
        }
        let handled = migration(|object| {
            object["metadata"]["annotations"] = requested.clone();
            object["status"]["lastHandledRequestedAt"] = json!("2026-01-01T00:00:00Z");
        });
        assert!(is_at_rest(&handled));
    }
}
