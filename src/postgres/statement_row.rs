//! The ledger's rows of statements that run outside a script's transaction.

use serde_json::Value;

use super::apply::RunContext;
use super::engine::Engine;
use super::error::PostgresError;
use super::quote::Literal;
use super::session::{Row, text};
use crate::plan::BegunStatement;
use crate::script::Script;

/// What the ledger has of one statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recorded {
    pub statement: BegunStatement,
    /// What the catalogue had before it.
    pub before: Value,
}

impl Engine {
    /// The rows of a script's statements, in their order.
    pub(super) async fn recorded(&mut self, script: &Script) -> Result<Vec<Recorded>, PostgresError> {
        let sql = format!(
            "SELECT statement::text, checksum, (done_at IS NOT NULL)::text, before::text FROM {} WHERE number = {} \
             ORDER BY statement",
            self.table("statement"),
            script.version.number(),
        );
        let rows = self.query("reading the ledger", self.as_ours(&sql)).await?;
        rows.iter().map(|row| self.recorded_row(row)).collect()
    }

    fn recorded_row(&self, row: &Row) -> Result<Recorded, PostgresError> {
        let before = serde_json::from_str(text(row, 3)).unwrap_or_default();
        Ok(Recorded { statement: self.begun_statement(row, 0)?, before })
    }

    /// What a row says from this column on: number (from 1), checksum, whether it is done.
    pub(super) fn begun_statement(&self, row: &Row, column: usize) -> Result<BegunStatement, PostgresError> {
        let number = text(row, column).parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        Ok(BegunStatement {
            number: number.ok_or_else(|| self.damaged("a statement has no usable number".into()))?,
            checksum: text(row, column + 1).to_owned(),
            done: text(row, column + 2) == "true",
        })
    }

    /// What writes a statement's row, done or only begun: one row if this session holds the lock, else none.
    pub(super) fn record_statement(
        &self,
        script: &Script,
        number: usize,
        run: &RunContext,
        done: bool,
        before: Option<&Value>,
    ) -> String {
        let statement = &script.statements[number];
        format!(
            "INSERT INTO {table} AS s (number, statement, file_name, checksum, command, run_id, done_at, before) SELECT \
             {version}, {statement}, {file}, {checksum}, {command}, '{run}'::pg_catalog.uuid, {done}, {before} \
             WHERE {locked} ON CONFLICT (number, statement) DO UPDATE SET checksum = excluded.checksum, \
             command = excluded.command, run_id = excluded.run_id, done_at = excluded.done_at, \
             began_at = CASE WHEN excluded.done_at IS NULL THEN excluded.began_at ELSE s.began_at END, \
             before = coalesce(excluded.before, s.before) WHERE s.done_at IS NULL",
            table = self.table("statement"),
            version = script.version.number(),
            statement = number + 1,
            file = Literal(&script.file_name),
            checksum = Literal(&script.kept_checksum(number).map(|checksum| checksum.to_string()).unwrap_or_default()),
            command = Literal(&statement.command),
            run = run.id,
            done = if done { "pg_catalog.clock_timestamp()" } else { "NULL" },
            before = before.map_or_else(
                || "NULL".to_owned(),
                |before| format!("{}::pg_catalog.jsonb", Literal(&before.to_string()))
            ),
            locked = self.lock_is_held(),
        )
    }

    /// Forgets that a statement was begun: it failed, and left nothing.
    pub(super) async fn withdraw(&mut self, script: &Script, number: usize) -> Result<(), PostgresError> {
        let sql = format!(
            "DELETE FROM {} WHERE number = {} AND statement = {} AND done_at IS NULL",
            self.table("statement"),
            script.version.number(),
            number + 1
        );
        self.write("recording a statement", self.as_ours(&sql)).await.map(|_| ())
    }

    /// SQL of Belay's own, for a session that a script has set up.
    pub(super) fn as_ours(&self, sql: &str) -> String {
        format!("{};{sql}", self.own_settings().join(";"))
    }
}
