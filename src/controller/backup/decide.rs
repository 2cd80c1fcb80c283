//! Every rule of a Backup's life, without I/O: what was observed → one step, and what to say.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::job;
use super::pod::{JobFacts, Phase};
use crate::api::{
    BACKUP_FINALIZER, BackupMethod, DeletionPolicy, MIGRATION_LABEL, PostgresBackup, PostgresBackupStatus,
    PostgresDatabase, Reason, Store, Verified, conditions,
};
use crate::backup::{Outcome, Prepared, Taken, is_failed, is_taken};
use crate::controller::migration::Trouble;

/// How long a Pod may take to start before the backup fails.
pub const START_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// How soon a Pod that does not run yet is looked at again: Pods are not watched.
const POD_POLL: Duration = Duration::from_secs(2);
/// How soon missing objects are looked for again.
const MISSING_POLL: Duration = Duration::from_secs(10);
/// A running Job's watch brings its end; this is for the case that it does not.
const RUNNING_POLL: Duration = Duration::from_secs(60);
/// How long a failed deletion rests before it is tried again.
const DELETION_RETRY: Duration = Duration::from_secs(5 * 60);

/// Of a Backup whose data cannot be deleted.
const WAY_OUT: &str = "Set spec.deletionPolicy to Retain to let the object go without it";

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    pub backup: &'a PostgresBackup,
    /// The PostgresDatabase, and its connection as far as it can be read. Asked for until there is a Job.
    pub database: Option<&'a PostgresDatabase>,
    /// What keeps the connection from being read.
    pub connection: Result<(), Trouble>,
    /// The Job that takes it.
    pub job: Option<JobFacts>,
    /// The Job that deletes its data.
    pub deletion: Option<JobFacts>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Rest,
    /// Set the finalizer, or let the object go.
    Hold(bool),
    /// Create the Job that takes it, by this method.
    Create(Box<BackupMethod>),
    /// Delete the Job that takes it: its Pod never started, or the object goes.
    Stop,
    /// Create the Job that deletes its data.
    Erase(Store),
    /// Delete the failed Job that was to delete its data, so that another is made.
    EraseAgain,
}

/// A decision: one step, what the status is to say, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub step: Step,
    /// None: what it says stands.
    pub say: Option<(Reason, String)>,
    /// What the Job found out.
    pub result: Option<Found>,
    pub requeue: Option<Duration>,
}

/// What the Job found out.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Taken(Box<Taken>),
    /// A team's own Job succeeded: this was the server before it.
    Done {
        before: Box<Prepared>,
        at: Timestamp,
    },
}

impl Decision {
    fn step(step: Step) -> Self {
        Self { step, say: None, result: None, requeue: None }
    }

    fn saying(mut self, reason: Reason, message: impl Into<String>) -> Self {
        self.say = Some((reason, message.into()));
        self
    }

    fn after(mut self, delay: Duration) -> Self {
        self.requeue = Some(delay);
        self
    }

    /// The Job was refused: trying again changes nothing.
    pub fn refused(o: &Observed<'_>, why: &str) -> Self {
        if o.backup.metadata.deletion_timestamp.is_some() {
            let message = format!("{}. The data is still there. {WAY_OUT}.", capital(why.trim_end_matches('.')));
            return Self::step(Step::Rest).saying(Reason::DeletionFailed, message);
        }
        Self::failed(o.backup, Step::Rest, &capital(why))
    }

    /// Final. A Migration that made the Backup says itself what to do next: it makes another one.
    fn failed(backup: &PostgresBackup, step: Step, why: &str) -> Self {
        let why = capital(why.trim_end_matches('.'));
        let next = match backup.labels().contains_key(MIGRATION_LABEL) {
            true => "",
            false => " Mend the cause, then make another Backup.",
        };
        Self::step(step).saying(Reason::BackupFailed, format!("{why}. No backup was taken.{next}"))
    }
}

