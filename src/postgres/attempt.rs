//! One try at one transaction: scripts and their ledger rows in, an outcome out. What to do about the outcome is
//! decided in [`super::apply`].

use futures::StreamExt;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Either};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

use super::apply::{Progress, RunContext};
use super::blocker::Blocker;
use super::cancel::cancel_until_dropped;
use super::engine::Engine;
use super::error::PostgresError;
use super::failpoint;
use super::message::{Copy, Message, Part, Piece, Place, Sql, Try};
use super::notice;
use super::quote::{Ident, Literal};
use super::retry::Patience;
use super::server_error::ServerError;
use super::session::{Fault, text};
use super::sqlstate::{LOCK_NOT_AVAILABLE, NOT_IN_ENCODING, QUERY_CANCELED, SYNTAX_ERROR};
use super::watch::{Limit, Watch};
use crate::api::TransactionMode;
use crate::plan::PlannedScript;
use crate::script::occurrences;

/// Rids a session of what a script leaves in it, besides settings and prepared statements: the next one begins as if it had a
/// session of its own, whether it has or not.
pub(super) const TIDY: &str = "CLOSE ALL;DISCARD TEMP;DISCARD SEQUENCES;UNLISTEN *";

/// How a try ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Committed, and the rows were read back.
    Committed,
    /// The server said no, and the transaction was rolled back.
    Failed(Stop),
    /// Rolled back because it was asked to.
    Cancelled { script: usize },
    /// The lock was not held when the row was to be written, or the transaction was not the one that began. Rolled back.
    NotOurs { script: usize, split: bool },
    /// Whether this statement (from 0), which was begun, is done, only a person can tell.
    InDoubt { statement: usize },
    /// This statement (from 0) is done, and the ledger could not be told.
    Untold { statement: usize, error: ServerError },
    /// By something that is not the script's.
    Stopped(PostgresError),
    /// The connection was lost. `committing`: the COMMIT was on its way.
    Lost { why: String, committing: bool },
}

/// Where a transaction stopped, and what the server said.
#[derive(Debug)]
pub(super) struct Stop {
    /// Which of the scripts.
    pub script: usize,
    pub place: StopPlace,
    pub error: ServerError,
}

impl From<PostgresError> for Outcome {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Lost { why, .. } => Self::Lost { why, committing: false },
            error => Self::Stopped(error),
        }
    }
}

impl Stop {
    /// The server could not put a message into its encoding: one of the script's, from `statement` on.
    pub fn not_in_encoding(script: usize, statement: usize, mut error: ServerError) -> Self {
        let hint = "The encoding of this database lacks a character of the script, or of its rollback.";
        error.hint.get_or_insert_with(|| hint.to_owned());
        Self { script, place: StopPlace::Script { statement, character: None }, error }
    }
}

/// Where in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopPlace {
    /// In Belay's own statements before it.
    Before,
    /// While an earlier try at the statement was settled.
    Settling,
    /// The statement, from 0, and the character, from 1, if the server gave one.
    Script {
        statement: usize,
        character: Option<usize>,
    },
    Constraints,
    Ledger,
    Commit,
}

/// What is tried, and tried again, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// The scripts, in one transaction.
    Scripts,
    /// One statement of the one script, from 0. `apart`: the server refused it in a transaction.
    Statement { number: usize, apart: bool },
    /// The script's row, behind all its statements.
    Row,
}

/// What a try needs to know.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub unit: Unit,
    pub scripts: &'a [PlannedScript],
    /// The number of scripts before these in the same call, and of all in it.
    pub offset: usize,
    pub total: usize,
    pub mode: TransactionMode,
    pub run: &'a RunContext,
    pub attempt: u32,
    /// For all its tries.
    pub patience: Patience,
    /// Somebody waits for it to end: no wait is longer than the patience lasts.
    pub hurried: bool,
    /// A second connection is to be had, to look on from.
    pub watched: bool,
    pub progress: &'a (dyn Fn(Progress<'_>) + Send + Sync),
    pub cancel: &'a CancellationToken,
}

/// What a script's messages came to.
pub(super) enum Sent {
    Done,
    Failed {
        /// Which of the messages, and how many of its statements were answered.
        piece: usize,
        completed: usize,
        fault: Fault,
    },
    /// The ledger's row was not inserted.
    NoRow,
}

impl Engine {
    /// Tries the task's unit once. Leaves no transaction open.
    pub(super) async fn attempt(&mut self, task: &Task<'_>) -> Outcome {
        match task.unit {
            Unit::Scripts => self.attempt_scripts(task).await,
            Unit::Statement { number, .. } => self.attempt_statement(task, number).await,
            Unit::Row => self.attempt_row(task).await,
        }
    }

