//! A Backup's reconcile: observe, decide, report, act. One Job takes it, and is created once; what its Pod said last is
//! believed.
//!
//! | room | client | what |
//! | --- | --- | --- |
//! | [`observe`] | reads | the object, its Database, its Job and that Job's Pods |
//! | [`pod`] | no | what a Job and its Pods say, in words |
//! | [`decide`] | no | every rule of a Backup's life |
//! | [`job`], [`template`] | no | the Job, with the team's Pod template below it |
//! | [`report`] | writes | the status, once, before the step is taken |
//! | [`act`] | writes | one step |
//! | [`prune`] | writes | lets go of what a Database does not keep, once another Backup is taken |

mod act;
mod decide;
mod job;
mod observe;
mod pod;
mod prune;
mod report;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};

use self::act::Acted;
use self::decide::{Decision, Observed, START_DEADLINE, Step};
use super::context::Watched;
use super::{Context, Scope, invalid, watch};
use crate::api::PostgresBackup;

/// As many Backups are reconciled at once; their Jobs are not bounded by it.
const CONCURRENCY: u16 = 16;

/// Reconciles Backups until `stop`.
pub async fn run(
    context: Arc<Context>,
    trigger: watch::Trigger<PostgresBackup>,
    scope: Scope,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let jobs: Api<Job> = match &scope.0 {
        Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        None => Api::all(context.client.clone()),
    };
    let jobs = watcher(jobs, watcher::Config::default().labels(job::SELECTOR)).default_backoff().touched_objects();
    let queue = context.metrics.backups.clone();
    Controller::for_stream(queue.changed(trigger), context.backups.clone())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns_stream(jobs)
        .reconcile_all_on(watch::elected(&context))
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context)
        .for_each(async |result| queue.ended(result))
        .await;
}

async fn reconcile(watched: Arc<Watched<PostgresBackup>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let _counted = context.metrics.backups.begin(&watched.namespace().unwrap_or_default(), &watched.name_any());
    if context.rests() {
        return Ok(Action::await_change());
    }
    let cached = match &watched.0 {
        Ok(backup) => backup,
        Err(unreadable) => {
            invalid::report::<PostgresBackup>(unreadable, &context).await?;
            return Ok(Action::await_change());
        }
    };
    if is_at_rest(cached) {
        return Ok(Action::await_change());
    }
    let Some(seen) = observe::observe(cached, &context).await? else { return Ok(Action::await_change()) };
    let observed = Observed {
        backup: &seen.backup,
        database: seen.database.as_deref(),
        connection: seen.connection.clone(),
        job: seen.job.clone(),
        deletion: seen.deletion.clone(),
    };
    let now = Timestamp::now();
    let decision = decide::decide(&observed, START_DEADLINE, now);
    tracing::debug!(backup = seen.backup.name_any(), step = ?decision.step, "decided");
    let status = decide::status(&observed, &decision, now);
    report::report(&seen.backup, &status, &context).await?;
    if let (Some(_), Some(database)) = (&decision.result, &seen.database) {
        let taken = PostgresBackup { status: Some(status), ..seen.backup.clone() };
        prune::keep(&taken, database, &context).await?;
    }
    if let Acted::Refused(why) = act::act(&seen, &decision.step, &context).await? {
        let refused = Decision::refused(&observed, &why);
        report::report(&seen.backup, &decide::status(&observed, &refused, now), &context).await?;
    }
    let requeue = match decision.step {
        // What was changed is looked at again at once: not every change is watched.
        Step::Hold(_) | Step::EraseAgain => Some(Duration::from_millis(100)),
        _ => decision.requeue,
    };
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

/// Whether everything that can be done for it was done, as the watch's cache has it. A finished Backup costs nothing.
fn is_at_rest(backup: &PostgresBackup) -> bool {
    use crate::api::{BACKUP_FINALIZER, DeletionPolicy};
    use crate::backup::{is_failed, is_taken};
    let held = backup.finalizers().iter().any(|finalizer| finalizer == BACKUP_FINALIZER);
    if backup.metadata.deletion_timestamp.is_some() {
        return !held;
    }
    let wanted = backup.spec.deletion_policy == DeletionPolicy::Delete;
    let of_this_generation = |status: &&crate::api::PostgresBackupStatus| {
        status.observed_generation == backup.metadata.generation && (is_taken(status) || is_failed(status))
    };
    held == wanted && backup.status.as_ref().filter(of_this_generation).is_some()
}

fn on_error(watched: Arc<Watched<PostgresBackup>>, error: &kube::Error, context: Arc<Context>) -> Action {
    invalid::on_error(&watched, error, Duration::from_secs(2), &context)
}
