use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor, PgConnection, Row};

use super::outcome::DatabaseIdentity;
use super::{BackupError, Prepared};
use crate::postgres::Target;

/// How long a server that does not answer yet is tried: a Pod that was just started may not reach it in its first second.
const CONNECT_FOR: Duration = Duration::from_secs(60);

/// A session with the server that is to be backed up.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    address: String,
    history_schema: String,
    lock_wait: Duration,
    pub database: DatabaseIdentity,
    /// `15.18`
    pub server_version: String,
    /// 15
    pub major: u32,
}

/// A moment of the database, which others can look at too while the session that exported it lives.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// For `pg_dump --snapshot`.
    pub id: String,
    /// No later than the snapshot: whatever was committed by then is in it. By the server's clock; RFC 3339.
    pub at: String,
    /// The ledger's version in it.
    pub ledger_version: Option<String>,
}

impl Session {
    /// Connects, as the role that pg_dump will use.
    pub async fn open(target: &Target, application: &str, lock_wait: Duration) -> Result<Self, BackupError> {
        let address = target.address().to_string();
        let mut connection = connect(target, application).await?;
        let query = |action| {
            let address = address.clone();
            move |error| query_error(&address, action, &error)
        };
        let settings = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set default_transaction_read_only = on";
        connection.execute(settings).await.map_err(query("setting up the session"))?;
        if let Some(role) = &target.role {
            let sql = format!("set role {}", quote(role));
            connection.execute(AssertSqlSafe(sql)).await.map_err(query("SET ROLE"))?;
        }
        let row = connection
            .fetch_one(
                "select current_setting('server_version_num')::int4, current_setting('server_version'), oid::int8, datname::text \
                 from pg_catalog.pg_database where datname = current_database()",
            )
            .await
            .map_err(query("reading the server's version"))?;
        let number: i32 = row.get(0);
        let version: String = row.get(1);
        // Not everybody may call it, and a backup does not need it.
        let system_identifier = connection
            .fetch_one("select system_identifier::text from pg_catalog.pg_control_system()")
            .await
            .map(|row| row.get(0))
            .ok();
        let database = DatabaseIdentity {
            system_identifier,
            oid: u32::try_from(row.get::<i64, _>(2)).unwrap_or_default(),
            name: row.get(3),
            address: address.clone(),
        };
        Ok(Self {
            connection,
            address,
            history_schema: target.history_schema.clone(),
            lock_wait,
            database,
            // "15.18 (Debian 15.18-0+deb12u1)"
            server_version: version.split(' ').next().unwrap_or_default().to_owned(),
            major: u32::try_from(number / 10_000).unwrap_or_default(),
        })
    }

    /// Begins a transaction and exports its snapshot. It holds until [`Session::release`], or the session's end.
    ///
    /// # Errors
    /// [`BackupError::LockWait`] when the ledger is locked for longer than it may be waited for.
    pub async fn snapshot(&mut self) -> Result<Snapshot, BackupError> {
        let begin = format!(
            "begin isolation level repeatable read read only; set local lock_timeout = '{}ms'",
            self.lock_wait.as_millis()
        );
        self.run(begin, "beginning a transaction").await?;
        let row = self
            .connection
            .fetch_one(
                "select pg_catalog.pg_export_snapshot(), \
                 to_char(statement_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            )
            .await
            .map_err(|error| query_error(&self.address, "exporting a snapshot", &error))?;
        let ledger_version = self.ledger_version().await?;
        Ok(Snapshot { id: row.get(0), at: row.get(1), ledger_version })
    }

    /// Ends the snapshot.
    pub async fn release(&mut self) -> Result<(), BackupError> {
        self.run("rollback".to_owned(), "ending the transaction").await
    }

    /// What the server is like at this moment.
    pub async fn look(&mut self) -> Result<Prepared, BackupError> {
        let snapshot = self.snapshot().await?;
        self.release().await?;
        Ok(Prepared {
            server_version: self.server_version.clone(),
            snapshot_at: snapshot.at,
            ledger_version: snapshot.ledger_version,
            database: self.database.clone(),
        })
    }

    /// Who holds locks that keep pg_dump from reading: relation, pid, user and application, never a query's text.
    pub async fn blockers(&mut self) -> Vec<String> {
        let rows = self
            .connection
            .fetch_all(
                "select distinct l.relation::regclass::text, a.pid, coalesce(a.usename::text, '?'), \
                        coalesce(nullif(a.application_name, ''), '?'), coalesce(a.state, '?') \
                 from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a using (pid) \
                 where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.granted and l.relation >= 16384 \
                   and l.database = (select oid from pg_catalog.pg_database where datname = current_database()) \
                 order by 2, 1 limit 3",
            )
            .await
            .unwrap_or_default();
        rows.iter()
            .map(|row| {
                let (relation, pid): (String, i32) = (row.get(0), row.get(1));
                let (user, application, state): (String, String, String) = (row.get(2), row.get(3), row.get(4));
                format!("pid {pid} (user {user}, application {application}, {state}) on {relation}")
            })
            .collect()
    }

    async fn ledger_version(&mut self) -> Result<Option<String>, BackupError> {
        let table = format!("{}.history", quote(&self.history_schema));
        let error = |error| query_error(&self.address, "reading the ledger", &error);
        let exists: bool = sqlx::query_scalar("select pg_catalog.to_regclass($1) is not null")
            .persistent(false)
            .bind(&table)
            .fetch_one(&mut self.connection)
            .await
            .map_err(error)?;
        if !exists {
            return Ok(None);
        }
        let sql = format!("select version::text from {table} order by version::numeric desc limit 1");
        match sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_optional(&mut self.connection).await {
            Ok(version) => Ok(version),
            Err(sqlx::Error::Database(refused)) if refused.code().as_deref() == Some("55P03") => {
                let _ = self.release().await;
                let holders = self.blockers().await;
                Err(BackupError::lock_wait(self.lock_wait, Some(table), holders))
            }
            Err(other) => Err(error(other)),
        }
    }

    async fn run(&mut self, sql: String, action: &'static str) -> Result<(), BackupError> {
        let done = self.connection.execute(AssertSqlSafe(sql)).await;
        done.map(|_| ()).map_err(|error| query_error(&self.address, action, &error))
    }

    /// Ends the session.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
}

/// Connects; what may pass by itself within [`CONNECT_FOR`] is tried again.
async fn connect(target: &Target, application: &str) -> Result<PgConnection, BackupError> {
    let started = Instant::now();
    loop {
        let error = match target.connect_plain(application).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if !error.is_transient() || started.elapsed() >= CONNECT_FOR {
            return Err(BackupError::Connect(error));
        }
        tracing::warn!(%error, "trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn query_error(address: &str, action: &'static str, error: &sqlx::Error) -> BackupError {
    BackupError::Query { address: address.to_owned(), action, message: words(error) }
}

/// An error in the server's own words; sqlx's Display adds lines of the server's C source.
fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refused) => match refused.code() {
            Some(code) => format!("{} (SQLSTATE {code})", refused.message()),
            None => refused.message().to_owned(),
        },
        other => other.to_string(),
    }
}

/// A name as a quoted identifier.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
