//! A decision → the status, its write, and an event. The status is computed from values alone, and written once.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use super::decide::{Decision, PROGRESS, Say, Step};
use super::message;
use super::observe::Observed;
use super::view::{Activity, Doing};
use crate::api::conditions::{self, APPLIED, BACKED_UP, HEALTHY, PLANNED, READY};
use crate::api::{Migration, MigrationStatus, PlannedScriptStatus, Reason, RunStatus, RunSummary, State};
use crate::controller::memory::Memory;
use crate::controller::{Context, status};
use crate::plan::Plan;
use crate::script::{Mode, Rollback, Script};

/// The most scripts that status.plan lists.
const MAX_PLAN: usize = 20;
/// The most runs that status.history lists.
const MAX_HISTORY: usize = 10;

/// Writes what the decision says, if it says something new.
///
/// # Errors
/// When the API server does not take the write: nothing of the decision is then carried out.
pub async fn report(
    migration: &Migration,
    o: &Observed,
    decision: &Decision,
    context: &Context,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let Some(say) = &decision.say else { return Ok(()) };
    let missing_for = memory.missing_for(say.reason, &o.status.conditions, now);
    let status = next(o, decision, say, missing_for, now);
    if status::same(&status, &o.status) {
        return Ok(());
    }
    let since = memory.written_at.map(|at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
    if progress_only(&status, &o.status) && since.is_some_and(|since| since < PROGRESS) {
        return Ok(());
    }
    let written = status::write_over(migration, &o.status, &o.status.conditions, &status, &context.client).await;
    if written.as_ref().is_err_and(status::is_overtaken) {
        memory.was_overtaken();
    }
    let version = written?;
    count(o, &status, context, now);
    if conditions::reason_of(&o.status.conditions, READY) != Some(say.reason) {
        announce(migration, say, context);
    }
    memory.wrote(status, version, now);
    Ok(())
}

/// A run that the status has let go of is counted, with the scripts that the ledger shows of it.
fn count(o: &Observed, status: &MigrationStatus, context: &Context, now: Timestamp) {
    let (Some(ended), None, Some(summary)) = (&o.status.run, &status.run, status.history.first()) else { return };
    let Ok(outcome) = summary.outcome.parse::<Reason>() else { return };
    let started = ended.started_at.parse::<Timestamp>().unwrap_or(now);
    let lasted = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    context.metrics.run_ended(&o.namespace, &o.name, outcome, lasted);
    let Some((run, inspection)) = o.run.as_ref().and_then(|run| Some((run, run.inspection.as_ref()?))) else { return };
    for row in inspection.ledger.rows.iter().filter(|row| row.run_id == run.id && row.mode != "baseline") {
        context.metrics.script_applied(Duration::from_millis(row.duration_ms.try_into().unwrap_or_default()));
    }
}

/// One log line and one event, each time that the reason changes. Neither holds the run up.
fn announce(migration: &Migration, say: &Say, context: &Context) {
    let warn = say.reason.state() == State::Stalled && say.reason != Reason::Suspended;
    let (name, namespace) = (migration.name_any(), migration.namespace().unwrap_or_default());
    if warn {
        tracing::warn!(namespace, migration = name, reason = %say.reason, "{}", say.message);
    } else {
        tracing::info!(namespace, migration = name, reason = %say.reason, "{}", say.message);
    }
    let event = Event {
        type_: if warn { EventType::Warning } else { EventType::Normal },
        reason: say.reason.as_str().to_owned(),
        note: Some(conditions::truncate(&say.message, 1000)),
        action: "Migrate".to_owned(),
        secondary: None,
    };
    let (recorder, reference) = (context.recorder.clone(), migration.object_ref(&()));
    tokio::spawn(async move {
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::debug!("an event could not be published: {error}");
        }
    });
}

/// What the status is to be.
pub(super) fn next(
    o: &Observed,
    decision: &Decision,
    say: &Say,
    missing_for: Duration,
    now: Timestamp,
) -> MigrationStatus {
    let run = o.run.as_ref();
    let key = run.map_or(&o.key, |run| &run.key);
    let generation = Some(key.generation);
    let mut status = o.status.clone();
    status.observed_generation = generation;
    status.source_digest = key.source_digest.clone().or(status.source_digest);
    if let Some(inspection) = run.and_then(|run| run.inspection.as_ref()) {
        let current = inspection.ledger.current();
        status.version = current.map(|row| row.version.to_string());
        status.description = current.map(|row| row.description.clone());
    } else if run.is_some_and(|run| run.wrote) && matches!(decision.step, Step::Close { .. }) {
        // What the run has applied could not be read back.
        (status.version, status.description) = (None, None);
    }
    if let Some(plan) = &decision.plan {
        tell_plan(&mut status, plan);
    }
    if say.handles_request {
        status.last_handled_requested_at = o.request.as_ref().map(|request| request.text.clone());
    }
    if say.reason != Reason::Planning {
        status.failure = say.failure.clone().map(Box::new);
    }
    tell_run(&mut status, o, decision, say, now);
    conditions::set_summary(&mut status.conditions, (say.reason, &say.message), missing_for, generation, now);
    tell_progress(&mut status, o, decision, say, generation, now);
    status
}