/// What to do next. `start_deadline`: how long a Pod may take to start.
pub fn decide(o: &Observed<'_>, start_deadline: Duration, now: Timestamp) -> Decision {
    let backup = o.backup;
    let status = backup.status.clone().unwrap_or_default();
    let held = backup.finalizers().iter().any(|finalizer| finalizer == BACKUP_FINALIZER);
    let erase = backup.spec.deletion_policy == DeletionPolicy::Delete;
    if backup.metadata.deletion_timestamp.is_some() {
        return if held { leave(o, &status, erase, now) } else { Decision::step(Step::Rest) };
    }
    // Before there is any data: later it might be too late.
    if held != erase {
        let hold = Decision::step(Step::Hold(erase));
        return match status.conditions.is_empty() {
            // A status that another Belay left may keep the object from being changed at all: this one takes its place first.
            true => hold.saying(Reason::BackupRunning, "The backup is about to be taken. The database is not touched."),
            false => hold,
        };
    }
    if is_taken(&status) {
        return settled(Reason::Succeeded, &status);
    }
    if is_failed(&status) {
        return settled(Reason::BackupFailed, &status);
    }
    match &o.job {
        Some(job) => follow(o, job, start_deadline, now),
        None if status.job.is_some() => {
            let job = status.job.unwrap_or_default();
            Decision::failed(o.backup, Step::Rest, &format!("Job {job} was deleted before it was done"))
        }
        None => begin(o),
    }
}

/// Done, or failed for good: only the generation that is spoken of can change.
fn settled(reason: Reason, status: &PostgresBackupStatus) -> Decision {
    let message = status.conditions.iter().find(|condition| condition.type_ == conditions::READY);
    let message = message.map(|condition| condition.message.clone()).unwrap_or_default();
    Decision::step(Step::Rest).saying(reason, message)
}

/// Nothing is there yet.
fn begin(o: &Observed<'_>) -> Decision {
    let name = &o.backup.spec.database_ref.name;
    let missing = |reason, message: String| Decision::step(Step::Rest).saying(reason, message).after(MISSING_POLL);
    let Some(database) = o.database else {
        let message = format!(
            "PostgresDatabase {name} does not exist in this namespace. No backup is taken. Create it: Belay goes on by itself."
        );
        return missing(Reason::DatabaseNotFound, message);
    };
    let Some(method) = method(o.backup, Some(database)) else {
        let message = format!(
            "PostgresDatabase {name} has no spec.backup.method, and this Backup has none either. No backup is taken. Set one of them."
        );
        return missing(Reason::BackupNotConfigured, message);
    };
    if let Err(trouble) = &o.connection {
        return missing(trouble.reason, format!("{}. No backup is taken.", trouble.message.trim_end_matches('.')));
    }
    let job = job::name(o.backup);
    Decision::step(Step::Create(Box::new(method.clone())))
        .saying(Reason::BackupRunning, format!("Job {job} is starting. The database is not touched."))
        .after(POD_POLL)
}

/// How this Backup is taken: as it says, else as its Database does.
pub fn method<'a>(backup: &'a PostgresBackup, database: Option<&'a PostgresDatabase>) -> Option<&'a BackupMethod> {
    backup.spec.method.as_ref().or(database?.spec.backup.method.as_deref())
}

