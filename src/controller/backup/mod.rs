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
use kube::runtime::controller::Action;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};

use self::act::Acted;
use self::decide::{Decision, Observed, START_DEADLINE, Step};
use super::context::Watched;
use super::queue::Queued;
use super::{Context, Scope, invalid};
use crate::api::PostgresBackup;

/// As many Backups are reconciled at once; their Jobs are not bounded by it.
const CONCURRENCY: u16 = 16;

/// Reconciles Backups until `stop`.
pub async fn run(
    context: Arc<Context>,
    queued: Queued<PostgresBackup>,
    scope: Scope,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let jobs: Api<Job> = match &scope.0 {
        Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        None => Api::all(context.client.clone()),
    };
    let jobs = watcher(jobs, watcher::Config::default().labels(job::SELECTOR)).default_backoff().touched_objects();
    queued
        .controller(context.backups.clone(), CONCURRENCY)
        .owns_stream(jobs)
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context.clone())
        .for_each(async |result| context.queues.backups.ended(result))
        .await;
}

async fn reconcile(watched: Arc<Watched<PostgresBackup>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let queue = &context.queues.backups;
    let _counted = queue.reconciling(&*watched);
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
    Ok(queue.again(&*watched, requeue))
}

/// Has one that was not known looked at, after a start or once this replica leads, unless it is finished.
pub fn begin(watched: &Watched<PostgresBackup>, context: &Context) {
    if !is_finished(watched) {
        context.queues.backups.add(&watched.namespace().unwrap_or_default(), &watched.name_any());
    }
}

/// Whether it can be read, and nothing is left to do.
pub fn is_finished(watched: &Watched<PostgresBackup>) -> bool {
    watched.0.as_ref().is_ok_and(is_at_rest)
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
    let again = invalid::on_error(&watched, error, Duration::from_secs(2), &context);
    context.queues.backups.again(&*watched, again)
}
