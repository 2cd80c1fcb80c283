//! One try at one statement of a script that is not run in one transaction. Outside transactions nothing happens exactly
//! once by itself: a statement that can run in a transaction commits with its row in the ledger; any other has its row
//! written before it, and is settled by the catalogue when its answer is lost.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::attempt::{Outcome, Sent, Stop, StopPlace, TIDY, Task, stopped};
use super::engine::Engine;
use super::error::PostgresError;
use super::failpoint;
use super::marked::mark;
use super::message::{Around, Message, insert_row};
use super::retry::{self, Patience};
use super::server_error::ServerError;
use super::session::{Fault, text};
use super::settle::Settled;
use super::sqlstate::{self, QUERY_CANCELED, Retry};
use super::statement_row::Recorded;
use super::watch::Limit;
use crate::script::{Class, Settle, Statement};

/// How long is cleaned up behind a statement that was cancelled: somebody waits for the run to end.
const TIDYING: Duration = Duration::from_secs(10);

/// SQLSTATEs with which the server refuses a statement in a transaction: active_sql_transaction,
/// invalid_transaction_termination.
pub(super) const NOT_IN_TRANSACTION: [&str; 2] = ["25001", "2D000"];

/// Whether a statement that ran outside a transaction may have committed a part of what it does.
pub(super) fn commits_itself(statement: &Statement) -> bool {
    matches!(settle_of(statement), Settle::Unknown)
}

/// How a statement is settled that the server did not take in a transaction.
fn settle_of(statement: &Statement) -> Settle {
    match &statement.class {
        Class::OutsideTransaction(outside) => outside.settle.clone(),
        // Of a partitioned table, which only the server could know.
        _ if statement.command == "REINDEX" => Settle::Reindex,
        _ if statement.command == "CLUSTER" => Settle::Repeat,
        // A procedure or a block that commits by itself.
        _ => Settle::Unknown,
    }
}

impl Engine {
    /// One try at statement `number` (from 0) of the task's script.
    pub(super) async fn attempt_statement(&mut self, task: &Task<'_>, number: usize) -> Outcome {
        if task.cancel.is_cancelled() {
            return Outcome::Cancelled { script: 0 };
        }
        let tried = match task.is_sent_apart() {
            true => self.attempt_apart(task, number).await,
            false => self.attempt_in_transaction(task, number).await,
        };
        match tried {
            Ok(outcome) => outcome,
            Err(fault) => self.stopped_before(task, fault).await,
        }
    }

    /// What went wrong around a statement, and not in it.
    async fn stopped_before(&mut self, task: &Task<'_>, fault: Fault) -> Outcome {
        match fault {
            Fault::Lost { why } => {
                self.drop_session();
                Outcome::Lost { why, committing: false }
            }
            Fault::Server(error) => self.stopped_at(task, StopPlace::Before, *error).await,
        }
    }

    async fn stopped_at(&mut self, task: &Task<'_>, place: StopPlace, error: ServerError) -> Outcome {
        let outcome = match task.cancel.is_cancelled() {
            true => Outcome::Cancelled { script: 0 },
            false => Outcome::Failed(Stop { script: 0, place, error }),
        };
        self.roll_back_to(outcome).await
    }

    /// The session as the script has set it up before statement `number`, or behind the last. Some: it could not be.
    async fn enter(&mut self, task: &Task<'_>, number: usize) -> Result<Option<Outcome>, Fault> {
        let script = &task.scripts[0];
        let mut settings = self.script_settings(task.attempt);
        let most = self.longest_wait(task, number);
        settings.extend(most.map(lock_timeout));
        settings.push(mark(&self.application, number));
        self.try_query(settings.join(";")).await?;
        for earlier in script.set_up(number) {
            match self.try_query(script.statement_text(&script.statements[earlier]).to_owned()).await {
                Ok(_) => {}
                Err(Fault::Server(error)) => {
                    let place = StopPlace::Script { statement: earlier, character: None };
                    return Ok(Some(self.stopped_at(task, place, *error).await));
                }
                Err(lost) => return Err(lost),
            }
        }
        if let Some(most) = most {
            self.try_query(lock_timeout_at_most(most)).await?;
        }
        Ok(None)
    }

    /// The most that each wait for a lock may take of a statement that is sent apart, where that is more than a try's step. A watch
    /// beside it counts all its waits; this holds also if there is no room for a second connection, and whatever the script SETs.
    fn longest_wait(&self, task: &Task<'_>, number: usize) -> Option<Duration> {
        let patient = task.scripts[0].statements.get(number).is_some_and(|next| next.class.is_patient());
        match (patient, task.commits_itself()) {
            (true, _) => Some(Limit::patient(self, task).any),
            // It has one try.
            (false, true) => Some(retry::longest_lock_timeout(&self.target.locks, self.deadlock_timeout)),
            (false, false) => None,
        }
    }