    /// Runs scripts in one transaction.
    async fn attempt_scripts(&mut self, task: &Task<'_>) -> Outcome {
        let token = format!("{:032x}", rand::random::<u128>());
        for (index, script) in task.scripts.iter().enumerate() {
            if task.cancel.is_cancelled() {
                return self.roll_back_to(Outcome::Cancelled { script: index }).await;
            }
            let part = Part { opens: index == 0, closes: index + 1 == task.scripts.len() };
            let prepared = self.prepared_for(&script.text).await;
            let (run, mode, attempt) = (task.run, task.mode, task.attempt);
            let try_ = Try { run, mode, attempt, token: &token, prepared: prepared.as_deref() };
            let plain = self.take_plain();
            let message = Message::new(self, script, part, plain, &try_);
            failpoint::pass("before-script").await;
            let limit = Limit::of_try(self, task);
            match self.send(&message, task, index, 0, limit).await {
                Sent::Done => {
                    if let Some(session) = self.session.as_mut().filter(|_| !part.closes) {
                        session.plain = true;
                    }
                }
                Sent::NoRow => return self.not_ours(index).await,
                Sent::Failed { fault: Fault::Lost { why }, .. } => {
                    self.drop_session();
                    return Outcome::Lost { why, committing: false };
                }
                Sent::Failed { piece, completed, fault: Fault::Server(error) } => {
                    let outcome = stopped(task, index, message.pieces.get(piece), completed, *error);
                    return self.roll_back_to(outcome).await;
                }
            }
        }
        if task.cancel.is_cancelled() {
            return self.roll_back_to(Outcome::Cancelled { script: task.scripts.len().saturating_sub(1) }).await;
        }
        self.commit(task, &token).await
    }

    /// Sends one script's messages, and counts the server's answers. Meanwhile a second connection looks on, tells how
    /// far it is, from statement `first` (from 0) on, and cancels it when it has waited for locks beyond the `limit`.
    pub(super) async fn send(
        &mut self,
        message: &Message<'_>,
        task: &Task<'_>,
        index: usize,
        first: usize,
        limit: Limit,
    ) -> Sent {
        let Some(session) = &mut self.session else {
            let fault = Fault::Lost { why: "the session ended before".into() };
            return Sent::Failed { piece: 0, completed: 0, fault };
        };
        let script = &task.scripts[index];
        let tell = |statement: usize, waiting_on: &[Blocker], progress: Option<&str>| {
            (task.progress)(Progress {
                script,
                number: task.offset + index + 1,
                scripts: task.total,
                statement,
                statements: script.statements.len(),
                line: script.statements.get(statement.saturating_sub(1)).map_or(1, |running| running.start.line),
                attempt: task.attempt,
                waiting_on,
                progress,
            });
        };
        tell(first + 1, &[], None);
        let backend = session.backend.clone();
        // Runs are tasks, which may move between threads.
        let too_long = Mutex::new(None);
        let watch = Watch::new(&self.target, &self.application, &backend, task.attempt, limit, &self.deeds);
        let mut watch = pin!(watch.run(|look| {
            tell(look.statement.unwrap_or(first + 1), &look.blockers, look.progress.as_deref());
            *too_long.lock().unwrap_or_else(PoisonError::into_inner) = look.too_long;
        }));
        let mut stop = pin!(async {
            task.cancel.cancelled().await;
            cancel_until_dropped(&self.target, &self.application, &backend).await
        });
        let mut work = pin!(notice::listen(pieces(&mut session.connection, &message.pieces)));
        let (mut sent, heard) = tokio::select! {
            biased;
            sent = &mut work => sent,
            // The server ends the statement when it finds its client gone.
            fault = &mut stop => (Sent::Failed { piece: 0, completed: 0, fault }, Vec::new()),
            // The connection may seem to live: a network that swallows packets says nothing.
            fault = &mut watch => (Sent::Failed { piece: 0, completed: 0, fault }, Vec::new()),
        };
        notice::keep(&mut self.notices, &script.file_name, heard);
        if let Sent::Failed { piece, fault: Fault::Server(error), .. } = &mut sent
            && self.counts_bytes
            && let Some((piece, bytes)) = message.pieces.get(*piece).zip(error.position)
        {
            error.position = Some(piece.character_at(bytes));
        }
        if let Sent::Failed { fault: Fault::Server(error), .. } = &mut sent
            && let Some(limit) = *too_long.lock().unwrap_or_else(PoisonError::into_inner)
            && error.sql_state == QUERY_CANCELED
        {
            error.sql_state = LOCK_NOT_AVAILABLE.to_owned();
            error.message = format!("canceling statement after {} ms of waiting for locks", limit.as_millis());
        }
        sent
    }