pub(super) fn tell_plan(status: &mut MigrationStatus, plan: &Plan) {
    let recorded = if plan.adopted.is_some() { "Adopt" } else { "Baseline" };
    let planned = |mode: &str, script: &crate::plan::PlannedScript| PlannedScriptStatus {
        version: script.version.to_string(),
        description: script.title().to_owned(),
        mode: mode.to_owned(),
        statements: script.statement_count as i64,
        rollback: match script.rollback {
            Rollback::Sql(_) => "yes",
            Rollback::None => "no",
            Rollback::NotSql(_) => "not SQL",
            Rollback::Unsupported(..) => "unsupported",
        }
        .to_owned(),
        // What is only recorded does nothing.
        locks: if mode == recorded { Vec::new() } else { script.lock_lines() },
        destructive: script.destructive_line().filter(|_| mode != recorded),
    };
    status.target = Some(plan.to.to_string());
    status.pending = Some(plan.pending.len() as i64);
    let baseline = plan.baseline.iter().map(|script| planned(recorded, script));
    let mode = |script: &Script| if script.mode == Mode::NoTransaction { "NoTransaction" } else { "Transaction" };
    let pending = plan.pending.iter().map(|script| planned(mode(script), script));
    status.plan = baseline.chain(pending).take(MAX_PLAN).collect();
}

/// The run in progress, or its line in the history once it is over.
fn tell_run(status: &mut MigrationStatus, o: &Observed, decision: &Decision, say: &Say, now: Timestamp) {
    let Some(run) = &o.run else { return };
    match &decision.step {
        Step::Close { outcome } => {
            if let Some(ended) = status.run.take() {
                status.history.insert(
                    0,
                    RunSummary {
                        from: ended.from,
                        to: status.version.clone(),
                        completed_at: rfc3339(now),
                        outcome: outcome.as_str().to_owned(),
                        error: status.failure.as_ref().map(|failure| conditions::truncate(&failure.message, 300)),
                        id: ended.id,
                        started_at: ended.started_at,
                        backup: ended.backup,
                    },
                );
                status.history.truncate(MAX_HISTORY);
            }
        }
        step => {
            let begins = matches!(step, Step::BackUp { .. } | Step::Apply { .. });
            if begins && status.run.is_none() {
                status.run = Some(Box::new(RunStatus {
                    id: run.id.to_string(),
                    started_at: rfc3339(now),
                    from: status.version.clone(),
                    ..RunStatus::default()
                }));
            }
            let Some(told) = &mut status.run else { return };
            if let Step::Apply { below: Some(name) } | Step::BackUp { name } = step {
                told.backup = Some(name.clone());
            }
            if let (Activity::Busy(Doing::Applying(place)), Reason::Applying) = (&run.activity, say.reason) {
                told.script = Some(place.script.clone());
                told.statement = Some(place.statement as i64);
                told.statements = Some(place.statements as i64);
                told.line = Some(i64::from(place.line));
                told.attempts = Some(i64::from(place.attempt));
                told.waiting_on.clone_from(&place.waiting_on);
                told.progress.clone_from(&place.progress);
            }
        }
    }
}

/// The conditions of the run's stages.
fn tell_progress(
    status: &mut MigrationStatus,
    o: &Observed,
    decision: &Decision,
    say: &Say,
    generation: Option<i64>,
    now: Timestamp,
) {
    let reason = say.reason.as_str();
    let mut set = |kind, holds, reason: &str, message: &str| {
        conditions::set(&mut status.conditions, kind, holds, reason, message, generation, now);
    };
    match &decision.plan {
        Some(plan) => set(PLANNED, true, "Planned", &format!("{} to apply, up to {}.", plan.pending.len(), plan.to)),
        None if o.run.as_ref().is_some_and(|run| run.inspection.is_some()) && say.reason.state() == State::Stalled => {
            set(PLANNED, false, reason, &say.message);
        }
        None => {}
    }
    match (say.reason, &decision.step) {
        (Reason::BackupRunning | Reason::BackupFailed | Reason::BackupNotConfigured, _) => {
            set(BACKED_UP, false, reason, &say.message);
        }
        (_, Step::Apply { below: Some(name) }) => set(BACKED_UP, true, "Succeeded", &message::backed_up(o, name)),
        (_, Step::Apply { below: None }) => set(BACKED_UP, true, "NotAsked", message::not_asked(o)),
        _ => {}
    }
    match (say.reason, &decision.plan) {
        (Reason::Applying, _) => {
            set(APPLIED, false, reason, &say.message);
            conditions::clear(&mut status.conditions, HEALTHY);
        }
        (_, Some(plan)) if plan.is_done() => {
            set(APPLIED, true, "Succeeded", &format!("The ledger shows {}.", plan.to));
            match say.reason {
                Reason::Succeeded if o.has_health_checks => {
                    set(HEALTHY, true, "Succeeded", "Every health check passed.")
                }
                Reason::Succeeded => set(HEALTHY, true, "NoChecks", "There are no health checks."),
                _ => set(HEALTHY, false, reason, &say.message),
            }
        }
        _ if say.failure.is_some() => set(APPLIED, false, reason, &say.message),
        _ => {}
    }
}

/// Whether the two differ only in how far the run is.
fn progress_only(a: &MigrationStatus, b: &MigrationStatus) -> bool {
    conditions::reason_of(&a.conditions, READY) == conditions::reason_of(&b.conditions, READY)
        && a.run.is_some() == b.run.is_some()
        && a.observed_generation == b.observed_generation
        && a.failure == b.failure
        && a.plan == b.plan
        && a.version == b.version
}

fn rfc3339(at: Timestamp) -> String {
    conditions::to_the_second(at).to_string()
}
