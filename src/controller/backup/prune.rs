//! `keep`: once a Migration's Backup is taken, the oldest of that Database's go, with their data.

use std::sync::Arc;

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::act::set_finalizer;
use crate::api::conditions::{STALLED, is_true};
use crate::api::{DeletionPolicy, Migration, PostgresBackup, PostgresDatabase, Reason, RunSummary};
use crate::backup::to_prune;
use crate::controller::Context;

/// Lets go of what the Database does not keep, now that `taken` is there. What is left out, or fails, the next Backup makes up for.
///
/// # Errors
/// When the API server does not take a write.
pub async fn keep(taken: &PostgresBackup, database: &PostgresDatabase, context: &Context) -> Result<(), kube::Error> {
    let (namespace, name) = (taken.namespace().unwrap_or_default(), database.name_any());
    // The cache may not have heard yet that this one is taken.
    let mut backups = context.backups_of(&namespace, &name);
    backups.retain(|backup| backup.uid() != taken.uid());
    backups.push(Arc::new(taken.clone()));
    let migrations = context.migrations_of(&namespace, &name);
    let protected: Vec<&str> = migrations.iter().flat_map(|migration| protected(migration)).collect();
    let keep = usize::try_from(database.spec.backup.keep).unwrap_or(usize::MAX);
    for old in to_prune(&backups, &name, keep, &protected) {
        if let Some(backup) = backups.iter().find(|backup| backup.name_any() == old) {
            delete(&context.client, backup).await?;
        }
    }
    Ok(())
}

/// The Backups that a Migration may still need: below its run; and, if it is not well now, below its last one and below all that
/// failed since one went well.
fn protected(migration: &Migration) -> impl Iterator<Item = &str> {
    let status = migration.status.as_ref();
    let run = status.and_then(|status| status.run.as_ref()?.backup.as_deref());
    let unwell = status.filter(|status| {
        let failed = status.history.first().is_some_and(|last| last.outcome != Reason::Succeeded.as_str());
        failed || is_true(&status.conditions, STALLED)
    });
    let history = unwell.map_or(&[][..], |status| &status.history);
    let went_well = |run: &RunSummary| run.outcome == Reason::Succeeded.as_str();
    // Of a script that is applied in part, only the first of the runs that failed since has what was before it.
    let failed = history.iter().take_while(move |run| !went_well(run)).filter_map(|run| run.backup.as_deref());
    let last = history.iter().find_map(|run| run.backup.as_deref());
    run.into_iter().chain(last).chain(failed)
}

/// Deletes a Backup, and before it its data: from then on the Backup's own reconcile goes on, also after a restart.
async fn delete(client: &Client, backup: &PostgresBackup) -> Result<(), kube::Error> {
    let (name, namespace) = (backup.name_any(), backup.namespace().unwrap_or_default());
    let api = Api::<PostgresBackup>::namespaced(client.clone(), &namespace);
    // Before the finalizer, which a Backup that retains its data is let go of.
    let policy = serde_json::json!({
        "metadata": { "uid": backup.uid() },
        "spec": { "deletionPolicy": DeletionPolicy::Delete },
    });
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(&policy)).await {
        Err(kube::Error::Api(error)) if [404, 409, 422].contains(&error.code) => return Ok(()),
        result => result?,
    };
    set_finalizer(backup, true, client).await?;
    let this_one = Preconditions { uid: backup.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
    tracing::info!(backup = name, namespace, "more backups than are kept: this one goes, with its data");
    match api.delete(&name, &parameters).await {
        Err(kube::Error::Api(error)) if [404, 409].contains(&error.code) => Ok(()),
        result => result.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use serde_json::json;

    #[test]
    fn the_backup_of_a_run_and_of_one_that_is_held_or_unhealthy_stays() {
        let migration = |stalled: &str, outcome: &str| -> Migration {
            serde_json::from_value(json!({
                "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": "m" },
                "spec": { "databaseRef": { "name": "shop" }, "source": { "inline": {} } },
                "status": {
                    "conditions": [{ "type": "Stalled", "status": stalled, "reason": "Unhealthy", "message": "m",
                                     "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                    "run": { "id": "r", "startedAt": "t", "backup": "now" },
                    "history": [
                        { "id": "3", "startedAt": "t", "completedAt": "t", "outcome": outcome },
                        { "id": "2", "startedAt": "t", "completedAt": "t", "outcome": "ScriptFailed", "backup": "last" },
                        { "id": "1", "startedAt": "t", "completedAt": "t", "outcome": "InDoubt", "backup": "first" },
                        { "id": "0", "startedAt": "t", "completedAt": "t", "outcome": "Succeeded", "backup": "old" },
                    ],
                },
            }))
            .unwrap()
        };
        for (stalled, outcome, stay) in [
            ("False", "Succeeded", &["now"][..]),
            ("False", "ScriptFailed", &["first", "last", "now"]),
            ("True", "Succeeded", &["last", "now"]),
        ] {
            let migration = migration(stalled, outcome);
            let protected: BTreeSet<_> = protected(&migration).collect();
            assert_eq!(protected, stay.iter().copied().collect(), "{stalled} {outcome}");
        }
    }
}
