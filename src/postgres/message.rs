//! One script as one message: what comes before it, the script, what comes behind it, and where in that the server
//! stopped.

use std::fmt::Write as _;

use super::apply::RunContext;
use super::engine::Engine;
use super::marked::Marked;
use super::quote::{Ident, Literal, Nullable, Path};
use super::{ledger_text, retry};
use crate::api::TransactionMode;
use crate::script::Script;

/// A message, and the way back from what the server says about it to the script.
pub(super) struct Message {
    pub sql: String,
    prefix_characters: usize,
    prefix_statements: usize,
    script: Marked,
    constraints: bool,
    /// The statement, counted from 0, that writes the ledger's row.
    pub ledger_statement: usize,
}

/// Where in a message something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Belay's own statements before the script.
    Before,
    /// The script: the number of its statement, from 0.
    Script(usize),
    /// The check of deferred constraints behind it.
    Constraints,
    /// Belay's own statements behind that, the ledger's row among them.
    Behind,
}

/// Which part of a transaction a message is.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub opens: bool,
    pub closes: bool,
}

impl Message {
    /// The message that runs `script` in a transaction and writes its row, without the COMMIT.
    pub fn new(engine: &Engine, script: &Script, part: Part, try_: &Try<'_>) -> Self {
        let guard = Guard::of(script, try_.token);
        let mut before = Vec::new();
        if part.opens {
            before.push("BEGIN".to_owned());
        }
        before.extend(engine.clean_settings());
        let lock_timeout = retry::lock_timeout(try_.attempt, &engine.target.locks, engine.deadlock_timeout);
        before.push(format!("SET lock_timeout = {}", lock_timeout.as_millis()));
        before.push(format!("SET statement_timeout = {}", engine.target.locks.statement_timeout.as_millis()));
        if !engine.target.search_path.is_empty() {
            before.push(format!("SET search_path = {}", Path(&engine.target.search_path)));
        }
        before.push(guard.set());

        let mut behind = Vec::new();
        // Only at the end of the transaction: a later script may mend what an earlier one leaves open.
        if part.closes {
            behind.push("SET CONSTRAINTS ALL IMMEDIATE".to_owned());
        }
        // After that, so that what runs deferred runs as the script left the session, as with any other client.
        behind.extend(guard.release());
        behind.push("RESET SESSION AUTHORIZATION".to_owned());
        if let Some(role) = &engine.target.role {
            behind.push(format!("SET ROLE {}", Ident(role)));
        }
        behind.push("SET row_security = off".to_owned());
        behind.push("SET search_path = pg_catalog, pg_temp".to_owned());
        let ledger_at = behind.len();
        behind.push(insert(engine, script, try_, &guard));
        // Also between scripts of one transaction: a message is read by the settings that hold before it begins.
        behind.extend(engine.own_settings());

        let script = Marked::new(script, &engine.application);
        let mut sql = before.join(";");
        sql.push_str(";\n");
        let prefix_characters = sql.chars().count();
        // On a line of its own: a script may end in a comment, or lack its last semicolon.
        let _ = write!(sql, "{}\n;{}", script.text, behind.join(";"));
        Self {
            prefix_characters,
            prefix_statements: before.len(),
            constraints: part.closes,
            ledger_statement: before.len() + script.answers() + ledger_at,
            script,
            sql,
        }
    }

    /// What runs after `completed` statements were answered.
    pub fn place(&self, completed: usize) -> Place {
        match completed.checked_sub(self.prefix_statements) {
            None => Place::Before,
            Some(done) => match self.script.statement(done) {
                Some(statement) => Place::Script(statement),
                None if done == self.script.answers() && self.constraints => Place::Constraints,
                None => Place::Behind,
            },
        }
    }

    /// The server's position in the whole message, as a character of the script, from 1. None: it is not in it.
    pub fn character(&self, position: usize) -> Option<usize> {
        self.script.character(position.checked_sub(self.prefix_characters)?)
    }
}

/// One try to run one script.
pub(super) struct Try<'a> {
    pub run: &'a RunContext,
    pub mode: TransactionMode,
    /// From 1.
    pub attempt: u32,
    /// Random, so that no script can know it.
    pub token: &'a str,
}

/// What tells, at the end of a message, that it is still in the transaction that it began in.
///
/// Scripts are parsed, and transaction control in them is refused, long before. This sees what slipped through, and
/// keeps it from getting a ledger row. What such a script committed stays committed.
enum Guard {
    /// A setting that lasts as long as the transaction, and costs nothing: no snapshot, so that the script may still
    /// SET TRANSACTION, and no subtransaction.
    Setting(String),
    /// For scripts that RESET settings.
    Savepoint(String),
}

impl Guard {
    fn of(script: &Script, token: &str) -> Self {
        match script.statements.iter().any(|statement| statement.command.starts_with("RESET")) {
            true => Self::Savepoint(format!("belay_{token}")),
            false => Self::Setting(token.to_owned()),
        }
    }

    fn set(&self) -> String {
        match self {
            Self::Setting(token) => format!("SET LOCAL belay.attempt = {}", Ident(token)),
            Self::Savepoint(name) => format!("SAVEPOINT {}", Ident(name)),
        }
    }

    fn release(&self) -> Option<String> {
        match self {
            Self::Setting(_) => None,
            Self::Savepoint(name) => Some(format!("RELEASE SAVEPOINT {}", Ident(name))),
        }
    }

    fn holds(&self) -> String {
        match self {
            Self::Setting(token) => {
                format!("pg_catalog.current_setting('belay.attempt', true) = {}", Literal(token))
            }
            Self::Savepoint(_) => "true".to_owned(),
        }
    }
}

/// The ledger's row, written only by a backend that holds the lock, in the transaction that the script began in.
fn insert(engine: &Engine, script: &Script, try_: &Try<'_>, guard: &Guard) -> String {
    let mode = match try_.mode {
        TransactionMode::PerScript => "transaction",
        TransactionMode::AllPending => "shared-transaction",
    };
    format!(
        "INSERT INTO {schema}.history (version, file_name, description, author, date, checksum, script, rollback, \
         mode, applied_by, run_id, duration_ms) SELECT {values}, {mode}, {by}, '{run}'::pg_catalog.uuid, \
         (extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp()) * 1000)::pg_catalog.int8 \
         WHERE {guard} AND {locked}",
        schema = Ident(&engine.target.history_schema),
        values = script_values(script),
        mode = Literal(mode),
        by = Literal(&try_.run.applied_by),
        run = try_.run.id,
        guard = guard.holds(),
        locked = engine.lock_is_held(),
    )
}

/// version, file_name, description, author, date, checksum, script, rollback: as a list of literals.
pub(super) fn script_values(script: &Script) -> String {
    let header = &script.header;
    let text = ledger_text::script(script);
    let rollback = script.rollback.text().map(ledger_text::rollback);
    format!(
        "{}, {}, {}, {}, {}, {}, {}, {}",
        Literal(script.version.as_written()),
        Literal(&script.file_name),
        Literal(script.title()),
        Nullable(header.author.as_deref()),
        Nullable(header.date.as_deref()),
        Literal(&script.checksum.to_string()),
        Literal(&text),
        Nullable(rollback.as_deref()),
    )
}
