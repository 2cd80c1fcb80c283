//! Looking at a script's session from beside it: which statement it is at, and whom it waits for.
//!
//! The server keeps the answers to a message's statements back until its buffer is full or the message is done, so
//! the session itself tells nothing while it works. Instead a script's message names the statement in
//! application_name, which pg_stat_activity shows at once; and a second connection, opened only when a message takes
//! long, looks there. The same look shows who blocks, and stops a try that makes others wait for too long.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::postgres::PgConnection;

use super::connect::open;
use super::quote::Literal;
use super::session::{Backend, Fault, query, text};
use super::target::Target;

/// A message that takes less than this is not looked at.
const PATIENCE: Duration = Duration::from_millis(700);

/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);

/// A session that a script waits for. Never its query's text, which may hold rows' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    pub pid: i32,
    pub user: String,
    pub application: String,
    /// `active`, `idle in transaction`; None: the login may not see it.
    pub state: Option<String>,
    /// The first word of what it runs, or ran last: `SELECT`; None: the login may not see it.
    pub command: Option<String>,
    /// The relations that the script waits to lock.
    pub relations: Vec<String>,
    /// The lock that the script asks for: `AccessExclusiveLock`.
    pub lock: String,
    /// Since when its transaction is open; None: the login may not see it.
    pub since: Option<Timestamp>,
}

/// What one look saw.
pub(super) struct Look {
    /// The statement's number, from 1.
    pub statement: Option<usize>,
    pub blockers: Vec<Blocker>,
    /// How long the session has waited for the lock it waits for: others queue behind it.
    pub waited: Duration,
}

/// The connection beside a script's. Never does SET ROLE: pg_cancel_backend would then be refused.
pub(super) struct Watch<'a> {
    target: &'a Target,
    application: &'a str,
    backend: &'a Backend,
    connection: Option<PgConnection>,
}

impl<'a> Watch<'a> {
    pub fn new(target: &'a Target, application: &'a str, backend: &'a Backend) -> Self {
        Self { target, application, backend, connection: None }
    }

    /// Looks now and then, and tells `saw`. When that answers true the statement is cancelled. Never ends.
    pub async fn run(mut self, mut saw: impl FnMut(Look) -> bool) -> ! {
        tokio::time::sleep(PATIENCE).await;
        loop {
            // Whatever goes wrong beside the script is no reason to disturb it.
            if let Ok(Some(look)) = self.look().await
                && saw(look)
            {
                let _ = self.ask(self.cancel()).await;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn cancel(&self) -> String {
        format!("SELECT pg_catalog.pg_cancel_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE {}", self.is_it())
    }

    fn is_it(&self) -> String {
        format!("a.pid = {} AND a.backend_start = {}::timestamptz", self.backend.pid, Literal(&self.backend.started))
    }

    async fn ask(&mut self, sql: String) -> Result<Vec<super::session::Row>, Fault> {
        if self.connection.is_none() {
            let opened = open(self.target, self.application, false).await;
            self.connection = Some(opened.map_err(Fault::from_sqlx)?);
        }
        let Some(connection) = &mut self.connection else { return Ok(Vec::new()) };
        let answer = query(connection, sql).await;
        if matches!(answer, Err(Fault::Lost { .. })) {
            self.connection = None;
        }
        answer
    }

    async fn look(&mut self) -> Result<Option<Look>, Fault> {
        // One row at least, if the session lives; one more for each further blocker. waitstart is set late, and says
        // nothing before: then it counts as no wait.
        let sql = format!(
            "SELECT a.application_name, b.pid::text, coalesce(b.usename, '')::text, coalesce(b.application_name, ''), b.state, \
             upper(substring(b.query FROM '^\\s*([A-Za-z]{{1,12}})\\M')), \
             (SELECT string_agg(DISTINCT w.relation::regclass::text, ' ') FROM pg_catalog.pg_locks w \
              WHERE w.pid = a.pid AND NOT w.granted AND w.relation IS NOT NULL), \
             (SELECT min(w.mode) FROM pg_catalog.pg_locks w WHERE w.pid = a.pid AND NOT w.granted), \
             to_char(b.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
             (SELECT (extract(epoch FROM clock_timestamp() - min(w.waitstart)) * 1000)::int8::text FROM pg_catalog.pg_locks w \
              WHERE w.pid = a.pid AND NOT w.granted) \
             FROM pg_catalog.pg_stat_activity a \
             LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = ANY (pg_catalog.pg_blocking_pids(a.pid)) \
             WHERE {}",
            self.is_it()
        );
        let rows = self.ask(sql).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let optional = |row: &super::session::Row, column: usize| row.get(column).cloned().flatten();
        let blockers = rows.iter().filter(|row| optional(row, 1).is_some()).map(|row| Blocker {
            pid: text(row, 1).parse().unwrap_or_default(),
            user: text(row, 2).to_owned(),
            application: text(row, 3).to_owned(),
            state: optional(row, 4),
            command: optional(row, 5),
            relations: text(row, 6).split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            lock: text(row, 7).to_owned(),
            since: text(row, 8).parse().ok(),
        });
        let waited = Duration::from_millis(text(first, 9).parse().unwrap_or_default());
        Ok(Some(Look { statement: statement_of(text(first, 0)), blockers: blockers.collect(), waited }))
    }
}

/// `application` with the number of a statement, cut so that the server does not cut the number.
pub(super) fn name_with_statement(application: &str, statement: usize) -> String {
    let number = format!(" #{statement}");
    let mut end = application.len().min(super::connect::APPLICATION_BYTES - number.len());
    while !application.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{number}", &application[..end])
}

fn statement_of(application: &str) -> Option<usize> {
    application.rsplit_once(" #")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_told_by_the_sessions_name() {
        for application in ["belay/1/ns/name".to_owned(), "é".repeat(40), "x".repeat(63)] {
            let name = name_with_statement(&application, 12345);
            assert!(name.len() <= 63, "{name}");
            assert_eq!(statement_of(&name), Some(12345));
        }
        assert_eq!(statement_of("psql"), None);
    }
}