    async fn attempt_in_transaction(&mut self, task: &Task<'_>, number: usize) -> Result<Outcome, Fault> {
        if let Some(outcome) = self.enter(task, number).await? {
            return Ok(outcome);
        }
        let script = &task.scripts[0];
        let row = self.record_statement(script, number, task.run, true, None);
        let around = Around::transaction(self, row);
        let message = Message::around(self, script, number..number + 1, around);
        failpoint::pass("before-statement").await;
        let limit = Limit::of_try(self, task);
        match self.send(&message, task, 0, number, limit).await {
            Sent::Done => self.commit_statement(task, number).await,
            Sent::NoRow => Ok(self.not_ours(0).await),
            Sent::Failed { fault: lost @ Fault::Lost { .. }, .. } => Err(lost),
            Sent::Failed { piece, completed, fault: Fault::Server(error) } => {
                let outcome = stopped(task, 0, message.pieces.get(piece), completed, *error);
                Ok(self.roll_back_to(outcome).await)
            }
        }
    }

    /// As with a script's transaction: COMMIT alone, and the row read back.
    async fn commit_statement(&mut self, task: &Task<'_>, number: usize) -> Result<Outcome, Fault> {
        failpoint::pass("before-statement-commit").await;
        // What it listens to would come unasked.
        match self.try_query("COMMIT;UNLISTEN *".to_owned()).await {
            Ok(_) => {}
            Err(Fault::Lost { why }) => return Ok(Outcome::Lost { why, committing: true }),
            Err(Fault::Server(error)) => {
                // COMMIT itself failed, or a cancel came behind it: the row says which.
                let outcome = self.stopped_at(task, StopPlace::Commit, *error).await;
                return Ok(self.recorded_or(task, number, outcome).await);
            }
        }
        failpoint::pass("after-statement-commit").await;
        Ok(self.recorded_or(task, number, Outcome::NotOurs { script: 0, split: true }).await)
    }

    /// What the row says; or this, if there is none.
    async fn recorded_or(&mut self, task: &Task<'_>, number: usize, outcome: Outcome) -> Outcome {
        match self.is_recorded_as_done(task, number).await {
            Ok(true) => Outcome::Committed,
            Ok(false) => outcome,
            Err(error) => Outcome::Lost { why: error.to_string(), committing: true },
        }
    }

    async fn attempt_apart(&mut self, task: &Task<'_>, number: usize) -> Result<Outcome, Fault> {
        let script = &task.scripts[0];
        let statement = &script.statements[number];
        let settle = settle_of(statement);
        // Of these, some wait long and some lock others out: only who looks on can tell.
        let locks_others_out = matches!(settle, Settle::Detach { .. } | Settle::Reindex | Settle::Repeat);
        let watched = !statement.class.is_patient() || !locks_others_out || self.is_room_beside().await;
        let task = &Task { watched, ..*task };
        let begun = match self.begun_before(task, number).await {
            Ok(begun) => begun,
            Err(error) => return Ok(error.into()),
        };
        if let Some(outcome) = self.enter(task, number).await? {
            return Ok(outcome);
        }
        match self.way(task, number, &settle, begun.as_ref()).await {
            Ok(Settled::Done) => return self.conclude(task, number).await.map(|()| Outcome::Committed),
            Ok(Settled::InDoubt) => return Ok(self.roll_back_to(Outcome::InDoubt { statement: number }).await),
            Ok(Settled::NotDone | Settled::Left) => {}
            Err(Fault::Server(error)) => return Ok(self.stopped_at(task, StopPlace::Settling, *error).await),
            Err(lost) => return Err(lost),
        }
        if task.cancel.is_cancelled() {
            return Ok(Outcome::Cancelled { script: 0 });
        }
        // The way may have been long, and other settings were needed on it.
        if let Some(outcome) = self.enter(task, number).await? {
            return Ok(outcome);
        }
        let (left, before) = match begun {
            // What is there now may be what that one left.
            Some(row) => (true, row.before),
            None => (false, self.snapshot(&settle).await?),
        };
        let intent = self.record_statement(script, number, task.run, false, Some(&before));
        self.row(&intent).await?;
        failpoint::pass("after-intent").await;
        if let Some(outcome) = self.enter(task, number).await? {
            // It was not sent.
            if !left && let Err(error) = self.withdraw(script, number).await {
                return Ok(error.into());
            }
            return Ok(outcome);
        }
        let message = Message::alone(self, script, number);
        let limit = match (statement.class.is_patient(), &settle) {
            (true, _) => Limit::patient(self, task),
            // What commits by itself waits many times over, and lets go each time.
            (false, Settle::Unknown) => {
                let each = retry::longest_lock_timeout(&self.target.locks, self.deadlock_timeout);
                Limit { each, ..Limit::at_most(task.patience.left().max(each)) }
            }
            (false, _) => Limit::of_try(self, task),
        };
        match self.send(&message, task, 0, number, limit).await {
            Sent::Done => {
                if left {
                    self.put_away(task, number, &settle, &before).await?;
                }
                failpoint::pass("before-conclusion").await;
                match self.conclude(task, number).await {
                    // The next run could not tell.
                    Err(Fault::Server(error)) if task.commits_itself() => {
                        Ok(self.roll_back_to(Outcome::Untold { statement: number, error: *error }).await)
                    }
                    concluded => concluded.map(|()| Outcome::Committed),
                }
            }
            Sent::NoRow => Ok(self.not_ours(0).await),
            Sent::Failed { fault: lost @ Fault::Lost { .. }, .. } => Err(lost),
            Sent::Failed { piece, completed, fault: Fault::Server(error) } => {
                let ended = stopped(task, 0, message.pieces.get(piece), completed, *error);
                self.ended_apart(task, number, &settle, &before, ended).await
            }
        }
    }

