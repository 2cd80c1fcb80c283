//! Applying scripts: one transaction each, or one for all; tried again while it is the locks' fault or the server's,
//! never when it is the script's.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt::{Outcome, Stop, StopPlace, Task, Unit};
use super::blocker::Blocker;
use super::engine::Engine;
use super::error::{ApplyError, PostgresError};
use super::session::{Backend, text};
use super::sqlstate::{self, Retry};
use super::{outside, retry};
use crate::api::{Failure, Reason, TransactionMode};
use crate::plan::PlannedScript;
use crate::script::{Mode, Script};

/// Which run applies, and for whom.
#[derive(Clone, Debug)]
pub struct RunContext {
    pub id: Uuid,
    /// The object or the person: `shop/shop`, `anna@laptop`.
    pub applied_by: String,
    /// When it began by the server's clock.
    pub(super) started: String,
    /// How many scripts the ledger had then.
    pub(super) rows: usize,
}

/// How far a run is. Told when a script begins, and about every half second while it takes longer.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    pub script: &'a Script,
    /// Which script, from 1, of how many.
    pub number: usize,
    pub scripts: usize,
    /// Which statement of it, from 1, of how many.
    pub statement: usize,
    pub statements: usize,
    /// The line that statement begins on.
    pub line: u32,
    /// Which try, from 1.
    pub attempt: u32,
    /// The sessions that it waits for, as of now.
    pub waiting_on: &'a [Blocker],
    /// How far a long statement is, in the server's words: `building index: scanning table, 43 %`.
    pub progress: Option<&'a str>,
}

impl RunContext {
    /// A run, before it is begun.
    pub fn new(id: Uuid, applied_by: impl Into<String>) -> Self {
        Self { id, applied_by: applied_by.into(), started: String::new(), rows: 0 }
    }
}