/// There is a Job.
fn follow(o: &Observed<'_>, job: &JobFacts, start_deadline: Duration, now: Timestamp) -> Decision {
    let name = &job.name;
    match &job.phase {
        Phase::Foreign => {
            Decision::failed(o.backup, Step::Rest, &format!("a Job {name} exists that is not this Backup's"))
        }
        Phase::Deleting => {
            Decision::failed(o.backup, Step::Rest, &format!("Job {name} was deleted before it was done"))
        }
        Phase::Failed { why } => Decision::failed(o.backup, Step::Rest, why),
        Phase::Complete { at, outcomes } => complete(o, job, *at, outcomes, now),
        Phase::Running => Decision::step(Step::Rest)
            .saying(
                Reason::BackupRunning,
                format!("Job {name} is taking the backup. `kubectl logs job/{name}` shows how far it is."),
            )
            .after(RUNNING_POLL),
        Phase::Waiting { since, why } => {
            let waited = Duration::try_from(now.duration_since(*since)).unwrap_or_default();
            let why = why.as_deref().map(|why| why.trim_end_matches('.'));
            if waited >= start_deadline {
                let minutes = start_deadline.as_secs().div_ceil(60);
                let why = why.unwrap_or("no Pod of it runs, and nothing says why");
                return Decision::failed(
                    o.backup,
                    Step::Stop,
                    &format!("Job {name} did not start within {minutes} min: {why}"),
                );
            }
            let message = match why {
                Some(why) => format!(
                    "Job {name} cannot start: {why}. The database is not touched. Mend it: the backup fails {} s after its start otherwise.",
                    start_deadline.as_secs()
                ),
                None => format!("Job {name} is starting. The database is not touched."),
            };
            Decision::step(Step::Rest)
                .saying(Reason::BackupRunning, message)
                .after(POD_POLL.min(start_deadline.saturating_sub(waited)).max(Duration::from_millis(100)))
        }
    }
}

/// The Job succeeded: believed is what its Pod said.
fn complete(o: &Observed<'_>, job: &JobFacts, at: Option<Timestamp>, outcomes: &[Outcome], now: Timestamp) -> Decision {
    let found = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Taken(taken) => Some(Found::Taken(Box::new(taken.clone()))),
        Outcome::Prepared(before) => Some(Found::Done { before: Box::new(before.clone()), at: at.unwrap_or(now) }),
        _ => None,
    });
    let message = match &found {
        None => {
            let why = format!(
                "Job {} succeeded, but its Pod is gone, and with it what it found: if the backup is a dump, its record is beside it",
                job.name
            );
            return Decision::failed(o.backup, Step::Rest, &why);
        }
        Some(Found::Taken(taken)) => format!(
            "{} bytes at {} hold the database {} as of {}. The written bytes were read back, and are what pg_dump sent.",
            taken.bytes,
            taken.location,
            version(taken.ledger_version.as_deref()),
            taken.snapshot_at
        ),
        Some(Found::Done { before, .. }) => format!(
            "Job {} succeeded: its backup is of the database {} or later, as of {}. Belay did not look at what it wrote.",
            job.name,
            version(before.ledger_version.as_deref()),
            before.snapshot_at
        ),
    };
    Decision { result: found, ..Decision::step(Step::Rest).saying(Reason::Succeeded, message) }
}

fn version(version: Option<&str>) -> String {
    version.map_or_else(|| "before its first script".to_owned(), |version| format!("at {version}"))
}

