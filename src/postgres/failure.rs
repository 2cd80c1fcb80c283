//! What is said of scripts that stopped: where, in the server's words, what state the data is in, and what to do.

use std::borrow::Cow;

use super::attempt::{Stop, StopPlace, Task, Unit};
use super::engine::Engine;
use super::error::{ApplyError, PostgresError};
use super::server_error::ServerError;
use super::session::TRANSACTION_TIMEOUT;
use crate::api::{Failure, Reason, TransactionMode};
use crate::plan::{Edited, Refusal};
use crate::script::{Script, occurrences};

impl Engine {
    pub(super) async fn cancelled(&mut self, task: &Task<'_>, script: usize) -> ApplyError {
        ApplyError::Cancelled {
            script: task.scripts.get(script).map(|script| script.file_name.clone()),
            left: self.left(task, script).await,
        }
    }

    pub(super) async fn failed(&mut self, task: &Task<'_>, stop: Stop) -> ApplyError {
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
            _ => ApplyError::Script(Box::new(self.failure(task, &stop, Reason::ScriptFailed).await)),
        }
    }

    pub(super) async fn lock_lost(&mut self, task: &Task<'_>, script: usize) -> ApplyError {
        let left = self.left(task, script).await;
        let script = task.scripts.get(script).map(|script| script.file_name.clone());
        PostgresError::LockLost { address: self.target.address.clone(), script, left }.into()
    }

    pub(super) async fn locks_failed(&mut self, task: &Task<'_>, stop: Stop) -> ApplyError {
        ApplyError::Locks(Box::new(self.failure(task, &stop, Reason::LockTimeout).await))
    }

    async fn failure(&mut self, task: &Task<'_>, stop: &Stop, reason: Reason) -> Failure {
        let left = self.left(task, stop.script).await;
        let role = self.target.role.as_deref().unwrap_or(self.target.user());
        failure(task, stop, role, reason, &left)
    }

    /// What is in the database of a script that stopped: a sentence.
    async fn left(&mut self, task: &Task<'_>, script: usize) -> String {
        let begun = match task.unit {
            Unit::Statement { number, .. } if task.is_sent_apart() => self.may_be_begun(task, number).await,
            Unit::Statement { .. } | Unit::Scripts | Unit::Row => false,
        };
        task.left(script, begun)
    }

    /// The connection was lost again and again, though it could be made anew each time.
    pub(super) async fn lost_again(&mut self, task: &Task<'_>, why: &str, times: u32) -> ApplyError {
        let script = task.scripts.first().map_or("", |script| script.file_name.as_str());
        // That one is the script's own doing.
        if why.ends_with(TRANSACTION_TIMEOUT) {
            let left = self.left(task, 0).await;
            return ApplyError::Script(Box::new(Failure {
                reason: Reason::ScriptFailed.as_str().to_owned(),
                message: format!("{script}: {why}, {times} times. {left}"),
                script: Some(script.to_owned()),
                ..Failure::default()
            }));
        }
        let behind = match task.scripts.len() {
            0 | 1 => String::new(),
            scripts => format!(", or in one of the {} behind it", scripts - 1),
        };
        let why = format!("{why}, {times} times, in {script}{behind}");
        PostgresError::Lost { address: self.target.address.clone(), why }.into()
    }
}

/// What stopped a transaction, in the server's words, with its place.
fn failure(task: &Task<'_>, stop: &Stop, role: &str, reason: Reason, left: &str) -> Failure {
    let script = &task.scripts[stop.script];
    let (mut line, mut column, mut number, mut command) = (None, None, None, None);
    let mut said = Cow::Borrowed(stop.error.message.as_str());
    let at = match (stop.place, task.unit) {
        (StopPlace::Script { statement, character }, _) => Some((statement, character)),
        (_, Unit::Statement { number, .. }) => Some((number, None)),
        _ => None,
    };
    if let Some((statement, character)) = at {
        let running = script.statements.get(statement);
        let position = match character {
            Some(character) => Some(script.position_of_char(character)),
            None => running.map(|statement| statement.start),
        };
        line = position.map(|position| i64::from(position.line));
        column = position.map(|position| i64::from(position.column));
        number = Some(statement as i64 + 1);
        command = running.map(|statement| statement.command.clone());
        said = stop.error.message_about(running.map_or("", |statement| script.statement_text(statement)));
    }
    let mut place = match (line, column) {
        (Some(line), Some(column)) => format!(", line {line}, column {column}"),
        _ => String::new(),
    };
    match (stop.place, &stop.error.constraint) {
        (StopPlace::Constraints, Some(constraint)) => place.push_str(&format!(", deferred constraint {constraint:?}")),
        (StopPlace::Constraints, None) => place.push_str(", deferred constraint"),
        (StopPlace::Commit, _) => place.push_str(", COMMIT"),
        _ => {}
    }
    let tries = match task.attempt {
        1 => String::new(),
        attempts => format!(", after {attempts} tries"),
    };
    // object_in_use, unsafe_new_enum_value_usage: what one script made, another may use only once it is committed.
    let clash = matches!(&*stop.error.sql_state, "55006" | "55P04");
    let advice = match task.mode {
        TransactionMode::AllPending if clash && task.total > 1 => {
            " They clash within one transaction: set spec.transaction to PerScript (--transaction \
             per-script)."
        }
        _ => "",
    };
    let whom = match &*stop.error.sql_state {
        // insufficient_privilege. A script that speaks of roles may have taken another.
        "42501"
            if occurrences(&script.text, "role").next().is_none()
                && occurrences(&script.text, "authorization").next().is_none() =>
        {
            format!(", as the role {role:?}")
        }
        _ => String::new(),
    };
    let at_the_end = matches!(stop.place, StopPlace::Constraints | StopPlace::Commit);
    let file = (!at_the_end || task.scripts.len() == 1).then(|| script.file_name.clone());
    let which = file.clone().unwrap_or_else(|| format!("One of the {} scripts", task.scripts.len()));
    Failure {
        reason: reason.as_str().to_owned(),
        message: format!("{which}{place}: {said} (SQLSTATE {}){whom}{tries}. {left}{advice}", stop.error.sql_state),
        sql_state: Some(stop.error.sql_state.clone()),
        script: file,
        line,
        column,
        statement: number,
        command,
        hint: stop.error.hint.clone(),
        attempts: Some(i64::from(task.attempt)),
    }
}