impl Engine {
    /// Applies scripts in the order given. Needs the lock and a ledger that is claimed.
    ///
    /// Locks that are not to be had, and a server that is lost, are tried again within `locks.retry_for`; for each
    /// script, or for all of them together under [`TransactionMode::AllPending`]. When the connection is lost it is made
    /// again, and the ledger's row decides whether the script was committed. When it returns an error, the script in
    /// hand is rolled back, and those before it are committed (under AllPending: none is).
    ///
    /// `cancel` stops the statement that runs, and rolls back; a COMMIT on its way is waited for.
    pub async fn apply(
        &mut self,
        scripts: &[PlannedScript],
        mode: TransactionMode,
        run: &RunContext,
        progress: &(dyn Fn(Progress<'_>) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<(), ApplyError> {
        self.require_lock()?;
        self.notices.clear();
        let (started, rows) = self.starting_point().await?;
        let run = RunContext { started, rows, ..run.clone() };
        let size = match mode {
            TransactionMode::PerScript => 1,
            TransactionMode::AllPending => scripts.len().max(1),
        };
        for (n, scripts_of_one) in scripts.chunks(size).enumerate() {
            let whole: Vec<_> = scripts_of_one
                .iter()
                .map(PlannedScript::whole)
                .collect::<Result<_, _>>()
                .map_err(PostgresError::from)?;
            let task = Task {
                unit: Unit::Scripts,
                scripts: &whole,
                offset: n * size,
                total: scripts.len(),
                mode,
                run: &run,
                attempt: 1,
                progress,
                cancel,
            };
            match whole.as_slice() {
                [script] if script.mode == Mode::NoTransaction => self.apply_statements(task).await?,
                _ => self.apply_one(task).await?,
            }
        }
        Ok(())
    }

    /// One script, statement by statement. Those that are done, by this run or an earlier one, are not run again.
    async fn apply_statements(&mut self, task: Task<'_>) -> Result<(), ApplyError> {
        let script = &task.scripts[0];
        let recorded = self.recorded(script).await?;
        if let Err(number) = outside::agree(script, &recorded) {
            return Err(task.edited_halfway(number));
        }
        for (number, statement) in script.statements.iter().enumerate() {
            let unit = Unit::Statement { number, apart: false };
            let done = match recorded.iter().find(|row| row.number == number) {
                _ if statement.sets_session() => true,
                Some(row) if row.done => true,
                // An earlier run died on it, and its session is gone: the lock was to be had.
                Some(row) => self.settle_begun(&Task { unit, ..task }, row).await?,
                None => false,
            };
            if !done {
                self.apply_one(Task { unit, ..task }).await?;
            }
        }
        self.apply_one(Task { unit: Unit::Row, ..task }).await
    }

    /// The server's time, and how many scripts the ledger has.
    async fn starting_point(&mut self) -> Result<(String, usize), PostgresError> {
        let sql = format!("SELECT pg_catalog.clock_timestamp()::text, ({})", self.count_of_rows());
        let rows = self.query("looking at the ledger", sql).await?;
        let Some(row) = rows.first() else { return Err(self.damaged("it gave no answer".into())) };
        Ok((text(row, 0).to_owned(), text(row, 1).parse().unwrap_or_default()))
    }

    fn count_of_rows(&self) -> String {
        format!("SELECT count(*)::text FROM {}", self.table("history"))
    }

    /// Whether scripts are gone from the ledger that were there when the run began, or that it has applied since. A server
    /// that took over, or came back, without the last commits would else get the next script without those before it.
    async fn lost_rows(&mut self, task: &Task<'_>) -> Result<bool, PostgresError> {
        let rows = self.query("reading the ledger", self.count_of_rows()).await?;
        let now: usize = rows.first().and_then(|row| text(row, 0).parse().ok()).unwrap_or_default();
        Ok(now < task.run.rows + task.offset)
    }

    /// One unit, as often as it takes.
    async fn apply_one(&mut self, mut task: Task<'_>) -> Result<(), ApplyError> {
        let patience = Patience::new(self.target.locks.retry_for);
        let heard = self.notices.len();
        loop {
            // Of what is tried again only the last try counts.
            self.notices.truncate(heard);
            let backend = self.session.as_ref().map(|session| session.backend.clone());
            let outcome = self.attempt(&task).await;
            self.write_deeds(task.run).await;
            match outcome {
                Outcome::Committed => return Ok(()),
                Outcome::Cancelled { script } => return Err(self.cancelled(&task, script)),
                Outcome::NotOurs { script, split: true } => return Err(split_transaction(&task.scripts[script])),
                Outcome::NotOurs { .. } => {
                    return Err(PostgresError::LockLost { address: self.target.address.clone() }.into());
                }
                // Nothing of it was done: it is what the script is not run in one transaction for.
                Outcome::Failed(stop) if task.is_refused_in_transaction(&stop) => task.goes_apart(),
                // Belay's doing, and no try that counts.
                Outcome::Failed(stop) if self.was_unprepared(&stop).await => continue,
                Outcome::Failed(stop) => match sqlstate::retry(&stop.error.sql_state) {
                    Retry::No => return Err(self.failed(&task, stop)),
                    Retry::Locks => {
                        let pause = retry::lock_pause(task.attempt, rand::random());
                        if !patience.lasts(pause) {
                            return Err(self.locks_failed(&task, stop));
                        }
                        tracing::info!(script = %task.scripts[stop.script].file_name, sql_state = %stop.error.sql_state,
                            attempt = task.attempt, "locks were not to be had: trying again");
                        if !pause_unless_cancelled(pause, task.cancel).await {
                            return Err(self.cancelled(&task, stop.script));
                        }
                    }
                    Retry::Reconnect => {
                        self.drop_session();
                        if self.recover(&task, backend, stop.error.to_string(), &patience).await? {
                            return Ok(());
                        }
                    }
                },
                Outcome::Lost { why, committing } => {
                    tracing::warn!(%why, committing, "the connection was lost: the ledger decides");
                    if self.recover(&task, backend, why, &patience).await? {
                        return Ok(());
                    }
                }
            }
            task.attempt += 1;
        }
    }

    /// After a lost connection: connect, take the lock, see the old backend gone, read the rows. True: it was committed.
    async fn recover(
        &mut self,
        task: &Task<'_>,
        old: Option<Backend>,
        why: String,
        patience: &Patience,
    ) -> Result<bool, ApplyError> {
        let mut last = PostgresError::Lost { address: self.target.address.clone(), why };
        for attempt in 1u32.. {
            match self.recover_once(task, old.as_ref()).await {
                Ok(Some(committed)) => return Ok(committed),
                Ok(None) => {}
                Err(ApplyError::Postgres(error))
                    if error.is_transient()
                        && !matches!(error, PostgresError::LedgerMoved { .. } | PostgresError::LedgerShrank { .. }) =>
                {
                    last = error;
                }
                Err(error) => return Err(error),
            }
            let pause = retry::reconnect_pause(attempt, rand::random());
            if !patience.lasts(pause) {
                return Err(last.into());
            }
            // Whether it was committed is not known: somebody who cancels is told so.
            if !pause_unless_cancelled(pause, task.cancel).await {
                return Err(last.into());
            }
        }
        Err(last.into())
    }

    /// None: the old backend is not gone yet, or the lock is not free.
    async fn recover_once(&mut self, task: &Task<'_>, old: Option<&Backend>) -> Result<Option<bool>, ApplyError> {
        if self.session.is_none() {
            self.reconnect().await?;
        }
        if let Some(old) = old {
            // It would find out by itself that its client is gone; sooner is better.
            self.end(old).await?;
        }
        if !self.try_lock().await? {
            return Ok(None);
        }
        // A script that released the lock may have left its backend at work: the lock alone proves nothing.
        if let Some(old) = old
            && self.is_alive(old).await?
        {
            return Ok(None);
        }
        let done = match task.unit {
            Unit::Statement { number, .. } => self.is_statement_done(task, number).await?,
            Unit::Scripts | Unit::Row => self.are_applied(task.run, task.scripts).await?,
        };
        if !done && self.others_wrote(task.run).await? {
            return Err(PostgresError::LedgerMoved { address: self.target.address.clone() }.into());
        }
        if self.lost_rows(task).await? {
            return Err(PostgresError::LedgerShrank { address: self.target.address.clone() }.into());
        }
        Ok(Some(done))
    }

    fn cancelled(&self, task: &Task<'_>, script: usize) -> ApplyError {
        ApplyError::Cancelled {
            script: task.scripts.get(script).map(|script| script.file_name.clone()),
            left: task.left(script),
        }
    }

    fn failed(&self, task: &Task<'_>, stop: Stop) -> ApplyError {
        let address = self.target.address.clone();
        match stop.place {
            // Belay's own statements: not the script's fault.
            StopPlace::Before => {
                PostgresError::Server { address, doing: "preparing the transaction", error: Box::new(stop.error) }
                    .into()
            }
            // no_active_sql_transaction, invalid savepoint: the guard is gone, and with it the transaction.
            StopPlace::Ledger if matches!(&*stop.error.sql_state, "25P01" | "3B001") => {
                split_transaction(&task.scripts[stop.script])
            }
            // unique_violation: the version is in the ledger already.
            StopPlace::Ledger if stop.error.sql_state == "23505" => PostgresError::LedgerMoved { address }.into(),
            StopPlace::Ledger => PostgresError::Server {
                address,
                doing: "writing the script to the ledger",
                error: Box::new(stop.error),
            }
            .into(),
            _ => ApplyError::Script(Box::new(failure(task, &stop, Reason::ScriptFailed))),
        }
    }

    fn locks_failed(&self, task: &Task<'_>, stop: Stop) -> ApplyError {
        ApplyError::Locks(Box::new(failure(task, &stop, Reason::LockTimeout)))
    }
}

/// What stopped a transaction, in the server's words, with its place.
fn failure(task: &Task<'_>, stop: &Stop, reason: Reason) -> Failure {
    let script = &task.scripts[stop.script];
    let (mut line, mut column, mut number, mut command) = (None, None, None, None);
    if let StopPlace::Script { statement, character } = stop.place {
        let running = script.statements.get(statement);
        let position = match character {
            Some(character) => Some(script.position_of_char(character)),
            None => running.map(|statement| statement.start),
        };
        line = position.map(|position| i64::from(position.line));
        column = position.map(|position| i64::from(position.column));
        number = Some(statement as i64 + 1);
        command = running.map(|statement| statement.command.clone());
    }
    let place = match (stop.place, line, column) {
        (StopPlace::Constraints, ..) => match &stop.error.constraint {
            Some(constraint) => format!(", deferred constraint {constraint:?}"),
            None => ", deferred constraint".to_owned(),
        },
        (StopPlace::Commit, ..) => ", COMMIT".to_owned(),
        (_, Some(line), Some(column)) => format!(", line {line}, column {column}"),
        _ => String::new(),
    };
    let tries = match task.attempt {
        1 => String::new(),
        attempts => format!(", after {attempts} tries"),
    };
    let left = task.left(stop.script);
    // object_in_use, unsafe_new_enum_value_usage: what one script made, another may use only once it is committed.
    let clash = matches!(&*stop.error.sql_state, "55006" | "55P04");
    let advice = match task.mode {
        TransactionMode::AllPending if clash && task.total > 1 => {
            " They clash within one transaction: set spec.transaction to PerScript."
        }
        _ => "",
    };
    Failure {
        reason: reason.as_str().to_owned(),
        message: format!("{}{place}: {}{tries}. {left}{advice}", script.file_name, stop.error),
        sql_state: Some(stop.error.sql_state.clone()),
        script: Some(script.file_name.clone()),
        line,
        column,
        statement: number,
        command,
        hint: stop.error.hint.clone(),
        attempts: Some(i64::from(task.attempt)),
    }
}

impl Task<'_> {
    /// What is in the database of a script that stopped: a sentence.
    fn left(&self, script: usize) -> String {
        let Some(script) = self.scripts.get(script) else { return String::new() };
        let version = &script.version;
        match self.unit {
            Unit::Scripts if self.mode == TransactionMode::AllPending && self.total > 1 => {
                format!("Nothing of the {} scripts is applied.", self.total)
            }
            Unit::Scripts => format!("Nothing of {version} is applied."),
            Unit::Row => format!("All statements of {version} are applied, and its row is not in the ledger yet."),
            Unit::Statement { number, .. } => {
                let before = script.statements.iter().take(number).filter(|one| !one.sets_session()).count();
                match before {
                    0 => format!("Nothing of {version} is applied."),
                    _ => format!("The statements of {version} before this one are applied, and are not run again."),
                }
            }
        }
    }

    /// Whether the server refused a statement only because it came in a transaction.
    fn is_refused_in_transaction(&self, stop: &Stop) -> bool {
        let refused = outside::NOT_IN_TRANSACTION.contains(&&*stop.error.sql_state);
        matches!(self.unit, Unit::Statement { apart: false, .. }) && refused
    }

    fn goes_apart(&mut self) {
        if let Unit::Statement { apart, .. } = &mut self.unit {
            *apart = true;
        }
    }

    /// A statement was begun, and nobody but a person can say whether it was done.
    pub(super) fn in_doubt(&self, number: usize) -> ApplyError {
        let script = &self.scripts[0];
        let command = script.statements.get(number).map_or("a statement", |statement| &statement.command);
        self.doubt(
            number,
            format!(
                "the connection was lost while {command} ran outside a transaction, and nothing tells whether it was done. \
                 Find out, then say so: belay repair --statement {}:{}=done, or =undone",
                script.version,
                number + 1
            ),
        )
    }

    /// What an earlier run did of this script is not what the script says now.
    fn edited_halfway(&self, number: usize) -> ApplyError {
        let script = &self.scripts[0];
        self.doubt(
            number,
            format!(
                "the script was edited after its statement {} was run, outside a transaction. Put the statements that are \
                 applied back as they were, and correct only those behind them; or, if the database is as the script \
                 wants it to be run anew, forget what was done: belay repair --forget-statements {}",
                number + 1,
                script.version
            ),
        )
    }

    fn doubt(&self, number: usize, what: String) -> ApplyError {
        let script = &self.scripts[0];
        let statement = script.statements.get(number);
        let line = statement.map(|statement| statement.start.line);
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        ApplyError::Script(Box::new(Failure {
            reason: Reason::InDoubt.as_str().to_owned(),
            message: format!("{}{place}: {what}.", script.file_name),
            script: Some(script.file_name.clone()),
            line: line.map(i64::from),
            statement: Some(number as i64 + 1),
            command: statement.map(|statement| statement.command.clone()),
            ..Failure::default()
        }))
    }
}

/// Transaction control that was not seen beforehand: in a procedure that commits, say.
fn split_transaction(script: &Script) -> ApplyError {
    ApplyError::Script(Box::new(Failure {
        reason: Reason::UnsupportedScript.as_str().to_owned(),
        message: format!(
            "{}: it ended the transaction that Belay began, so that its first part may be in the database while the ledger \
             does not have it. Compare the database with the script, then take the transaction control out of it.",
            script.file_name
        ),
        script: Some(script.file_name.clone()),
        ..Failure::default()
    }))
}

/// How long is still tried.
struct Patience {
    since: Instant,
    until: Duration,
}

impl Patience {
    fn new(until: Duration) -> Self {
        Self { since: Instant::now(), until }
    }

    /// Whether there is time for another try after this pause.
    fn lasts(&self, pause: Duration) -> bool {
        self.since.elapsed() + pause <= self.until
    }
}

async fn pause_unless_cancelled(pause: Duration, cancel: &CancellationToken) -> bool {
    tokio::select! {
        _ = cancel.cancelled() => false,
        _ = tokio::time::sleep(pause) => true,
    }
}
