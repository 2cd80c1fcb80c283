//! Every rule of a Migration's lifecycle: what was observed → the next step, and what to say.
//!
//! No I/O and no clock: time and chance come in as values. A step is carried out by [`super::act`], after
//! [`super::report`] has written what is said here.

use std::time::Duration;

use jiff::Timestamp;

use super::below::{Below, below};
use super::message;
use super::observe::{Observed, Trouble};
use super::view::{Activity, Doing, Inspection, View};
use crate::api::{Failure, Reason, State, conditions};
use crate::controller::pin::{self, Pin};
use crate::health::Verdict;
use crate::plan::{Hold, Plan, plan};

/// How often a lock that another run holds is tried again.
const LOCK_POLL: Duration = Duration::from_secs(1);
/// The longest wait between two tries of what may recover by itself.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// A fleet's turns come soon: only a longer wait for one is told.
const PATIENCE: Duration = Duration::from_secs(15);
/// Progress is written at most this often.
pub(super) const PROGRESS: Duration = Duration::from_secs(1);

/// What to do next, and what to say of it.
#[derive(Debug)]
pub struct Decision {
    pub step: Step,
    /// Absent: the status stands as it is.
    pub say: Option<Say>,
    /// The plan, when one could be made.
    pub plan: Option<Plan>,
    /// Look again after this long, though nothing wakes the object.
    pub requeue: Option<Duration>,
    /// The inputs were dealt with: with the same ones, nothing is to be done before then.
    pub settle: Option<Settle>,
}

/// One step: what is done, and nothing more, before everything is observed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is to be done.
    Rest,
    /// Connect, take the lock if asked for, and read identity and ledger.
    Open { lock: bool },
    /// Take the lock if it is not held, and read the ledger again, with this backup below the run.
    Inspect { below: Option<String> },
    /// Create this PostgresBackup.
    BackUp { name: String },
    /// Apply the plan, with this backup below it.
    Apply { below: Option<String> },
    /// Try the health checks.
    CheckHealth,
    /// Cancel on the server what runs.
    Cancel,
    /// Write the run's outcome to the ledger, if it changed anything, and close the connection.
    Close { outcome: Reason },
    /// The run is over: forget it, and let the object go.
    Forget,
}

/// What the status is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    pub reason: Reason,
    pub message: String,
    /// What stopped the run, when something did.
    pub failure: Option<Failure>,
    /// The request that is being handled by this step.
    pub handles_request: bool,
}

/// Until when nothing is to be done with the same inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    pub until: Timestamp,
    /// Counts towards the backoff.
    pub failed: bool,
}

impl Decision {
    fn step(step: Step) -> Self {
        Self { step, say: None, plan: None, requeue: None, settle: None }
    }

    fn saying(self, reason: Reason, message: impl Into<String>) -> Self {
        Self { say: Some(Say { reason, message: message.into(), failure: None, handles_request: false }), ..self }
    }

    fn with_plan(self, plan: Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }

    fn after(self, wait: Duration) -> Self {
        Self { requeue: Some(wait), ..self }
    }

    fn failed_with(mut self, failure: Option<Failure>) -> Self {
        if let Some(say) = &mut self.say {
            say.failure = failure;
        }
        self
    }

    fn handling_request(mut self, handles: bool) -> Self {
        if let Some(say) = &mut self.say {
            say.handles_request = handles;
        }
        self
    }

    fn settled(self, wait: Duration, failed: bool, now: Timestamp) -> Self {
        let until = now.saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or(jiff::SignedDuration::MAX));
        Self { settle: Some(Settle { until: until.unwrap_or(Timestamp::MAX), failed }), ..self }
    }
}

/// The next step, and what to say of it.
pub fn decide(o: &Observed, now: Timestamp) -> Decision {
    match &o.run {
        _ if o.deleting => deleting(o, now),
        Some(run) => in_run(o, run, now),
        None => without_run(o, now),
    }
}

/// A run in progress is cancelled first; only then does the finalizer go. One that a former leader is still at cannot be cancelled
/// from here: it is waited for.
fn deleting(o: &Observed, now: Timestamp) -> Decision {
    match &o.run {
        Some(run) if run.activity == Activity::Ended => Decision::step(Step::Forget),
        Some(run) if run.wrote || o.status.run.is_none() || run.trouble.is_some() => cancelled(o, run),
        Some(View { activity: Activity::Busy(_), .. }) => Decision::step(Step::Rest),
        Some(run) => match &run.inspection {
            None => Decision::step(Step::Inspect { below: None }),
            Some(inspection) if is_held_by_former(run, inspection) => lock_held(inspection, now),
            Some(_) => cancelled(o, run),
        },
        None if o.has_finalizer && o.status.run.is_some() && o.database.is_ok() => {
            Decision::step(Step::Open { lock: true })
        }
        None if o.has_finalizer => Decision::step(Step::Forget),
        None => Decision::step(Step::Rest),
    }
}

