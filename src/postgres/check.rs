//! What is asked of a database besides its ledger: a health check's query, and whether a run could write at all.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Column, Row, TypeInfo};

use super::engine::Engine;
use super::error::PostgresError;
use super::quote::{Literal, Path};
use super::session::{Fault, text};

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
        let asked = sqlx::query(AssertSqlSafe(query)).persistent(false).fetch_all(&mut session.connection).await;
        let answer = match asked {
            Ok(rows) => read(&rows),
            Err(error) => match Fault::from_sqlx(error) {
                Fault::Lost { why } => {
                    self.drop_session();
                    return Err(self.lost(why));
                }
                Fault::Server(error) => Ok(Answer::Error(error.to_string())),
            },
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

/// One row, one column, of type boolean.
fn read(rows: &[sqlx::postgres::PgRow]) -> Result<Answer, &'static str> {
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