impl Task<'_> {
    /// As [`Engine::left`]. `begun`: the ledger has the statement as begun, or cannot be asked.
    fn left(&self, script: usize, begun: bool) -> String {
        let Some(script) = self.scripts.get(script) else { return String::new() };
        let version = &script.version;
        match self.unit {
            Unit::Scripts if self.mode == TransactionMode::AllPending && self.total > 1 => {
                format!("Nothing of the {} scripts is applied.", self.total)
            }
            Unit::Scripts => format!("Nothing of {version} is applied."),
            Unit::Row => format!("All statements of {version} are applied, and its row is not in the ledger yet."),
            Unit::Statement { number, .. } => {
                let before = script.statements.iter().take(number).any(|one| !one.sets_session());
                let before = before
                    .then(|| format!("The statements of {version} before this one are applied, and are not run again"));
                let own = match (begun, self.commits_itself()) {
                    (true, false) => Some(
                        "this statement was begun: run once more as it is, it is settled, and what it left put away"
                            .to_owned(),
                    ),
                    (true, true) => Some(format!(
                        "what this statement has committed by itself stays, and it is not run again before somebody says so: belay \
                         repair --statement {version}:{}=undone --yes, or =done",
                        number + 1
                    )),
                    (false, _) => None,
                };
                match (before, own) {
                    (Some(before), Some(own)) => format!("{before}; {own}."),
                    (Some(before), None) => format!("{before}."),
                    (None, Some(own)) => format!("Of {version}, {own}."),
                    (None, None) => format!("Nothing of {version} is applied."),
                }
            }
        }
    }

    /// A statement was begun, and nobody but a person can say whether it was done.
    pub(super) fn in_doubt(&self, number: usize) -> ApplyError {
        self.of_statement(number, |command, it| {
            format!(
                "{command} was begun outside a transaction, and nothing tells whether it was done: its answer was lost, it was \
                 cancelled, or it failed behind what it had committed. Find out, then say so: belay repair --statement \
                 {it}=done --yes, or =undone"
            )
        })
    }

    /// A statement is done that may not be done twice, and the ledger does not have it.
    pub(super) fn untold(&self, number: usize, error: &ServerError) -> ApplyError {
        self.of_statement(number, |command, it| {
            format!(
                "{command} is done, but that could not be written to the ledger: {error}. Say so: belay repair --statement \
                 {it}=done --yes"
            )
        })
    }

    /// `say` gets the statement's command, and how `belay repair` calls it.
    fn of_statement(&self, number: usize, say: impl FnOnce(&str, &str) -> String) -> ApplyError {
        let script = &self.scripts[0];
        let statement = script.statements.get(number);
        let line = statement.map(|statement| statement.start.line);
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        let command = statement.map_or("a statement", |statement| &statement.command);
        let said = say(command, &format!("{}:{}", script.version, number + 1));
        self.doubt(number, line, format!("{}{place}: {said}", script.file_name))
    }

    /// What an earlier run did of this script, or only began, is not what the script says now: as a plan says it, which was made
    /// before the ledger had that.
    pub(super) fn edited_halfway(&self, edited: Edited) -> ApplyError {
        self.doubt(edited.number, edited.line, Refusal::edited_halfway(&self.scripts[0], edited).to_string())
    }

    fn doubt(&self, number: usize, line: Option<u32>, what: String) -> ApplyError {
        let script = &self.scripts[0];
        ApplyError::Script(Box::new(Failure {
            reason: Reason::InDoubt.as_str().to_owned(),
            message: format!("{what}."),
            script: Some(script.file_name.clone()),
            line: line.map(i64::from),
            statement: Some(number as i64 + 1),
            command: script.statements.get(number).map(|statement| statement.command.clone()),
            ..Failure::default()
        }))
    }
}

/// Transaction control that was not seen beforehand: in a procedure that commits, say.
pub(super) fn split_transaction(script: &Script) -> ApplyError {
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
