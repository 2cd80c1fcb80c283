//! What the reconcile sees of a run.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::observe::{Key, Trouble};
use crate::api::{Failure, WaitingOn};
use crate::controller::database::Seen;
use crate::health::Verdict;
use crate::plan::{Ledger, Plan, Policy};
use crate::postgres::{Blocker, Identity, Progress};
use crate::script::History;

/// The most sessions, and relations of each, that the status lists.
const MAX_WAITING_ON: usize = 20;

/// A run, as it is at one moment.
#[derive(Clone, Debug)]
pub struct View {
    pub id: Uuid,
    /// Since when it has waited for its turn, or has read.
    pub since: Timestamp,
    /// What the run was started for.
    pub key: Key,
    /// What the run is about until it ends, once its plan began to be applied.
    pub about: Option<Arc<About>>,
    pub activity: Activity,
    /// The last reading of identity and ledger; none while it is out of date.
    pub inspection: Option<Arc<Inspection>>,
    /// How applying ended.
    pub applied: Option<Result<(), Failure>>,
    pub health: Option<Verdict>,
    /// What keeps the run from going on; its connection is gone, or not to be used.
    pub trouble: Option<Trouble>,
    /// Whether scripts were ordered to be applied.
    pub wrote: bool,
    /// The PostgresBackup below the run.
    pub below: Option<String>,
    /// What a look at its Database would have seen when it was closed.
    pub seen: Option<Seen>,
}

impl View {
    /// Of a run that has begun to connect.
    pub fn new(id: Uuid, now: Timestamp, key: Key) -> Self {
        Self {
            id,
            since: now,
            key,
            about: None,
            activity: Activity::Busy(Doing::Reading),
            inspection: None,
            applied: None,
            health: None,
            trouble: None,
            wrote: false,
            below: None,
            seen: None,
        }
    }
}

/// What a plan was made of that is being applied.
#[derive(Debug)]
pub struct About {
    pub history: Arc<History>,
    pub policy: Policy,
}

/// What a run is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Activity {
    /// Waiting for an order.
    Idle,
    Busy(Doing),
    /// Its connection is closed, and it takes no orders.
    Ended,
}

/// How far the scripts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub script: String,
    /// From 1.
    pub statement: usize,
    pub statements: usize,
    pub line: u32,
    /// Which try of the script, from 1.
    pub attempt: u32,
    /// The sessions that it waits for.
    pub waiting_on: Vec<WaitingOn>,
    /// How far the statement is, in the server's words.
    pub progress: Option<String>,
}

/// A step in progress.
#[derive(Clone, Debug, PartialEq)]
pub enum Doing {
    /// Waiting for its turn at this server.
    Waiting(String),
    /// Connecting, reading, or closing: takes milliseconds.
    Reading,
    Applying(Place),
    CheckingHealth(String),
}

/// What was read from the database.
#[derive(Debug)]
pub struct Inspection {
    pub at: Timestamp,
    pub identity: Identity,
    pub ledger: Ledger,
    /// Whether the lock was held while the ledger was read.
    pub locked: bool,
    /// Who holds it, in words, when it is not ours.
    pub holder: Option<String>,
    /// What is missing to apply anything.
    pub privileges: Option<Trouble>,
    /// The PostgresBackup that was below the run when the ledger was read.
    pub below: Option<String>,
}

impl Place {
    /// Where a plan begins.
    pub fn first(plan: &Plan) -> Self {
        let first = plan.pending.first();
        Self {
            script: first.map(|script| script.file_name.clone()).unwrap_or_default(),
            statement: 1,
            statements: first.map_or(0, |script| script.statement_count),
            line: first.and_then(|script| script.statements.first()).map_or(1, |statement| statement.start.line),
            attempt: 1,
            waiting_on: Vec::new(),
            progress: None,
        }
    }
}

impl From<&Progress<'_>> for Place {
    fn from(progress: &Progress<'_>) -> Self {
        Self {
            script: progress.script.file_name.clone(),
            statement: progress.statement,
            statements: progress.statements,
            line: progress.line,
            attempt: progress.attempt,
            waiting_on: progress.waiting_on.iter().take(MAX_WAITING_ON).map(waiting_on).collect(),
            progress: progress.progress.map(str::to_owned),
        }
    }
}

fn waiting_on(blocker: &Blocker) -> WaitingOn {
    WaitingOn {
        pid: blocker.pid,
        user: blocker.user.clone(),
        application: blocker.application.clone(),
        state: blocker.state.clone(),
        command: blocker.command.clone(),
        relations: blocker.relations.iter().take(MAX_WAITING_ON).cloned().collect(),
        lock: blocker.lock.clone(),
        since: blocker.since.map(|since| since.to_string()),
        gid: blocker.gid.clone(),
        missing: blocker.missing.clone(),
    }
}
