//! A Migration's reconcile: observe, decide, report, act. One step a time, then everything is looked at again.
//!
//! | room | client | what |
//! | --- | --- | --- |
//! | [`observe`] | reads | everything that a decision rests on |
//! | [`decide`] | no | every rule of the lifecycle; which backup is [`below`] a run |
//! | [`report`] | writes | the status, once, before the step is taken: the intent stands before what cannot be undone |
//! | [`act`] | writes | one step |
//! | [`run`] | in its own task | the connection, its lock, and the step that was ordered; what is seen of it is a [`view`] |

mod act;
mod below;
mod decide;
mod message;
mod observe;
mod report;
mod run;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;

use act::Acted;
pub use decide::Settle;
pub use observe::{Key, Trouble};
pub use run::Run;

use super::context::Watched;
use super::memory::Memory;
use super::queue::Queued;
use super::{Context, invalid, rest};
use crate::api::Migration;

/// As many Migrations are reconciled at once; runs, which wait for servers, are not bounded by it.
const CONCURRENCY: u16 = 16;

/// Reconciles Migrations until `stop`.
pub async fn run(
    context: Arc<Context>,
    queued: Queued<Migration>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    queued
        .controller(context.migrations.clone(), CONCURRENCY)
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context.clone())
        .for_each(async |result| context.queues.migrations.ended(result))
        .await;
}

/// Has one that was not known looked at, after a start or once this replica leads: in its turn if it is at rest, else at once.
pub fn begin(watched: &Watched<Migration>, context: &Context) {
    if context.rests() {
        return;
    }
    let now = Timestamp::now();
    let until = watched.0.as_ref().ok().and_then(|migration| {
        let entry = context.entry(&migration.uid().unwrap_or_default());
        let mut memory = entry.memory.try_lock().ok()?;
        rests_until(migration, context, &mut memory, now)
    });
    context.queues.migrations.add_in_turn(watched, until);
}

async fn reconcile(watched: Arc<Watched<Migration>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let queue = &context.queues.migrations;
    let _counted = queue.reconciling(&*watched);
    if context.rests() {
        return Ok(Action::await_change());
    }
    let migration = match &watched.0 {
        Ok(migration) => migration,
        Err(invalid) => return unreadable(invalid, &context).await,
    };
    let entry = context.entry(&migration.uid().unwrap_or_default());
    let mut memory = entry.memory.lock().await;
    if entry.source_changed.swap(false, Ordering::SeqCst) {
        memory.source_changed();
    }
    // Belay may have been asked to stop while this waited for the memory.
    if context.rests() {
        return Ok(Action::await_change());
    }
    let now = Timestamp::now();
    if let Some(until) = rests_until(migration, &context, &mut memory, now) {
        return Ok(queue.again_at(&*watched, until));
    }
    memory.whole = match rest::is_pruned(migration) {
        false => None,
        true => match rest::whole(migration, memory.whole.take(), &context).await? {
            None => return Ok(Action::await_change()),
            whole => whole,
        },
    };
    let whole = memory.whole.clone();
    let migration = whole.as_deref().unwrap_or(migration);
    let mut observed = observe::observe(migration, &context, &mut memory).await;
    let now = Timestamp::now();
    let decision = decide::decide(&observed, now);
    tracing::debug!(migration = migration.name_any(), step = ?decision.step, "decided");
    // Both stand before the step is taken; neither waits for the other.
    let (told, held) = futures::join!(
        report::report(migration, &observed, &decision, &context, &mut memory, now),
        act::hold(migration, &observed, &decision, &context),
    );
    told.and(held)?;
    let requeue = decision.requeue;
    let acted = act::act(migration, &observed, decision, &context, &mut memory).await?;
    if let Acted::BackupRefused { name, why, plan } = acted {
        let refused = decide::backup_refused(&observed, &name, plan, &why, now);
        observed.status = memory.status(migration, now);
        report::report(migration, &observed, &refused, &context, &mut memory, now).await?;
        act::act(migration, &observed, refused, &context, &mut memory).await?;
    }
    if memory.run.is_none() {
        memory.rest();
    }
    Ok(queue.again(&*watched, requeue))
}

/// Until when one that is at rest needs no look: it was dealt with, and nothing has changed since. What a former Belay, or
/// another replica, has seen to is looked at in its turn.
fn rests_until(migration: &Migration, context: &Context, memory: &mut Memory, now: Timestamp) -> Option<Timestamp> {
    if !rest::is_at_rest(migration) {
        return None;
    }
    let known = migration.status.as_ref().and_then(|status| status.source_digest.clone());
    let namespace = migration.namespace().unwrap_or_default();
    let database = context.database(&namespace, &migration.spec.database_ref.name);
    let (key, _) = observe::key(migration, known, database.as_deref(), context);
    if memory.is_fresh() {
        memory.settle(key.clone(), Settle { until: context.pace.next(now), failed: false });
    }
    memory.catch_up(migration);
    memory.rests_until(&key).filter(|until| now < *until)
}

/// A run that waits for an order would wait for ever, and hold its lock: it is let go of. One in the middle of a step goes on to
/// that step's end, unless the object goes; then it is cancelled first, as with any other.
async fn unreadable(invalid: &InvalidObject, context: &Arc<Context>) -> Result<Action, kube::Error> {
    let metadata = &invalid.metadata;
    let entry = context.entry(metadata.uid.as_deref().unwrap_or_default());
    let mut memory = entry.memory.lock().await;
    let busy = memory.let_go();
    if metadata.deletion_timestamp.is_none() {
        invalid::report::<Migration>(invalid, context).await?;
    } else if busy {
        memory.run.iter().for_each(Run::cancel);
    } else {
        act::let_go(metadata, context).await?;
    }
    Ok(Action::await_change())
}

fn on_error(watched: Arc<Watched<Migration>>, error: &kube::Error, context: Arc<Context>) -> Action {
    let again = invalid::on_error(&watched, error, Duration::from_secs(2), &context);
    context.queues.migrations.again(&*watched, again)
}