    /// COMMIT as its own message. What became of the transaction is asked behind it: sqlx does not show the command tag, and
    /// the COMMIT of an aborted transaction answers ROLLBACK without an error. But a setting that was SET in it lasts only if
    /// it is committed: the token says it, which nobody else has. When no answer comes, the rows decide. Not to be cancelled:
    /// what it does, it has done.
    async fn commit(&mut self, task: &Task<'_>, token: &str) -> Outcome {
        failpoint::pass("before-commit").await;
        let last = task.scripts.len().saturating_sub(1);
        let (prepare, prepared) = self.prepare_anew(task);
        let sql = format!("COMMIT;SHOW belay.committed;{};{prepare}{TIDY}", self.reset().join(";"));
        match self.try_query(sql).await {
            Ok(rows) => {
                failpoint::pass("after-commit").await;
                if let Some(session) = &mut self.session {
                    session.plain = true;
                    session.prepared = prepared.or(session.prepared.take());
                }
                match rows.first().is_some_and(|row| text(row, 0) == token) {
                    true => {
                        self.let_locks_go(task).await;
                        Outcome::Committed
                    }
                    false => Outcome::NotOurs { script: last, split: true },
                }
            }
            Err(Fault::Lost { why }) => Outcome::Lost { why, committing: true },
            Err(Fault::Server(error)) => {
                // COMMIT itself failed, or the tidying behind it did: the row says which.
                let _ = self.try_query(self.own_settings().join(";")).await;
                match self.are_applied(task.run, task.scripts).await {
                    Ok(true) => Outcome::Committed,
                    Ok(false) => {
                        self.roll_back_to(Outcome::Failed(Stop {
                            script: last,
                            place: StopPlace::Commit,
                            error: *error,
                        }))
                        .await
                    }
                    Err(error) => {
                        self.drop_session();
                        Outcome::Lost { why: error.to_string(), committing: true }
                    }
                }
            }
        }
    }

    /// Rids the session of advisory locks that these scripts may have taken: no setting of the session goes with them.
    async fn let_locks_go(&mut self, task: &Task<'_>) {
        if task.scripts.iter().any(|script| occurrences(&script.text, "advisory").next().is_some()) {
            self.keep_no_other_lock().await;
        }
    }

    /// Counts the ledger's rows of these scripts that this run wrote.
    fn rows_of(&self, run: &RunContext, scripts: &[PlannedScript]) -> String {
        let numbers: Vec<_> = scripts.iter().map(|script| script.version.number()).collect();
        format!(
            "SELECT count(*)::text FROM {}.history WHERE run_id = '{}' AND number IN ({})",
            Ident(&self.target.history_schema),
            run.id,
            numbers.join(", "),
        )
    }

    /// Whether this run applied all of these scripts, as the ledger has it.
    pub(super) async fn are_applied(
        &mut self,
        run: &RunContext,
        scripts: &[PlannedScript],
    ) -> Result<bool, PostgresError> {
        let rows = self.query("reading the ledger", self.rows_of(run, scripts)).await?;
        Ok(rows.first().is_some_and(|row| text(row, 0) == scripts.len().to_string()))
    }

    /// Whether another run wrote to the ledger since this one began.
    pub(super) async fn others_wrote(&mut self, run: &RunContext) -> Result<bool, PostgresError> {
        let schema = Ident(&self.target.history_schema);
        let sql = format!(
            "SELECT FROM {schema}.history h WHERE h.run_id <> '{id}' AND h.applied_at > {since}::timestamptz UNION ALL \
             SELECT FROM {schema}.statement s WHERE s.run_id <> '{id}' AND greatest(s.began_at, s.done_at) > \
             {since}::timestamptz UNION ALL \
             SELECT FROM {schema}.event e WHERE e.kind = 'repaired' AND e.at > {since}::timestamptz LIMIT 1",
            id = run.id,
            since = Literal(&run.started),
        );
        Ok(!self.query("reading the ledger", sql).await?.is_empty())
    }

    /// No row was inserted: which of its conditions did not hold?
    pub(super) async fn not_ours(&mut self, script: usize) -> Outcome {
        let sql = format!("SELECT ({})::text", self.lock_is_held());
        let held = self.try_query(sql).await.is_ok_and(|rows| rows.first().is_some_and(|row| text(row, 0) == "true"));
        self.locked &= held;
        self.roll_back_to(Outcome::NotOurs { script, split: held }).await
    }

    /// Rolls back, also what was SET. If even that fails the session goes, which is a rollback too.
    pub(super) async fn roll_back_to(&mut self, outcome: Outcome) -> Outcome {
        if self.rollback().await.is_err() || self.try_query(self.own_settings().join(";")).await.is_err() {
            self.drop_session();
        }
        outcome
    }
}

