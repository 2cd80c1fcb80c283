//! Reading the ledger. Making it is in [`super::claim`], writing to it in [`super::journal`], but for the rows of
//! applied scripts, which are written in the scripts' own transactions (see [`super::apply`]).

use jiff::Timestamp;

use super::claim::FORMAT;
use super::engine::Engine;
use super::error::PostgresError;
use super::quote::{Ident, Literal};
use super::server_error::ServerError;
use super::session::{Fault, Row, text};
use crate::api::Reason;
use crate::plan::{Applied, Begun, Hold, Ledger, PlanHash};
use crate::script::Version;

/// What the ledger says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// 0: there is none.
    pub format: u32,
    pub claimant: Option<String>,
    /// Whether its schema is there, with or without the tables.
    pub schema: bool,
}

/// A run that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRun {
    /// Of its end.
    pub reason: String,
    /// Who ran it.
    pub holder: String,
    pub at: Timestamp,
}

/// A timestamptz as RFC 3339 in UTC, whatever DateStyle and TimeZone are.
fn rfc3339(expression: &str) -> String {
    format!("to_char({expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
}

impl Engine {
    /// The ledger's table `name`, quoted.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.{}", Ident(&self.target.history_schema), Ident(name))
    }

    /// Reads the ledger, without the scripts' texts. Creates nothing; works when there is none.
    ///
    /// One message, and two more when there are no rows: whether the schemas of the search path have tables, and which tables
    /// are ledgers of other tools. Each of these is read. A ledger of format 1 takes a few more.
    pub async fn ledger(&mut self) -> Result<Ledger, PostgresError> {
        self.read_ledger(true).await
    }

    /// The run that ended last, if scripts or what they need stopped it. None also for a login that may not read of runs: where a database is
    /// does not depend on them.
    pub async fn failed_run(&mut self) -> Result<Option<FailedRun>, PostgresError> {
        let sql = format!(
            "SELECT outcome, holder, {} FROM {} WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1",
            rfc3339("finished_at"),
            self.table("run"),
        );
        let rows = match self.try_query(sql).await {
            Ok(rows) => rows,
            Err(Fault::Server(_)) => return Ok(None),
            Err(fault) => return Err(PostgresError::from_fault(&self.target.address, "reading the last run", fault)),
        };
        // Behind the others all scripts are applied: what was unhealthy may be well by now, and no run says so.
        let applied = [Reason::Succeeded, Reason::Unhealthy, Reason::CheckRefused].map(Reason::as_str);
        let Some(row) = rows.first().filter(|row| !applied.contains(&text(row, 0))) else {
            return Ok(None);
        };
        let at = text(row, 2).parse().map_err(|_| self.damaged("the last run has no usable end".into()))?;
        Ok(Some(FailedRun { reason: text(row, 0).to_owned(), holder: text(row, 1).to_owned(), at }))
    }

    /// `statements`: whether it is taken to have the table of statements, which came with format 2.
    async fn read_ledger(&mut self, statements: bool) -> Result<Ledger, PostgresError> {
        // Each row says first what it is. Column by column, because the simple protocol knows no other types.
        let mut sql = format!(
            "SELECT 'meta', key, value FROM {meta};\
             SELECT 'row', version, file_name, description, author, date, checksum, mode, {applied_at}, applied_by, \
             run_id::text, duration_ms::text, retired::text FROM {history} ORDER BY number;\
             SELECT 'event', kind, detail->>'plan', detail->>'failure', {at}, run_id::text FROM {event} \
             WHERE kind IN ('held', 'released') ORDER BY id DESC LIMIT 1",
            meta = self.table("meta"),
            history = self.table("history"),
            event = self.table("event"),
            applied_at = rfc3339("applied_at"),
            at = rfc3339("at"),
        );
        if statements {
            sql.push_str(&format!(
                ";SELECT 'begun', s.number::text, s.file_name, s.statement::text, s.checksum, (s.done_at IS NOT NULL)::text \
                 FROM {} ORDER BY s.number, s.statement",
                self.begun_statements(),
            ));
        }
        let rows = match self.try_query(sql).await {
            Ok(rows) => rows,
            // undefined_table, invalid_schema_name, undefined_column, insufficient_privilege: absent, damaged, of
            // another format, or not for us.
            Err(Fault::Server(error)) if matches!(&*error.sql_state, "42P01" | "3F000" | "42703" | "42501") => {
                return self.unreadable_ledger(*error, statements).await;
            }
            Err(fault) => return Err(PostgresError::from_fault(&self.target.address, "reading the ledger", fault)),
        };
        let mut ledger = Ledger { exists: true, ..Ledger::default() };
        let mut format = None;
        for row in &rows {
            match (text(row, 0), text(row, 1)) {
                ("meta", "format") => format = Some(text(row, 2).to_owned()),
                ("meta", "claimant") => ledger.claimant = row.get(2).cloned().flatten(),
                ("row", _) => ledger.rows.push(self.applied(row)?),
                ("begun", _) => self.add_begun(&mut ledger.begun, row)?,
                ("event", "held") => ledger.hold = Some(self.held(row)?),
                _ => {}
            }
        }
        if let Some(script) = ledger.hold.as_ref().and_then(|hold| hold.failure.script.as_ref())
            && ledger.rows.iter().any(|row| row.file_name == *script)
        {
            ledger.hold = None;
        }
        let format = self.known_format(format)?;
        self.ledger = Some(Head { format, claimant: ledger.claimant.clone(), schema: true });
        // What a script has made that Belay began, statement by statement, is not foreign.
        if ledger.rows.is_empty() && ledger.begun.is_empty() {
            ledger.first_foreign_table = self.first_foreign_table().await?;
            (ledger.foreign, ledger.foreign_elsewhere) = self.foreign_ledgers().await?;
        }
        Ok(ledger)
    }

    /// The tables could not be read: because there are none, because the format is without statements, or because something
    /// is wrong with them.
    async fn unreadable_ledger(&mut self, error: ServerError, statements: bool) -> Result<Ledger, PostgresError> {
        // One row for each table, and one without a table for a schema that has none.
        let sql = format!(
            "SELECT c.relname::text FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_class c ON \
             c.relnamespace = n.oid AND c.relname IN ('meta', 'run', 'history', 'event') AND c.relkind = 'r' \
             WHERE n.nspname = {}",
            Literal(&self.target.history_schema)
        );
        let tables = self.query("looking for the ledger", sql).await?;
        if tables.iter().all(|row| text(row, 0).is_empty()) {
            self.ledger = Some(Head { format: 0, claimant: None, schema: !tables.is_empty() });
            let first_foreign_table = self.first_foreign_table().await?;
            let (foreign, foreign_elsewhere) = self.foreign_ledgers().await?;
            return Ok(Ledger { first_foreign_table, foreign, foreign_elsewhere, ..Ledger::default() });
        }
        if error.sql_state == "42501" {
            return Err(self.may_not_use_ledger().await);
        }
        if tables.iter().any(|row| text(row, 0) == "meta") {
            let sql = format!("SELECT value FROM {} WHERE key = 'format'", self.table("meta"));
            let rows = self.query("reading the ledger's format", sql).await?;
            let format = self.known_format(rows.first().map(|row| text(row, 0).to_owned()))?;
            if statements && format < 2 {
                return Box::pin(self.read_ledger(false)).await;
            }
        }
        Err(self.damaged(error.message))
    }

    fn known_format(&self, found: Option<String>) -> Result<u32, PostgresError> {
        let found = found.ok_or_else(|| self.damaged("its format is not in the table meta".into()))?;
        match found.parse() {
            Ok(format) if (1..=FORMAT).contains(&format) => Ok(format),
            _ => Err(PostgresError::NewerLedger { address: self.target.address.clone(), found, known: FORMAT }),
        }
    }

    pub(super) fn damaged(&self, why: String) -> PostgresError {
        let address = self.target.address.clone();
        PostgresError::DamagedLedger { address, schema: self.target.history_schema.clone(), why }
    }

    fn applied(&self, row: &Row) -> Result<Applied, PostgresError> {
        let damaged = |what: &str| self.damaged(format!("version {:?} has no usable {what}", text(row, 1)));
        let optional = |column: usize| row.get(column).cloned().flatten();
        Ok(Applied {
            version: text(row, 1).parse().map_err(|_| damaged("version"))?,
            file_name: text(row, 2).to_owned(),
            description: text(row, 3).to_owned(),
            author: optional(4),
            date: optional(5),
            checksum: text(row, 6).parse().map_err(|_| damaged("checksum"))?,
            mode: text(row, 7).to_owned(),
            applied_at: text(row, 8).parse().map_err(|_| damaged("applied_at"))?,
            applied_by: text(row, 9).to_owned(),
            run_id: text(row, 10).parse().map_err(|_| damaged("run_id"))?,
            duration_ms: text(row, 11).parse().map_err(|_| damaged("duration_ms"))?,
            retired: text(row, 12) == "true",
        })
    }

    /// One statement of a script that is begun. Those of one script come one after the other.
    fn add_begun(&self, begun: &mut Vec<Begun>, row: &Row) -> Result<(), PostgresError> {
        let version: Version =
            text(row, 1).parse().map_err(|_| self.damaged("a statement has no usable version".into()))?;
        let statement = self.begun_statement(row, 3)?;
        match begun.last_mut().filter(|last| last.version == version) {
            Some(last) => last.statements.push(statement),
            None => {
                let file = text(row, 2).to_owned();
                // The ledger has a number: as the script has it, it is as people know it.
                let written = file.split('_').next().and_then(|written| written.parse().ok());
                let version = written.filter(|written| *written == version).unwrap_or(version);
                begun.push(Begun { version, file, statements: vec![statement] });
            }
        }
        Ok(())
    }

    fn held(&self, row: &Row) -> Result<Hold, PostgresError> {
        let damaged = |what: &str| self.damaged(format!("the last hold has no usable {what}"));
        Ok(Hold {
            plan: PlanHash::from_ledger(text(row, 2)),
            failure: serde_json::from_str(text(row, 3)).map_err(|_| damaged("failure"))?,
            at: text(row, 4).parse().map_err(|_| damaged("time"))?,
            run_id: text(row, 5).parse().map_err(|_| damaged("run_id"))?,
        })
    }

    /// The schemas of the search path as an array; what goes before the query that asks for them, and what behind it.
    pub(super) fn schemas(&self) -> (&'static str, String, &'static str) {
        // A schema of the list counts even if the login may not use it.
        match self.target.search_path.as_slice() {
            [] => (
                "RESET search_path;",
                "pg_catalog.current_schemas(false)".to_owned(),
                ";SET search_path = pg_catalog, pg_temp",
            ),
            path => {
                let names: Vec<_> = path.iter().map(|schema| Literal(schema).to_string()).collect();
                ("", format!("ARRAY[{}]::pg_catalog.name[]", names.join(", ")), "")
            }
        }
    }

    /// The rows `s` of statements whose script is not applied as a whole, as FROM takes them.
    pub(super) fn begun_statements(&self) -> String {
        let (statement, history) = (self.table("statement"), self.table("history"));
        format!("{statement} s WHERE NOT EXISTS (SELECT FROM {history} h WHERE h.number = s.number)")
    }

    /// A table in a schema of the search path that neither an extension nor Belay made.
    async fn first_foreign_table(&mut self) -> Result<Option<String>, PostgresError> {
        let (before, schemas, after) = self.schemas();
        // pg_depend deptype e: a member of an extension.
        let sql = format!(
            "{before}SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = ANY ({schemas}) AND n.nspname <> {own} \
             AND c.relkind IN ('r', 'p', 'f') AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE \
             d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e') \
             ORDER BY 1 LIMIT 1{after}",
            own = Literal(&self.target.history_schema),
        );
        let rows = self.query("looking for tables", sql).await?;
        Ok(rows.first().map(|row| text(row, 0).to_owned()))
    }
}