    /// Settles an earlier try, if there was one, by what was there before it; and puts away what is in the statement's place.
    async fn way(
        &mut self,
        task: &Task<'_>,
        number: usize,
        settle: &Settle,
        begun: Option<&Recorded>,
    ) -> Result<Settled, Fault> {
        if let Some(row) = begun {
            match self.settle(task, number, settle, &row.before).await? {
                Settled::NotDone | Settled::Left => {}
                settled => return Ok(settled),
            }
        }
        self.clear_the_way(task, number, settle).await
    }

    /// The row that an earlier try has left, of this run or of one that died.
    async fn begun_before(&mut self, task: &Task<'_>, number: usize) -> Result<Option<Recorded>, PostgresError> {
        let rows = self.recorded(&task.scripts[0]).await?;
        Ok(rows.into_iter().find(|row| row.statement.number == number && !row.statement.done))
    }

    /// Puts away what earlier tries have left, now that the statement is done; which it is also if this cannot be.
    async fn put_away(&mut self, task: &Task<'_>, number: usize, settle: &Settle, before: &Value) -> Result<(), Fault> {
        if self.enter(task, number).await?.is_some() {
            return Ok(());
        }
        match self.settle(task, number, settle, before).await {
            Err(Fault::Server(error)) => {
                let script = &task.scripts[0].file_name;
                tracing::warn!(
                    script,
                    statement = number + 1,
                    "what an earlier try left could not be put away: {error}"
                );
                Ok(())
            }
            settled => settled.map(|_| ()),
        }
    }

    /// The server refused it, or was asked to stop: what the statement left is put away, and its row with it.
    async fn ended_apart(
        &mut self,
        task: &Task<'_>,
        number: usize,
        settle: &Settle,
        before: &Value,
        ended: Outcome,
    ) -> Result<Outcome, Fault> {
        let script = &task.scripts[0];
        let never = CancellationToken::new();
        // Part of it may be there: it is not to be run again without a person's word.
        if task.commits_itself() {
            return Ok(self.roll_back_to(ended).await);
        }
        let tidying = match ended {
            Outcome::Cancelled { .. } => {
                Task { patience: Patience::new(TIDYING), hurried: true, cancel: &never, ..*task }
            }
            // What the statement waited for, this may wait for too.
            _ => Task { patience: Patience::new(self.target.locks.retry_for), ..*task },
        };
        if self.enter(&tidying, number).await?.is_some() {
            return Ok(ended);
        }
        let settled = match self.settle(&tidying, number, settle, before).await {
            // With its error the server has taken it back: one that is there is somebody else's.
            Ok(_) if matches!(settle, Settle::Create(..)) => Settled::NotDone,
            Ok(settled) => settled,
            Err(lost @ Fault::Lost { .. }) => return Err(lost),
            Err(Fault::Server(error)) => {
                // The row stays: the next try finds it, and what is left.
                tracing::warn!(
                    script = script.file_name,
                    statement = number + 1,
                    "what a statement left could not be put away: {error}"
                );
                return Ok(ended);
            }
        };
        match settled {
            Settled::Done => self.conclude(task, number).await.map(|()| Outcome::Committed),
            // As above.
            Settled::Left => Ok(ended),
            Settled::NotDone | Settled::InDoubt => match self.withdraw(script, number).await {
                Ok(()) => Ok(ended),
                Err(PostgresError::Lost { why, .. }) => Err(Fault::Lost { why }),
                Err(error) => {
                    tracing::warn!(script = script.file_name, statement = number + 1, "its row stays: {error}");
                    Ok(ended)
                }
            },
        }
    }

