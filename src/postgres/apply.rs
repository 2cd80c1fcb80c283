//! Applying scripts: one transaction each, or one for all; tried again while it is the locks' fault or the server's,
//! never when it is the script's.

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt::{Outcome, Stop, StopPlace, Task, Unit};
use super::blocker::Blocker;
use super::engine::Engine;
use super::error::{ApplyError, PostgresError};
use super::failure::split_transaction;
use super::message::script_values;
use super::quote::Literal;
use super::retry::Patience;
use super::session::{Backend, Fault, comes_again, text};
use super::sqlstate::{self, NOT_IN_ENCODING, Retry};
use super::{outside, retry};
use crate::api::TransactionMode;
use crate::plan::{Edited, PlannedScript, edited};
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
        let apart = scripts.iter().any(|script| script.mode == Mode::NoTransaction);
        let (started, rows, begun) = self.starting_point(apart).await?;
        let run = RunContext { started, rows, ..run.clone() };
        // It would write an earlier run's rows.
        self.forget_prepared().await;
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
                patience: Patience::new(self.target.locks.retry_for),
                hurried: false,
                watched: true,
                progress,
                cancel,
            };
            match whole.as_slice() {
                [script] if script.mode == Mode::NoTransaction => self.apply_statements(task).await?,
                together => {
                    let is_begun =
                        |script: &PlannedScript| begun.iter().any(|number| number == script.version.number());
                    if let Some(at) = together.iter().position(is_begun) {
                        let edited = Edited { number: 0, line: None, done: true };
                        return Err(Task { scripts: &together[at..], ..task }.edited_halfway(edited));
                    }
                    self.apply_one(task).await?;
                }
            }
        }
        Ok(())
    }

    /// One script, statement by statement. Those that are done, by this run or an earlier one, are not run again.
    async fn apply_statements(&mut self, task: Task<'_>) -> Result<(), ApplyError> {
        let script = &task.scripts[0];
        let recorded = self.recorded(script).await?;
        let begun: Vec<_> = recorded.iter().map(|row| row.statement.clone()).collect();
        if let Some(edited) = edited(script, &begun) {
            return Err(task.edited_halfway(edited));
        }
        if begun.is_empty() {
            self.try_row(&task).await?;
        }
        for (number, statement) in script.statements.iter().enumerate() {
            let before = begun.iter().find(|row| row.number == number);
            if statement.sets_session() || before.is_some_and(|row| row.done) {
                continue;
            }
            // What an earlier run died on, it had sent outside a transaction.
            let unit = Unit::Statement { number, apart: before.is_some() };
            self.apply_one(Task { unit, ..task }).await?;
        }
        self.apply_one(Task { unit: Unit::Row, ..task }).await
    }

    /// Whether the database's encoding has every character that the script's row is to hold. Behind its statements, which stay,
    /// would be too late to ask.
    async fn try_row(&mut self, task: &Task<'_>) -> Result<(), ApplyError> {
        let values = script_values(&task.scripts[0]);
        if values.is_ascii() {
            return Ok(());
        }
        match self.try_query(format!("SELECT {values}")).await {
            Ok(_) => Ok(()),
            Err(Fault::Server(error)) if NOT_IN_ENCODING.contains(&&*error.sql_state) => {
                Err(self.failed(task, Stop::not_in_encoding(0, 0, *error)).await)
            }
            Err(fault) => Err(PostgresError::from_fault(&self.target.address, "reading the script", fault).into()),
        }
    }

    /// The server's time, how many scripts the ledger has, and the numbers of those that were begun statement by statement.
    /// `apart`: some are to be run so.
    async fn starting_point(&mut self, apart: bool) -> Result<(String, usize, Vec<String>), PostgresError> {
        // What is lacking later would be found out behind a statement that stays.
        let mut rights = vec![("history", "INSERT")];
        if apart {
            rights.extend(["INSERT", "UPDATE", "DELETE"].map(|right| ("statement", right)));
        }
        let may = |(table, right): &(&str, &str)| {
            format!("pg_catalog.has_table_privilege({}, '{right}')", Literal(&self.table(table)))
        };
        let rights: Vec<_> = rights.iter().map(may).collect();
        let sql = format!(
            "SELECT pg_catalog.clock_timestamp()::text, ({}), (SELECT string_agg(DISTINCT s.number::text, ' ') FROM {}), \
             ({})::text",
            self.count_of_rows(),
            self.begun_statements(),
            rights.join(" AND "),
        );
        let rows = self.query("looking at the ledger", sql).await?;
        let Some(row) = rows.first() else { return Err(self.damaged("it gave no answer".into())) };
        if text(row, 3) != "true" {
            return Err(self.may_not_use_ledger().await);
        }
        let begun = text(row, 2).split_whitespace().map(str::to_owned).collect();
        Ok((text(row, 0).to_owned(), text(row, 1).parse().unwrap_or_default(), begun))
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
        task.patience = Patience::new(self.target.locks.retry_for);
        let heard = self.notices.len();
        let mut losses = 0;
        loop {
            // Of what is tried again only the last try counts.
            self.notices.truncate(heard);
            let backend = self.session.as_ref().map(|session| session.backend.clone());
            let outcome = self.attempt(&task).await;
            self.write_deeds(task.run).await;
            match outcome {
                Outcome::Committed => return Ok(()),
                Outcome::Cancelled { script } => return Err(self.cancelled(&task, script).await),
                Outcome::InDoubt { statement } => return Err(task.in_doubt(statement)),
                Outcome::Untold { statement, error } => return Err(task.untold(statement, &error)),
                Outcome::Stopped(error) => return Err(error.into()),
                Outcome::NotOurs { script, split: true } => return Err(split_transaction(&task.scripts[script])),
                Outcome::NotOurs { script, split: false } => return Err(self.lock_lost(&task, script).await),
                // Nothing of it was done: it is what the script is not run in one transaction for.
                Outcome::Failed(stop) if task.is_refused_in_transaction(&stop) => {
                    task.goes_apart();
                    task.patience = Patience::new(self.target.locks.retry_for);
                    continue;
                }
                // To run it again would do the part of it again that it has committed.
                Outcome::Failed(stop) if task.commits_itself() && stop.place != StopPlace::Before => {
                    return Err(self.failed(&task, stop).await);
                }
                // Belay's doing, and no try that counts.
                Outcome::Failed(stop) if self.was_unprepared(&stop).await => continue,
                Outcome::Failed(stop) => match sqlstate::retry_statement(&stop.error.sql_state) {
                    Retry::No => return Err(self.failed(&task, stop).await),
                    Retry::Locks => {
                        let pause = retry::lock_pause(task.attempt, rand::random());
                        if task.cancel.is_cancelled() {
                            return Err(self.cancelled(&task, stop.script).await);
                        }
                        if !task.patience.lasts(pause) {
                            return Err(self.locks_failed(&task, stop).await);
                        }
                        self.keep_no_other_lock().await;
                        tracing::info!(script = %task.scripts[stop.script].file_name, sql_state = %stop.error.sql_state,
                            attempt = task.attempt, "others were in the way: trying again");
                        if !retry::pause_unless_cancelled(pause, task.cancel).await {
                            return Err(self.cancelled(&task, stop.script).await);
                        }
                    }
                    Retry::Reconnect => {
                        self.drop_session();
                        if self.recover(&task, backend, stop.error.to_string()).await? {
                            return Ok(());
                        }
                        losses += 1;
                        let pause = retry::reconnect_pause(losses, rand::random());
                        // The server is there, and has no room for this script.
                        if !task.patience.lasts(pause) {
                            return Err(self.failed(&task, stop).await);
                        }
                        if !retry::pause_unless_cancelled(pause, task.cancel).await {
                            return Err(self.cancelled(&task, stop.script).await);
                        }
                    }
                },
                // Without its COMMIT it is rolled back; what was sent outside a transaction, the next run settles.
                Outcome::Lost { committing: false, .. } if task.cancel.is_cancelled() => {
                    return Err(self.cancelled(&task, 0).await);
                }
                Outcome::Lost { why, committing } => {
                    tracing::warn!(%why, committing, "the connection was lost: the ledger decides");
                    if self.recover(&task, backend, why.clone()).await? {
                        return Ok(());
                    }
                    losses += 1;
                    let pause = retry::reconnect_pause(losses, rand::random());
                    // Once may happen to a script that takes longer than is tried; again, and it may be the script's doing.
                    if losses > 1 && (comes_again(&why) || !task.patience.lasts(pause)) {
                        return Err(self.lost_again(&task, &why, losses).await);
                    }
                    if !retry::pause_unless_cancelled(pause, task.cancel).await {
                        return Err(self.cancelled(&task, 0).await);
                    }
                }
            }
            task.attempt += 1;
        }
    }

    /// After a lost connection: connect, take the lock, see the old backend gone, read the rows. True: it was committed.
    async fn recover(&mut self, task: &Task<'_>, old: Option<Backend>, why: String) -> Result<bool, ApplyError> {
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
            if !task.patience.lasts(pause) {
                return Err(last.into());
            }
            // Whether it was committed is not known: somebody who cancels is told so.
            if !retry::pause_unless_cancelled(pause, task.cancel).await {
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
            Unit::Statement { number, .. } => self.is_recorded_as_done(task, number).await?,
            Unit::Scripts | Unit::Row => self.are_applied(task.run, task.scripts).await?,
        };
        // Also behind what is done: whoever had the lock meanwhile may have gone on from there.
        if self.others_wrote(task.run).await? {
            return Err(PostgresError::LedgerMoved { address: self.target.address.clone() }.into());
        }
        if self.lost_rows(task).await? {
            return Err(PostgresError::LedgerShrank { address: self.target.address.clone() }.into());
        }
        Ok(Some(done))
    }
}

impl Task<'_> {
    /// Whether the server refused a statement only because it came in a transaction.
    fn is_refused_in_transaction(&self, stop: &Stop) -> bool {
        let refused = outside::NOT_IN_TRANSACTION.contains(&&*stop.error.sql_state);
        matches!(self.unit, Unit::Statement { apart: false, .. }) && refused
    }

    /// Whether what is tried is a statement that the server refuses in a transaction.
    pub(super) fn is_sent_apart(&self) -> bool {
        let Unit::Statement { number, apart } = self.unit else { return false };
        let statement = self.scripts.first().and_then(|script| script.statements.get(number));
        apart || statement.is_some_and(|statement| statement.class.is_outside())
    }

    /// Whether what is tried is a statement that may have committed a part of what it does.
    pub(super) fn commits_itself(&self) -> bool {
        let Unit::Statement { number, apart: true } = self.unit else { return false };
        self.scripts.first().and_then(|script| script.statements.get(number)).is_some_and(outside::commits_itself)
    }

    fn goes_apart(&mut self) {
        if let Unit::Statement { apart, .. } = &mut self.unit {
            *apart = true;
        }
    }
}
