//! What is asked of a database besides its ledger: a health check's query, and whether a run could write at all.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo};

use super::cancel::cancel_once;
use super::engine::Engine;
use super::error::PostgresError;
use super::quote::{Literal, Path};
use super::session::{Fault, text};

/// How much longer than its timeout a check's answer may take: the server ends the query itself, and what says so may be on
/// its way.
const ANSWER: Duration = Duration::from_secs(10);

/// What a health check's query answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    True,
    /// Anything else than true, in words.
    NotTrue(&'static str),
    /// The server's error, in its own words.
    Error(String),
}

impl Engine {
    /// Asks one query, in a read-only transaction that is rolled back, with the settings that scripts run with.
    ///
    /// It goes as a prepared statement, of which the server takes a single one: nothing can be smuggled in behind a
    /// COMMIT.
    ///
    /// # Errors
    /// [`PostgresError::Check`] when the query is not one that answers true or false: it will not pass, however often
    /// it is asked. Otherwise when the connection is lost.
    pub async fn check(&mut self, query: &str, timeout: Duration) -> Result<Answer, PostgresError> {
        // All of these go with the ROLLBACK.
        let mut begin = vec!["BEGIN READ ONLY".to_owned()];
        begin.extend(self.clean_settings());
        if !self.target.search_path.is_empty() {
            begin.push(format!("SET search_path = {}", Path(&self.target.search_path)));
        }
        // It holds up nobody that it waits for.
        begin.push("SET lock_timeout = 0".to_owned());
        begin.push(format!("SET statement_timeout = {}", timeout.as_millis().max(1)));
        self.query("beginning a health check", begin.join(";")).await?;
        let Some(session) = &mut self.session else {
            return Err(self.lost("the session ended before".to_owned()));
        };
        let stop = cancel_once(&self.target, &self.application, &session.backend);
        let asked =
            tokio::time::timeout(timeout.saturating_add(ANSWER), rows(&mut session.connection, query, stop)).await;
        let asked = match asked {
            Ok(answer) => answer.map_err(Fault::from_sqlx),
            Err(_) => Err(Fault::Lost { why: "a health check's query was not answered".to_owned() }),
        };
        let answer = match asked {
            Ok(rows) => read(&rows),
            Err(Fault::Lost { why }) => {
                self.drop_session();
                return Err(self.lost(why));
            }
            Err(Fault::Server(error)) => Ok(Answer::Error(error.to_string())),
        };
        self.query("ending a health check", "ROLLBACK".to_owned()).await?;
        answer.map_err(|why| PostgresError::Check { why: why.to_owned() })
    }

    /// Whether a run could make, or write, the ledger. Makes nothing.
    ///
    /// # Errors
    /// [`PostgresError::Permission`], which names the GRANT that is missing.
    pub async fn check_privileges(&mut self) -> Result<(), PostgresError> {
        let (owner, schema) = (Literal(self.owner()).to_string(), Literal(&self.target.history_schema).to_string());
        // The functions give NULL for what is not there.
        let sql = format!(
            "SELECT coalesce(pg_catalog.has_table_privilege({owner}, h.oid, 'INSERT') AND \
             pg_catalog.has_schema_privilege({owner}, n.oid, 'USAGE'), pg_catalog.has_schema_privilege({owner}, n.oid, \
             'CREATE'), pg_catalog.has_database_privilege({owner}, pg_catalog.current_database(), 'CREATE'))::text, \
             (h.oid IS NOT NULL)::text \
             FROM (SELECT) one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = {schema} \
             LEFT JOIN pg_catalog.pg_class h ON h.relnamespace = n.oid AND h.relname = 'history'"
        );
        let rows = self.query("looking for privileges", sql).await?;
        match rows.first().map(|row| (text(row, 0) == "true", text(row, 1) == "true")) {
            Some((true, _)) => Ok(()),
            Some((false, true)) => Err(self.may_not_use_ledger().await),
            _ => Err(self.may_not_create().await),
        }
    }

    fn lost(&self, why: String) -> PostgresError {
        PostgresError::Lost { address: self.target.address.clone(), why }
    }
}

/// What a query gives, but no more than two rows of it: then it is stopped by `stop`, and what still comes is thrown away.
async fn rows(
    connection: &mut PgConnection,
    query: &str,
    stop: impl Future<Output = ()>,
) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut rows = Vec::new();
    let mut answers = sqlx::query(AssertSqlSafe(query)).persistent(false).fetch(connection);
    while let Some(row) = answers.try_next().await? {
        rows.push(row);
        if rows.len() > 1 {
            // Both to their end: a cancel that came later would hit another statement.
            let rest = async { while let Ok(Some(_)) = answers.try_next().await {} };
            tokio::join!(stop, rest);
            break;
        }
    }
    Ok(rows)
}

/// One row, one column, of type boolean.
fn read(rows: &[PgRow]) -> Result<Answer, &'static str> {
    let row = match rows {
        [row] => row,
        [] => return Ok(Answer::NotTrue("the query gave no row")),
        _ => return Err("it gives several rows; one row with one boolean is needed"),
    };
    match row.columns() {
        [column] if column.type_info().name() == "BOOL" => match row.try_get::<Option<bool>, _>(0) {
            Ok(Some(true)) => Ok(Answer::True),
            Ok(Some(false)) => Ok(Answer::NotTrue("the query answered false")),
            Ok(None) => Ok(Answer::NotTrue("the query answered NULL")),
            Err(_) => Err("its answer cannot be read as a boolean"),
        },
        [_] => Err("its column is not a boolean"),
        _ => Err("it gives several columns; one row with one boolean is needed"),
    }
}
