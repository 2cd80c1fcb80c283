//! One connection, as far as the rest of this room needs it: send text, get rows of text, know what broke.
//!
//! Only the simple query protocol is spoken: several statements travel in one message, no named statement is left
//! on a pooler, and a column is text whatever its type. Every query here casts what it reads to text.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::{PgConnection, PgDatabaseError, PgRow, PgSeverity};
use sqlx::{AssertSqlSafe, Connection, Either, Row as _};

use super::quote::Literal;
use super::server_error::ServerError;

/// The most that a message of Belay's own may take: none waits for a lock that a script would.
const OWN_MESSAGE: Duration = Duration::from_secs(60);

/// One row: a text, or NULL, for each column.
pub(super) type Row = Vec<Option<String>>;

/// Why a message did not go through.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server said no; the session lives.
    Server(Box<ServerError>),
    /// The session is gone, or cannot be trusted any more: nothing may be sent on it.
    Lost { why: String },
}

impl Fault {
    pub fn from_sqlx(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
                Some(error) if matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic) => {
                    Self::Lost { why: ServerError::new(error).to_string() }
                }
                Some(error) => Self::Server(Box::new(ServerError::new(error))),
                None => Self::Lost { why: "an error that is not PostgreSQL's".into() },
            },
            sqlx::Error::Io(error) => Self::Lost { why: error.to_string() },
            // Protocol errors quote what they did not understand.
            _ => Self::Lost { why: NOT_UNDERSTOOD.into() },
        }
    }
}

/// Why a session is given up whose server says what the driver does not know. It would say so again.
const NOT_UNDERSTOOD: &str = "the answer was not understood";

/// Whether a session that was lost so will be lost so again: by what its script does, or by the transaction_timeout that it sets.
pub(super) fn comes_again(why: &str) -> bool {
    why == NOT_UNDERSTOOD || why.ends_with(TRANSACTION_TIMEOUT)
}

/// How the server's words end when it ends a session for its transaction_timeout.
pub(super) const TRANSACTION_TIMEOUT: &str = "(SQLSTATE 25P04)";

/// A connection that works, and who it is at the server.
pub(super) struct Session {
    pub connection: PgConnection,
    pub backend: Backend,
    /// It is as a script finds it, and as the last one's COMMIT left it. Belay's own SQL needs other settings.
    pub plain: bool,
    /// The name under which the ledger's row is prepared in it: see [`super::prepared`].
    pub prepared: Option<String>,
}

/// A server process: its pid alone may be another's by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub pid: i32,
    /// As timestamptz, in text.
    pub started: String,
}

impl Backend {
    /// A condition on a row of pg_stat_activity `a`: it is this one. To be asked [`as_login`].
    pub fn is_it(&self) -> String {
        format!("a.pid = {} AND a.backend_start = {}::timestamptz", self.pid, Literal(&self.started))
    }
}

/// A question, as a whole message, that is asked as the login itself: whatever role it is in, and be it one that it takes at
/// each start (ALTER ROLE … SET role). Another role may neither see when a session of the login's began nor cancel what it runs.
pub(super) fn as_login(sql: &str) -> String {
    // A message is a transaction: behind it the role is as before.
    format!("SET LOCAL ROLE NONE;{sql}")
}

impl Session {
    /// Sends one message of Belay's own, and gives the rows of all its statements.
    ///
    /// After [`Fault::Lost`] the session must be dropped.
    pub async fn query(&mut self, sql: String) -> Result<Vec<Row>, Fault> {
        query(&mut self.connection, sql).await
    }

    /// Says goodbye, so that the server frees the lock at once. What happens after does not matter.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.connection.close()).await;
    }
}

/// See [`Session::query`].
pub(super) async fn query(connection: &mut PgConnection, sql: String) -> Result<Vec<Row>, Fault> {
    let whole = async {
        let mut rows = Vec::new();
        let mut stream = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(connection);
        while let Some(item) = stream.try_next().await? {
            if let Either::Right(row) = item {
                rows.push(texts(&row)?);
            }
        }
        Ok(rows)
    };
    match tokio::time::timeout(OWN_MESSAGE, whole).await {
        Ok(answer) => answer.map_err(Fault::from_sqlx),
        Err(_) => Err(Fault::Lost { why: format!("no answer within {} s", OWN_MESSAGE.as_secs()) }),
    }
}

/// The columns of a row in text format.
pub(super) fn texts(row: &PgRow) -> Result<Row, sqlx::Error> {
    (0..row.len()).map(|column| row.try_get_unchecked::<Option<String>, _>(column)).collect()
}

/// The text in `column`; empty when it is NULL or not there.
pub(super) fn text(row: &Row, column: usize) -> &str {
    row.get(column).and_then(Option::as_deref).unwrap_or_default()
}