fn cancelled(o: &Observed, run: &View) -> Decision {
    Decision::step(Step::Cancel).saying(Reason::Cancelled, message::cancelled(o, run))
}

/// Whether a former leader, or a Belay that is just ending, is still at this very run.
fn is_held_by_former(run: &View, inspection: &Inspection) -> bool {
    let same = |holder: &String| holder.starts_with(&format!("belay/{}/", run.id.simple()));
    !inspection.locked && inspection.holder.as_ref().is_some_and(same)
}

/// The lock is tried again until it is free.
fn lock_held(inspection: &Inspection, now: Timestamp) -> Decision {
    let since = Duration::try_from(now.duration_since(inspection.at)).unwrap_or_default();
    let step = if since >= LOCK_POLL { Step::Inspect { below: None } } else { Step::Rest };
    Decision::step(step).saying(Reason::LockHeld, message::lock_held(inspection)).after(LOCK_POLL.saturating_sub(since))
}

fn without_run(o: &Observed, now: Timestamp) -> Decision {
    if let Some(trouble) = trouble(o) {
        // What is missing is watched; this is for what is not, and for the end of the five minutes.
        return tell(o, trouble).after(MAX_BACKOFF);
    }
    if o.has_finalizer && o.status.run.is_none() {
        return Decision::step(Step::Forget);
    }
    match o.settled_until.filter(|until| now < *until) {
        Some(until) => Decision::step(Step::Rest).after(until.duration_since(now).try_into().unwrap_or_default()),
        None => Decision::step(Step::Open { lock: o.wants_lock() }),
    }
}

/// What keeps a run from starting, the first first.
fn trouble(o: &Observed) -> Option<Trouble> {
    if let Some(rival) = o.rival.as_ref().filter(|_| !o.suspend) {
        return Some(Trouble { reason: Reason::DatabaseInUse, message: message::rival(o, rival) });
    }
    o.policy.as_ref().err().or(o.database.as_ref().err()).or(o.source.as_ref().err()).cloned()
}

fn tell(o: &Observed, trouble: Trouble) -> Decision {
    let text = format!("{} {}", sentence(&trouble.message), message::left(o));
    Decision::step(Step::Rest).saying(trouble.reason, text)
}

fn in_run(o: &Observed, run: &View, now: Timestamp) -> Decision {
    match &run.activity {
        Activity::Ended => return Decision::step(Step::Forget),
        // What changes data goes on to its end, whatever became of its inputs; but a person can stop it.
        Activity::Busy(Doing::Applying(_)) if o.suspend => {
            return cancelled(o, run);
        }
        Activity::Busy(doing) => return busy(o, run, doing, now),
        Activity::Idle => {}
    }
    if let Some(Err(failure)) = &run.applied {
        // What the database is left at is read back before it is told.
        if run.inspection.is_none() && run.trouble.is_none() {
            return Decision::step(Step::Inspect { below: run.below.clone() });
        }
        let reason = failure.reason.parse().unwrap_or(Reason::ScriptFailed);
        let passes = reason.state() == State::Missing || reason == Reason::LockHeld;
        let wait = if passes { backoff(o) } else { o.interval() };
        let left = run.inspection.as_ref().zip(run.about.as_ref());
        return Decision {
            plan: left.and_then(|(read, about)| plan(&about.history, &read.ledger, &about.policy).ok()),
            ..Decision::step(Step::Rest)
        }
        .saying(reason, message::failed(o, failure))
        .failed_with(Some(failure.clone()))
        .settled(wait, passes, now)
        .close(reason);
    }
    if let Some(trouble) = &run.trouble {
        return tell(o, trouble.clone()).settled(backoff(o), true, now).close(trouble.reason);
    }
    if !run.wrote && run.key != o.key {
        return Decision::step(Step::Close { outcome: Reason::Cancelled });
    }
    match &run.inspection {
        Some(inspection) => inspected(o, run, inspection, now),
        None => Decision::step(Step::Inspect { below: run.below.clone() }),
    }
}