/// Sends messages one after the other, each when the one before is answered.
async fn pieces(connection: &mut PgConnection, pieces: &[Piece<'_>]) -> Sent {
    for (piece, message) in pieces.iter().enumerate() {
        let (mut completed, mut inserted) = (0, None);
        let answered = match message {
            Piece::Sql(sql) => answers(connection, sql, &mut completed, &mut inserted).await,
            Piece::Copy(copy) => data(connection, copy).await,
        };
        if let Err(error) = answered {
            return Sent::Failed { piece, completed, fault: Fault::from_sqlx(error) };
        }
        if inserted.is_some_and(|rows| rows != 1) {
            return Sent::NoRow;
        }
    }
    Sent::Done
}

async fn answers(
    connection: &mut PgConnection,
    sql: &Sql,
    completed: &mut usize,
    inserted: &mut Option<u64>,
) -> Result<(), sqlx::Error> {
    *inserted = sql.ledger_statement.map(|_| 0);
    let mut answers = sqlx::raw_sql(AssertSqlSafe(sql.text.as_str())).fetch_many(connection);
    while let Some(answer) = answers.next().await {
        match answer? {
            Either::Left(done) => {
                if Some(*completed) == sql.ledger_statement {
                    *inserted = Some(done.rows_affected());
                }
                *completed += 1;
            }
            // What a script selects is nobody's business here.
            Either::Right(_) => {}
        }
    }
    Ok(())
}

/// COPY … FROM STDIN with its data. After the server's own error the session is as good as before: it ignores what still
/// comes.
async fn data(connection: &mut PgConnection, copy: &Copy<'_>) -> Result<(), sqlx::Error> {
    /// So that progress is not kept from being seen, and no second copy of the data is made.
    const CHUNK: usize = 256 * 1024;
    let mut sink = connection.copy_in_raw(copy.sql).await?;
    for chunk in copy.data.chunks(CHUNK) {
        sink.send(chunk).await?;
    }
    sink.finish().await.map(|_| ())
}

/// How a message stopped: when it was asked to, or by the server's own error.
pub(super) fn stopped(
    task: &Task<'_>,
    index: usize,
    piece: Option<&Piece<'_>>,
    completed: usize,
    error: ServerError,
) -> Outcome {
    // Whatever the server says then: a script may say something of its own about a cancel.
    match task.cancel.is_cancelled() {
        true => Outcome::Cancelled { script: index },
        false => Outcome::Failed(stop(task, index, piece, completed, error)),
    }
}

/// Where a message stopped. The server's position tells the statement better than counting does: a syntax error is
/// found before the first one runs.
fn stop(task: &Task<'_>, index: usize, piece: Option<&Piece<'_>>, completed: usize, error: ServerError) -> Stop {
    let script = &task.scripts[index];
    let (character, by_count) = match piece {
        Some(Piece::Sql(sql)) => {
            (error.position.and_then(|position| sql.character(script, position)), sql.place(completed))
        }
        Some(Piece::Copy(copy)) => {
            let in_data = error.copy_line.map(|line| script.characters(copy.line_at(line)) + 1);
            let in_statement = error.position.map(|position| copy.character(script, position));
            (in_data.or(in_statement), Place::Script(copy.statement))
        }
        None => (None, Place::Before),
    };
    let place = match (character, by_count) {
        // Belay's own SQL has no errors of syntax: the script's last statement ran on into it.
        (None, _) if completed == 0 && error.sql_state == SYNTAX_ERROR && error.position.is_some() => {
            let statement = script.statements.len().saturating_sub(1);
            let before = script.statements.last().and_then(|last| script.text.get(..last.range.end));
            StopPlace::Script { statement, character: before.map(|before| before.chars().count() + 1) }
        }
        // The message was not even taken: its text is the script's, but for some words.
        (None, Place::Before) if completed == 0 && NOT_IN_ENCODING.contains(&&*error.sql_state) => {
            let first = if let Unit::Statement { number, .. } = task.unit { number } else { 0 };
            return Stop::not_in_encoding(index, first, error);
        }
        (Some(character), _) => {
            let byte = script.byte_of_char(character);
            let statement = script.statement_at(byte).map_or(0, |(number, _)| number.saturating_sub(1));
            StopPlace::Script { statement, character: Some(character) }
        }
        (None, Place::Script(statement)) => StopPlace::Script { statement, character: None },
        (None, Place::Constraints) => StopPlace::Constraints,
        (None, Place::Before) => StopPlace::Before,
        (None, Place::Behind) => StopPlace::Ledger,
    };
    Stop { script: index, place, error }
}