    /// Whether the ledger has a statement as done. What was begun is settled when it is tried again.
    pub(super) async fn is_recorded_as_done(&mut self, task: &Task<'_>, number: usize) -> Result<bool, PostgresError> {
        let rows = self.recorded(&task.scripts[0]).await?;
        Ok(rows.iter().any(|row| row.statement.number == number && row.statement.done))
    }

    /// Whether the ledger has a statement as begun and not as done, as far as it can be asked.
    pub(super) async fn may_be_begun(&mut self, task: &Task<'_>, number: usize) -> bool {
        self.begun_before(task, number).await.map_or(true, |row| row.is_some())
    }

    /// The script's row, once all its statements are done.
    pub(super) async fn attempt_row(&mut self, task: &Task<'_>) -> Outcome {
        let script = &task.scripts[0];
        // A setting behind the last statement was none's to begin with.
        match self.enter(task, script.statements.len()).await {
            Ok(None) => {}
            Ok(Some(outcome)) => return outcome,
            Err(fault) => return self.stopped_before(task, fault).await,
        }
        let duration = format!(
            "(SELECT coalesce((extract(epoch FROM pg_catalog.clock_timestamp() - min(began_at)) * 1000), \
             0)::pg_catalog.int8 FROM {} WHERE number = {})",
            self.table("statement"),
            script.version.number()
        );
        let row = insert_row(self, script, "no-transaction", task.run, &duration, "true");
        match self.row(&row).await {
            Ok(()) => {
                self.tidy().await;
                Outcome::Committed
            }
            Err(Fault::Lost { why }) => Outcome::Lost { why, committing: true },
            Err(Fault::Server(error)) => {
                self.roll_back_to(Outcome::Failed(Stop { script: 0, place: StopPlace::Ledger, error: *error })).await
            }
        }
    }

    /// See [`TIDY`]. A session that cannot be tidied goes.
    async fn tidy(&mut self) {
        if let Some(session) = &mut self.session {
            session.prepared = None;
        }
        if self.try_query(format!("{TIDY};DEALLOCATE ALL")).await.is_err() {
            self.drop_session();
        }
        self.keep_no_other_lock().await;
    }

    /// Marks a statement as done; while somebody holds the ledger, again and again, for what else would tell it? Also when the
    /// statement has taken all the time that there was, and for a while behind a cancel.
    async fn conclude(&mut self, task: &Task<'_>, number: usize) -> Result<(), Fault> {
        let done = self.record_statement(&task.scripts[0], number, task.run, true, None);
        let unhurried = Patience::new(self.target.locks.retry_for);
        let mut hurried = None;
        loop {
            match self.row(&done).await {
                // A cancel may have been on its way to the statement.
                Err(Fault::Server(error))
                    if error.sql_state == QUERY_CANCELED || sqlstate::retry(&error.sql_state) == Retry::Locks =>
                {
                    let pause = retry::lock_pause(1, rand::random());
                    let patience = match task.cancel.is_cancelled() {
                        true => *hurried.get_or_insert_with(|| Patience::new(TIDYING)),
                        false => unhurried,
                    };
                    if !patience.lasts(pause) {
                        return Err(Fault::Server(error));
                    }
                    tokio::time::sleep(pause).await;
                }
                concluded => return concluded,
            }
        }
    }

    /// Writes one row that only the lock's holder may write, in a session that a script has set up.
    async fn row(&mut self, sql: &str) -> Result<(), Fault> {
        let rows = self.try_query(self.as_ours(&format!("{sql} RETURNING 'locked'"))).await?;
        match rows.first().is_some_and(|row| text(row, 0) == "locked") {
            true => Ok(()),
            // Connecting again takes the lock again, or says who has it.
            false => Err(Fault::Lost { why: "the session no longer held the lock".into() }),
        }
    }
}

/// Of a lock_timeout, for which 0 is to wait for ever.
pub(super) fn milliseconds(most: Duration) -> u128 {
    most.as_millis().clamp(1, i32::MAX as u128)
}

/// The most that each wait for a lock may take.
fn lock_timeout(most: Duration) -> String {
    format!("SET lock_timeout = {}", milliseconds(most))
}

/// Leaves lock_timeout as the script has set it, where that is less; 0 is more than anything.
fn lock_timeout_at_most(most: Duration) -> String {
    let most = milliseconds(most);
    let now = "pg_catalog.current_setting('lock_timeout')";
    format!(
        "SELECT pg_catalog.set_config('lock_timeout', CASE WHEN \
         {now}::pg_catalog.interval OPERATOR(pg_catalog.>) '0'::pg_catalog.interval AND \
         {now}::pg_catalog.interval OPERATOR(pg_catalog.<) '{most} ms'::pg_catalog.interval \
         THEN {now} ELSE '{most}' END, false)"
    )
}