fn busy(o: &Observed, run: &View, doing: &Doing, now: Timestamp) -> Decision {
    let wait = Decision::step(Step::Rest);
    let since = Duration::try_from(now.duration_since(run.since)).unwrap_or_default();
    let told_after = |patience: Duration, message| match since >= patience {
        true => Decision::step(Step::Rest).saying(Reason::Planning, message),
        false => Decision::step(Step::Rest).after(patience),
    };
    match doing {
        // Said only when it takes its time, and only of news: a look at what is known to be well says nothing.
        Doing::Waiting(_) | Doing::Reading if !is_news(o) || run.wrote => wait,
        Doing::Waiting(server) => told_after(PATIENCE, message::waiting(server)),
        Doing::Reading => told_after(PROGRESS, message::planning(o)),
        Doing::Applying(progress) => wait.saying(Reason::Applying, message::applying(o, run, progress)).after(PROGRESS),
        Doing::CheckingHealth(_) if known_unhealthy(o, run) => wait,
        Doing::CheckingHealth(check) => wait.saying(Reason::CheckingHealth, message::checking(o, check)),
    }
}

/// Whether the status is about another spec or source than what there is now.
fn is_news(o: &Observed) -> bool {
    o.status.observed_generation != Some(o.key.generation) || o.status.source_digest != o.key.source_digest
}

/// Whether the status says already that a check fails: until it passes, another try of it is nothing new. Whoever waits for the
/// object must not see it begin again with each try.
fn known_unhealthy(o: &Observed, run: &View) -> bool {
    !is_news(o)
        && !run.wrote
        && conditions::reason_of(&o.status.conditions, conditions::READY) == Some(Reason::Unhealthy)
}

/// The source and the ledger are known: from here on the plan decides.
fn inspected(o: &Observed, run: &View, inspection: &Inspection, now: Timestamp) -> Decision {
    let now_asked = || Some((o.source.as_deref().ok()?, o.policy.as_ref().ok()?));
    let about = run.about.as_ref().map(|about| (&*about.history, &about.policy));
    let Some((history, policy)) = about.or_else(now_asked) else {
        return Decision::step(Step::Close { outcome: Reason::Cancelled });
    };
    if let Err(trouble) = still_itself(o, inspection) {
        let reason = trouble.reason;
        return tell(o, trouble).settled(o.interval(), false, now).close(reason);
    }
    if let Some(claimant) = inspection.ledger.claimant.as_ref().filter(|claimant| **claimant != o.claimant) {
        let trouble = Trouble { reason: Reason::DatabaseInUse, message: message::claimed(claimant) };
        return tell(o, trouble).settled(o.interval(), false, now).close(Reason::DatabaseInUse);
    }
    let plan = match plan(history, &inspection.ledger, policy) {
        Ok(plan) => plan,
        Err(refusal) => {
            let trouble = Trouble { reason: refusal.reason(), message: refusal.to_string() };
            return tell(o, trouble).settled(o.interval(), false, now).close(refusal.reason());
        }
    };
    if plan.is_done() {
        return applied(o, run, plan, now);
    }
    if is_held_by_former(run, inspection) {
        return lock_held(inspection, now).with_plan(plan);
    }
    if o.suspend {
        return Decision::step(Step::Rest)
            .saying(Reason::Suspended, message::suspended(o, &plan))
            .with_plan(plan)
            .settled(o.interval(), false, now)
            .close(Reason::Suspended);
    }
    if let Some(hold) = inspection.ledger.hold_of(&plan.hash).filter(|hold| !is_lifted(o, run, hold)) {
        let reason = hold.failure.reason.parse().unwrap_or(Reason::ScriptFailed);
        return Decision::step(Step::Rest)
            .saying(reason, message::failed(o, &hold.failure))
            .failed_with(Some(hold.failure.clone()))
            .with_plan(plan)
            .settled(o.interval(), false, now)
            .close(reason);
    }
    if let Some(trouble) = &inspection.privileges {
        return tell(o, trouble.clone()).with_plan(plan).settled(backoff(o), true, now).close(trouble.reason);
    }
    if !inspection.locked {
        return lock_held(inspection, now).with_plan(plan);
    }
    back_up_and_apply(o, run, inspection, plan, now)
}

/// Whether a person has asked for another try since: for this run, unless the hold is its own.
fn is_lifted(o: &Observed, run: &View, hold: &Hold) -> bool {
    o.request_is_after(hold.at) || (hold.run_id != run.id && o.run_was_requested_after(hold.at, run.id))
}

/// Whether the database is the one that it was. What a person accepts moves the pin first; only then a run goes on.
fn still_itself(o: &Observed, inspection: &Inspection) -> Result<(), Trouble> {
    let Ok(database) = &o.database else { return Ok(()) };
    let seen = Pin::seen(&inspection.identity, inspection.ledger.current().map(|row| &row.version));
    match pin::check(database, &o.pin, &seen)? {
        false => Ok(()),
        true => Err(Trouble {
            reason: Reason::Planning,
            message: format!("What PostgresDatabase {} is now was accepted. Belay looks at it again", o.database_name),
        }),
    }
}