/// The object is being deleted, and its data may have to go first.
fn leave(o: &Observed<'_>, status: &PostgresBackupStatus, erase: bool, now: Timestamp) -> Decision {
    let store = status.store.as_ref().filter(|_| erase);
    // Nothing was written, or what was written stays.
    let Some(store) = store else { return Decision::step(Step::Hold(false)) };
    if o.job.as_ref().is_some_and(|job| !matches!(job.phase, Phase::Foreign)) {
        // Its Pod could still be writing.
        return Decision::step(Step::Stop).saying(Reason::DeletingBackup, "The Job is being stopped.").after(POD_POLL);
    }
    let Some(job) = &o.deletion else {
        let erase = Decision::step(Step::Erase(store.clone()));
        // What was said of a former try stands until this one is under way: it may be refused again.
        if conditions::reason_of(&status.conditions, conditions::READY) == Some(Reason::DeletionFailed) {
            return erase.after(DELETION_RETRY);
        }
        return erase.saying(Reason::DeletingBackup, "The data is being deleted from the store.").after(POD_POLL);
    };
    let name = &job.name;
    match &job.phase {
        Phase::Complete { .. } => Decision::step(Step::Hold(false)),
        Phase::Deleting => Decision::step(Step::Rest).after(POD_POLL),
        Phase::Failed { why } => {
            let why = why.trim_end_matches('.');
            let message = format!("Job {name} could not delete the data: {why}. The data is still there. {WAY_OUT}.");
            let rested = Duration::try_from(now.duration_since(job.created_at)).unwrap_or_default();
            let step = if rested >= DELETION_RETRY { Step::EraseAgain } else { Step::Rest };
            Decision::step(step)
                .saying(Reason::DeletionFailed, message)
                .after(DELETION_RETRY.saturating_sub(rested).max(POD_POLL))
        }
        Phase::Foreign => Decision::step(Step::Rest)
            .saying(
                Reason::DeletionFailed,
                format!("A Job {name} exists that is not this Backup's. The data is still there. Delete that Job. {WAY_OUT}."),
            )
            .after(MISSING_POLL),
        Phase::Running => Decision::step(Step::Rest)
            .saying(Reason::DeletingBackup, "The data is being deleted from the store.")
            .after(RUNNING_POLL),
        Phase::Waiting { why, .. } => {
            let message = match why {
                Some(why) => format!(
                    "Job {name} cannot start: {}. The data is still there. {WAY_OUT}.",
                    why.trim_end_matches('.')
                ),
                None => "The data is being deleted from the store.".to_owned(),
            };
            Decision::step(Step::Rest).saying(Reason::DeletingBackup, message).after(POD_POLL)
        }
    }
}

/// What the status is to be.
pub fn status(o: &Observed<'_>, decision: &Decision, now: Timestamp) -> PostgresBackupStatus {
    let mut status = o.backup.status.clone().unwrap_or_default();
    let generation = o.backup.metadata.generation;
    if let Some((reason, message)) = &decision.say {
        // Not before something is said of this generation: without conditions kstatus takes a generation that was seen for
        // one that was dealt with.
        status.observed_generation = generation;
        let created = o.backup.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
        let missing_for = Duration::try_from(now.duration_since(created)).unwrap_or_default();
        conditions::set_summary(&mut status.conditions, (*reason, message), missing_for, generation, now);
    }
    if let Some(job) = o.job.as_ref().filter(|job| job.phase != Phase::Foreign) {
        status.job = Some(job.name.clone());
    }
    if status.store.is_none()
        && (o.job.is_some() || matches!(decision.step, Step::Create(_)))
        && let Some(dump) = method(o.backup, o.database).and_then(|method| method.pg_dump.as_ref())
    {
        status.store = Some(dump.store.clone());
    }
    match &decision.result {
        Some(Found::Taken(taken)) => {
            status.location = Some(taken.location.clone());
            status.bytes = i64::try_from(taken.bytes).ok();
            status.sha256 = Some(taken.sha256.clone());
            status.server_version = Some(taken.server_version.clone());
            status.tool_version = Some(taken.tool_version.clone());
            status.snapshot_at = Some(taken.snapshot_at.clone());
            status.ledger_version.clone_from(&taken.ledger_version);
            status.completed_at = Some(taken.completed_at.clone());
            status.verified = Some(taken.verified);
            status.system_identifier.clone_from(&taken.database.system_identifier);
            status.database_oid = Some(taken.database.oid);
        }
        Some(Found::Done { before, at }) => {
            status.server_version = Some(before.server_version.clone());
            status.snapshot_at = Some(before.snapshot_at.clone());
            status.ledger_version.clone_from(&before.ledger_version);
            status.completed_at = Some(at.to_string());
            status.verified = Some(Verified::None);
            status.system_identifier.clone_from(&before.database.system_identifier);
            status.database_oid = Some(before.database.oid);
        }
        None => {}
    }
    status
}

/// A sentence's beginning.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
