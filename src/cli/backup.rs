//! `belay backup`, `belay delete-backup`, `belay credentials`: what backup Jobs run, and a person may.

use std::future::Future;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::error::of_database;
use super::exit::Exit;
use crate::api::Duration;
use crate::backup::{
    self, BackupError, Clients, Compression, Connection, Origin, Outcome, Request, location, prepare, take,
};
use crate::postgres::{Overrides, SslMode};

/// Dump a database with pg_dump of its own major version, and read the dump back.
#[derive(Args, Debug)]
pub struct BackupArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    origin: OriginArgs,
    /// The folder to write to; in a Job, where the volume is mounted
    #[arg(long, default_value = ".")]
    store: PathBuf,
    /// The dump's path in it. Absent: <dbname>-<time>.dump
    #[arg(long)]
    location: Option<String>,
    /// As pg_dump --compress takes it: gzip:1, zstd:3 (from version 16 on), none
    #[arg(long, default_value = "gzip:1")]
    compression: Compression,
    /// How long pg_dump waits for each of its locks
    #[arg(long, default_value = "1m")]
    lock_wait: Duration,
    /// For how long it is tried again when it did not get them
    #[arg(long, default_value = "15m")]
    retry_for: Duration,
    #[command(flatten)]
    job: JobArgs,
}

/// Remove a backup's files from a store.
#[derive(Args, Debug)]
pub struct DeleteBackupArgs {
    /// The folder of the store; in a Job, where the volume is mounted
    #[arg(long, default_value = ".")]
    store: PathBuf,
    /// The dump's path in it
    #[arg(long)]
    location: String,
    /// The PostgresBackup's UID: files of another one are left alone
    #[arg(long)]
    uid: Option<String>,
    /// Where the outcome is written, as JSON
    #[arg(long, hide = true)]
    termination_log: Option<PathBuf>,
}

/// Write a connection as PGSERVICEFILE and PGPASSFILE for other programs.
#[derive(Args, Debug)]
pub struct CredentialsArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    origin: OriginArgs,
    /// The folder to write them to: it should be in memory
    #[arg(long)]
    folder: PathBuf,
    /// How long the ledger may be locked by others
    #[arg(long, default_value = "1m")]
    lock_wait: Duration,
    /// Where the outcome is written, as JSON
    #[arg(long, hide = true)]
    termination_log: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ConnectionArgs {
    /// A connection URI. Absent: PG* variables, as psql takes them
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, conflicts_with = "secret")]
    database_url: Option<DatabaseUrl>,
    /// A folder with a Secret's keys as files, as a Pod mounts it
    #[arg(long)]
    secret: Option<PathBuf>,
    /// A file with the server's certificate authority, in PEM
    #[arg(long)]
    ca: Option<PathBuf>,
    /// A folder with tls.crt and tls.key, in PEM: the certificate that the server is shown
    #[arg(long, value_name = "FOLDER")]
    client_certificate: Option<PathBuf>,
    /// Overrides the Secret's host
    #[arg(long, requires = "secret")]
    host: Option<String>,
    /// Overrides the Secret's port
    #[arg(long, requires = "secret")]
    port: Option<u16>,
    /// Overrides the Secret's database name
    #[arg(long, requires = "secret")]
    dbname: Option<String>,
    /// Overrides the Secret's sslmode: disable, require, verify-ca, verify-full
    #[arg(long, requires = "secret", value_parser = ssl_mode)]
    ssl_mode: Option<SslMode>,
    /// SET ROLE after connecting
    #[arg(long)]
    role: Option<String>,
    /// The schema in which the ledger lives
    #[arg(long, default_value = "belay")]
    history_schema: String,
}

/// On whose behalf; recorded beside the dump.
#[derive(Args, Debug)]
struct OriginArgs {
    /// The PostgresBackup's name
    #[arg(long, hide = true, env = "BELAY_BACKUP")]
    name: Option<String>,
    #[arg(long, hide = true, env = "BELAY_BACKUP_UID")]
    uid: Option<String>,
    #[arg(long, hide = true, env = "BELAY_NAMESPACE")]
    namespace: Option<String>,
    #[arg(long, hide = true, env = "BELAY_DATABASE")]
    database: Option<String>,
    #[arg(long, hide = true, env = "BELAY_MIGRATION")]
    migration: Option<String>,
    #[arg(long, hide = true, env = "BELAY_RUN")]
    run: Option<String>,
}

#[derive(Args, Debug)]
struct JobArgs {
    /// The folder with PostgreSQL's programs: <folder>/<major>/bin
    #[arg(long, env = "BELAY_POSTGRES_CLIENTS", default_value = Clients::USUAL_ROOT)]
    clients: PathBuf,
    /// A folder in memory for the connection's files. Absent: one of its own among the temporary files
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Where the outcome is written, as JSON
    #[arg(long, hide = true)]
    termination_log: Option<PathBuf>,
}

/// A URI with a password in it: Debug shows none of it.
#[derive(Clone)]
struct DatabaseUrl(String);

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::str::FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

fn ssl_mode(text: &str) -> Result<SslMode, &'static str> {
    SslMode::parse(text).ok_or("use disable, require, verify-ca or verify-full")
}