/// A script is applied only above a verified backup, where the policy asks for one.
fn back_up_and_apply(o: &Observed, run: &View, inspection: &Inspection, plan: Plan, now: Timestamp) -> Decision {
    let below = match below(o, run, inspection, &plan, now) {
        Below::NotAsked => None,
        Below::Have(backup) => backup.metadata.name.clone(),
        Below::Running(backup) => {
            return Decision::step(Step::Rest)
                .saying(Reason::BackupRunning, message::backing_up(backup))
                .with_plan(plan);
        }
        Below::Create(name) => {
            return Decision::step(Step::BackUp { name: name.clone() })
                .saying(Reason::BackupRunning, message::backup_starts(&name))
                .handling_request(o.is_requested())
                .with_plan(plan);
        }
        Below::NotConfigured => {
            return Decision::step(Step::Rest)
                .saying(Reason::BackupNotConfigured, message::backup_not_configured(o, &plan))
                .with_plan(plan)
                .settled(o.interval(), false, now)
                .close(Reason::BackupNotConfigured);
        }
        Below::Failed(backup) => {
            return Decision::step(Step::Rest)
                .saying(Reason::BackupFailed, message::backup_failed(o, backup))
                .with_plan(plan)
                .settled(o.interval(), false, now)
                .close(Reason::BackupFailed);
        }
    };
    if inspection.below != below {
        return Decision::step(Step::Inspect { below });
    }
    Decision::step(Step::Apply { below: below.clone() })
        .saying(Reason::Applying, message::apply_starts(o, &plan, below.as_deref()))
        .handling_request(o.is_requested())
        .with_plan(plan)
}

/// The PostgresBackup that was to be below the run cannot be made: the API server does not take it, for this reason.
pub fn backup_refused(o: &Observed, name: &str, plan: Plan, why: &str, now: Timestamp) -> Decision {
    Decision::step(Step::Rest)
        .saying(Reason::BackupFailed, message::backup_refused(o, name, why))
        .with_plan(plan)
        .settled(o.interval(), false, now)
        .close(Reason::BackupFailed)
}

/// The ledger shows the target: the health checks decide.
fn applied(o: &Observed, run: &View, plan: Plan, now: Timestamp) -> Decision {
    let passed_before = o.health_passed && !run.wrote;
    let verdict = match &run.health {
        _ if !o.has_health_checks || passed_before => &Verdict::Passed,
        Some(verdict) => verdict,
        None if known_unhealthy(o, run) => return Decision::step(Step::CheckHealth).with_plan(plan),
        None => {
            return Decision::step(Step::CheckHealth)
                .saying(Reason::CheckingHealth, message::checking(o, ""))
                .with_plan(plan);
        }
    };
    let (reason, text) = match verdict {
        Verdict::Passed => (Reason::Succeeded, message::succeeded(o, &plan)),
        Verdict::Failed { check, saw } => (Reason::Unhealthy, message::unhealthy(&plan, check, saw)),
        Verdict::Refused { check, why } => (Reason::CheckRefused, message::check_refused(&plan, check, why)),
    };
    let unhealthy = reason == Reason::Unhealthy;
    let wait = if unhealthy { backoff(o) } else { o.interval() };
    Decision::step(Step::Rest).saying(reason, text).with_plan(plan).settled(wait, unhealthy, now).close(reason)
}

impl Decision {
    /// Says what it says, and closes the run.
    fn close(self, outcome: Reason) -> Self {
        Self { step: Step::Close { outcome }, ..self }
    }
}

/// 1 s, doubled each time, up to a minute; spread by a quarter either way.
fn backoff(o: &Observed) -> Duration {
    let base = Duration::from_secs(1 << o.attempts.min(6)).min(MAX_BACKOFF);
    base.mul_f64(0.75 + 0.5 * o.chance.clamp(0.0, 1.0)).min(MAX_BACKOFF)
}

/// `text` as a sentence, with its full stop.
fn sentence(text: &str) -> String {
    let mut sentence = text.trim_end_matches('.').to_owned();
    if let Some(first) = sentence.get(..1).map(str::to_uppercase).filter(|_| begins_with_a_word(text)) {
        sentence.replace_range(..1, &first);
    }
    sentence + "."
}

/// Not with a name, which has to stay as it is: a host, a file, an object.
fn begins_with_a_word(text: &str) -> bool {
    text.split(' ').next().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
}
