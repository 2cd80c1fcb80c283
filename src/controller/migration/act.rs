//! Carries out one step, after what it is was written to the status.

use std::sync::Arc;

use jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use uuid::Uuid;

use super::decide::{Decision, Step};
use super::observe::Observed;
use super::run::{Order, Run, Setting};
use super::view::About;
use crate::api::{Migration, PostgresBackup, RUN_FINALIZER};
use crate::backup;
use crate::controller::memory::Memory;
use crate::controller::{Context, database, finalizer, status};
use crate::plan::Plan;

/// Where the step begins what a deletion must not cut off, has the object wait for the run's end.
///
/// # Errors
/// When the API server does not take it: the step must not be taken.
pub async fn hold(
    migration: &Migration,
    o: &Observed,
    decision: &Decision,
    context: &Context,
) -> Result<(), kube::Error> {
    if o.has_finalizer || !matches!(decision.step, Step::BackUp { .. } | Step::Apply { .. }) {
        return Ok(());
    }
    finalizer::set::<Migration>(&migration.metadata, RUN_FINALIZER, "belay-run", &context.client).await
}

/// What came of a step.
pub enum Acted {
    Done,
    /// The API server does not take this PostgresBackup: a quota, a policy or a right is in the way of the plan.
    BackupRefused {
        name: String,
        why: String,
        plan: Plan,
    },
}

/// Carries out the decision's step.
///
/// # Errors
/// When the API server does not take a write; the object is then observed and decided on again.
pub async fn act(
    migration: &Migration,
    o: &Observed,
    decision: Decision,
    context: &Arc<Context>,
    memory: &mut Memory,
) -> Result<Acted, kube::Error> {
    let run = memory.run.as_ref();
    match decision.step {
        Step::Rest => {}
        Step::Open { lock } => memory.run = open(migration, o, context, lock),
        Step::Inspect { below } => {
            if let Some(run) = run {
                run.order(Order::Inspect { lock: o.wants_lock(), below });
            }
        }
        Step::BackUp { name } => {
            if let (Ok(database), Some(plan), Some(run)) = (&o.database, decision.plan, &o.run) {
                let backup = backup::for_run(migration, database, &name, plan.hash.as_str(), &run.id);
                if let Err(why) = create(&backup, context).await? {
                    return Ok(Acted::BackupRefused { name, why, plan });
                }
            }
        }
        Step::Apply { .. } => {
            if let (Some(run), Some(plan), Ok(history), Ok(policy)) = (run, decision.plan, &o.source, &o.policy) {
                let about = Arc::new(About { history: history.clone(), policy: policy.clone() });
                let read = o.run.as_ref().and_then(|run| run.inspection.as_ref());
                let lifts = read.is_some_and(|read| read.ledger.hold_of(&plan.hash).is_some());
                run.order(Order::Apply { plan, about, lifts });
            }
        }
        Step::CheckHealth => {
            if let Some(run) = run {
                run.order(Order::CheckHealth(migration.spec.health_checks.clone()));
            }
        }
        Step::Cancel => {
            if let Some(run) = run {
                run.cancel();
            }
        }
        Step::Close { outcome } => {
            if let Some(run) = run {
                let key = run.view().key;
                run.order(Order::Close { outcome });
                if let Some(settle) = decision.settle {
                    memory.settle(key, settle);
                }
            }
        }
        Step::Forget => {
            memory.run = None;
            let_go(&migration.metadata, context).await?;
            tell_database(o, context);
            // Where the finalizer went, the watch brings the object back.
            if !o.has_finalizer {
                context.wake(&o.namespace, &o.name);
            }
        }
    }
    Ok(Acted::Done)
}

/// The Database's status tells what the run saw last; where it saw nothing, the server is looked at.
fn tell_database(o: &Observed, context: &Context) {
    let seen = o.run.as_ref().filter(|run| run.key.database_generation == o.key.database_generation);
    match (&o.database, seen.and_then(|run| run.seen.clone())) {
        (Ok(database), Some(seen)) => {
            database::saw(database, seen, context);
            context.tell_database(&o.namespace, &o.database_name);
        }
        _ => context.look_at_database(&o.namespace, &o.database_name),
    }
}

/// Starts a run; one that a former Belay began, and that the status still shows, goes on under its own name.
fn open(migration: &Migration, o: &Observed, context: &Arc<Context>, lock: bool) -> Option<Run> {
    let database = o.database.as_ref().ok()?.clone();
    let adopted = o.status.run.as_ref().and_then(|run| run.id.parse().ok());
    let id = adopted.unwrap_or_else(Uuid::new_v4);
    let setting = Setting {
        context: context.clone(),
        namespace: o.namespace.clone(),
        name: o.name.clone(),
        uid: migration.uid().unwrap_or_default(),
        claimant: o.claimant.clone(),
        database,
        adopted: adopted.is_some(),
    };
    Some(Run::start(id, Timestamp::now(), o.key.clone(), setting, lock))
}

/// Creates it; gives what the API server says where it does not take it, which another try would not change.
async fn create(backup: &PostgresBackup, context: &Context) -> Result<Result<(), String>, kube::Error> {
    let api = Api::<PostgresBackup>::namespaced(context.client.clone(), &backup.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), backup).await {
        // A former try created it, and the watch has not brought it yet.
        Err(kube::Error::Api(error)) if error.code == 409 => Ok(Ok(())),
        Ok(_) => Ok(Ok(())),
        Err(error) => status::refusal(&error).map(str::to_owned).map(Err).ok_or(error),
    }
}

/// Lets an object go that no run of this process is about.
pub async fn let_go(migration: &ObjectMeta, context: &Context) -> Result<(), kube::Error> {
    finalizer::take_away::<Migration>(migration, RUN_FINALIZER, &context.client).await
}