impl ConnectionArgs {
    fn connection(&self) -> Connection {
        Connection {
            secret: self.secret.clone(),
            // The environment's URI is a person's; beside a Secret it means nothing.
            url: self.database_url.as_ref().map(|url| url.0.clone()),
            ca: self.ca.clone(),
            client_certificate: self.client_certificate.clone(),
            overrides: Overrides {
                host: self.host.clone(),
                port: self.port,
                dbname: self.dbname.clone(),
                ssl_mode: self.ssl_mode,
                ..Overrides::default()
            },
            role: self.role.clone(),
            history_schema: self.history_schema.clone(),
        }
    }
}

impl OriginArgs {
    fn origin(&self) -> Origin {
        Origin {
            namespace: self.namespace.clone(),
            name: self.name.clone().unwrap_or_default(),
            uid: self.uid.clone(),
            database: self.database.clone(),
            migration: self.migration.clone(),
            run: self.run.clone(),
        }
    }
}

impl BackupArgs {
    fn request(&self) -> Result<Request, BackupError> {
        let connection = self.connection.connection();
        let location = match &self.location {
            Some(location) => location.clone(),
            None => {
                let target = connection.target()?;
                let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
                location("", &format!("{}-{now}", target.address().dbname.replace('/', "_")))
            }
        };
        Ok(Request {
            connection,
            store: self.store.clone(),
            location,
            origin: self.origin.origin(),
            compression: self.compression.clone(),
            lock_wait: self.lock_wait.get(),
            retry_for: self.retry_for.get(),
            clients: Clients::new(&self.job.clients),
            scratch: self.job.scratch.clone(),
        })
    }
}

impl BackupArgs {
    /// Takes a backup.
    pub fn run(self) -> Exit {
        let work = async {
            let record = take(&self.request()?).await?;
            println!("{} bytes at {}", record.taken.bytes, self.store.join(&record.taken.location).display());
            Ok(Outcome::Taken(record.taken))
        };
        end(work, self.job.termination_log.as_deref())
    }

    /// Whether a Job's Pod runs it, and not a person.
    pub fn is_in_a_job(&self) -> bool {
        self.job.termination_log.is_some()
    }

    /// Whether a Secret alone says how to connect.
    pub fn connects_by_secret(&self) -> bool {
        self.connection.secret.is_some()
    }
}

impl DeleteBackupArgs {
    /// Deletes a backup's files.
    pub fn run(self) -> Exit {
        let work = async {
            backup::delete(&self.store, &self.location, self.uid.as_deref())?;
            println!("{} is removed", self.store.join(&self.location).display());
            Ok(Outcome::Deleted)
        };
        end(work, self.termination_log.as_deref())
    }

    /// Whether a Job's Pod runs it, and not a person.
    pub fn is_in_a_job(&self) -> bool {
        self.termination_log.is_some()
    }
}

impl CredentialsArgs {
    /// Writes a connection's files.
    pub fn run(self) -> Exit {
        let work = async {
            let connection = self.connection.connection();
            let prepared = prepare(&connection, &self.folder, &self.origin.origin(), self.lock_wait.get()).await?;
            Ok(Outcome::Prepared(prepared))
        };
        end(work, self.termination_log.as_deref())
    }

    /// Whether a Job's Pod runs it, and not a person.
    pub fn is_in_a_job(&self) -> bool {
        self.termination_log.is_some()
    }

    /// Whether a Secret alone says how to connect.
    pub fn connects_by_secret(&self) -> bool {
        self.connection.secret.is_some()
    }
}

/// Does the work unless a signal comes first, and says how it ended: to the log, as the termination message, by exit status.
fn end(work: impl Future<Output = Result<Outcome, BackupError>>, termination_log: Option<&Path>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("belay: the runtime does not start: {error}");
            return Exit::Failed;
        }
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => done,
            () = stopped() => Err(BackupError::Interrupted),
        }
    });
    // A write that hangs must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    let (outcome, exit) = match done {
        Ok(outcome) => (outcome, Exit::Done),
        Err(error) => {
            eprintln!("belay: {error}");
            (Outcome::failed(&error), exit_of(&error))
        }
    };
    match termination_log.map(|path| outcome.write(path)) {
        Some(Err(error)) => {
            eprintln!("belay: cannot write the termination message: {error}");
            // Without it nobody would know of the backup.
            Exit::Failed
        }
        _ => exit,
    }
}

fn exit_of(error: &BackupError) -> Exit {
    match error {
        BackupError::Interrupted => Exit::Interrupted,
        BackupError::LockWait { .. } => Exit::NotNow,
        BackupError::Connect(error) => of_database(error),
        _ => Exit::Failed,
    }
}

/// A Pod's first process has no default handlers: without this, SIGTERM would do nothing until SIGKILL comes.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Address, PostgresError};

    #[test]
    fn a_server_that_is_not_to_be_had_may_be_tried_again_and_a_wrong_name_not() {
        let address = || Address { host: "db".to_owned(), port: 5432, dbname: "shop".to_owned() };
        let away = PostgresError::Unreachable { address: address(), why: "connection refused".to_owned() };
        assert_eq!(exit_of(&BackupError::Connect(away)), Exit::NotNow);
        let wrong = PostgresError::NoDatabase { address: address() };
        assert_eq!(exit_of(&BackupError::Connect(wrong)), Exit::Failed);
        assert_eq!(exit_of(&BackupError::Interrupted), Exit::Interrupted);
    }
}
