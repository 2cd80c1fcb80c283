use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::connection::Readers;
use super::error::Tries;
use super::folder::{Folder, Partial};
use super::outcome::{Origin, Record, Taken};
use super::snapshot::{Session, Snapshot};
use super::{BackupError, Client, Clients, Compression, Connection, Credentials, Prepared, dump, verify};
use crate::api::Verified;
use crate::postgres::Target;

/// One backup to take.
#[derive(Clone, Debug)]
pub struct Request {
    pub connection: Connection,
    /// Where the volume is mounted.
    pub store: PathBuf,
    /// The dump's path in it.
    pub location: String,
    pub origin: Origin,
    pub compression: Compression,
    /// How long pg_dump waits for each of its locks.
    pub lock_wait: Duration,
    /// For how long it is tried again when it did not get them.
    pub retry_for: Duration,
    pub clients: Clients,
    /// A folder in memory for the connection's files; None: one of its own among the temporary files.
    pub scratch: Option<PathBuf>,
}

/// Takes a backup: dumps one snapshot of the database into the store, and believes only what it read back.
///
/// Asked again for a backup that is there already, say by the Pod that follows one which was evicted in its last second, it
/// reads that one back and takes no other.
///
/// # Errors
/// See [`BackupError`]. Nothing of this backup is left in the store then.
pub async fn take(request: &Request) -> Result<Record, BackupError> {
    let folder = Folder::new(&request.store, &request.location)?;
    let target = request.connection.target()?;
    if let Some(record) = of_a_predecessor(&folder, &request.origin)? {
        let client = request.clients.newest()?;
        tracing::info!(location = request.location, "this backup is there already: reading it back");
        let read = verify(&folder.dump(), &record.taken.sha256, &client, &target).await;
        // Anything else, say a pg_restore that does not start, says nothing of the backup.
        if let Err(BackupError::HashDiffers { .. } | BackupError::Unreadable { .. }) = &read {
            folder.remove()?;
        }
        return read.map(|_| record);
    }
    let authority = request.connection.ca.as_deref();
    let credentials = Credentials::write(&target, authority, request.scratch.as_deref(), Readers::Owner)?;
    let mut session = Session::open(&target, &application(&request.origin), request.lock_wait).await?;
    let client = request.clients.for_server(session.major)?;
    let arguments = arguments(request, &client)?;
    tracing::info!(server = session.server_version, pg_dump = client.major, location = request.location, "dumping");

    let dumped = dump_with_retries(request, &mut session, &client, &arguments, &target, &credentials, &folder).await?;
    let Dumped { partial, written, snapshot } = dumped;
    tracing::info!(bytes = written.bytes, sha256 = written.sha256, "dumped; reading it back");
    verify(partial.path(), &written.sha256, &client, &target).await?;
    let record = Record {
        kind: Record::KIND.to_owned(),
        backup: request.origin.clone(),
        taken: Taken {
            location: request.location.clone(),
            bytes: written.bytes,
            sha256: written.sha256,
            server_version: session.server_version.clone(),
            tool_version: tool_version(&client).await,
            snapshot_at: snapshot.at,
            ledger_version: snapshot.ledger_version,
            completed_at: format!("{:.0}", jiff::Timestamp::now()),
            verified: Verified::Read,
            database: session.database.clone(),
        },
        arguments,
    };
    // Nothing is waited for in between: a signal finds a partial file, or a whole backup.
    folder.keep(partial)?;
    if let Err(error) = folder.write_record(&record) {
        folder.remove()?;
        return Err(error);
    }
    session.close().await;
    tracing::info!(bytes = record.taken.bytes, location = request.location, "taken and read back");
    Ok(record)
}

/// Removes a backup's files from the store. Those that are not there are no error.
///
/// # Errors
/// When the files are another backup's, or the volume refuses.
pub fn delete(store: &std::path::Path, location: &str, uid: Option<&str>) -> Result<(), BackupError> {
    let folder = Folder::new(store, location)?;
    // A record that cannot be read names no other backup: the location itself holds the UID.
    if let (Some(uid), Ok(Some(record))) = (uid, folder.read_record())
        && record.backup.uid.as_deref().is_some_and(|other| other != uid)
    {
        return Err(BackupError::Exists { path: folder.dump() });
    }
    folder.remove()
}

/// Writes the connection's files for a team's own script, and looks at the server.
///
/// # Errors
/// When the connection cannot be had: better before the script than in the middle of it.
pub async fn prepare(
    connection: &Connection,
    folder: &std::path::Path,
    origin: &Origin,
    lock_wait: Duration,
) -> Result<Prepared, BackupError> {
    let target = connection.target()?;
    let credentials = Credentials::write(&target, connection.ca.as_deref(), Some(folder), Readers::Pod)?;
    let mut session = Session::open(&target, &application(origin), lock_wait).await?;
    let prepared = session.look().await;
    session.close().await;
    // The files outlive this process.
    drop(credentials);
    prepared
}

struct Dumped {
    partial: Partial,
    written: dump::Written,
    snapshot: Snapshot,
}

/// Each try has a snapshot of its own. Only locks that were not to be had are a reason for another one.
async fn dump_with_retries(
    request: &Request,
    session: &mut Session,
    client: &Client,
    arguments: &[String],
    target: &Target,
    credentials: &Credentials,
    folder: &Folder,
) -> Result<Dumped, BackupError> {
    let started = Instant::now();
    let mut count = 0;
    loop {
        count += 1;
        let error = match try_dump(request, session, client, arguments, target, credentials, folder).await {
            Ok(dumped) => return Ok(dumped),
            Err(error) => error,
        };
        let BackupError::LockWait { lock_wait, relation, holders, .. } = error else { return Err(error) };
        let over = started.elapsed();
        let error = BackupError::LockWait { lock_wait, relation, holders, tries: Tries { count, over } };
        let pause = pause(count, rand::random());
        if over + pause >= request.retry_for {
            return Err(error);
        }
        tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "trying again");
        tokio::time::sleep(pause).await;
    }
}

async fn try_dump(
    request: &Request,
    session: &mut Session,
    client: &Client,
    arguments: &[String],
    target: &Target,
    credentials: &Credentials,
    folder: &Folder,
) -> Result<Dumped, BackupError> {
    let snapshot = session.snapshot().await?;
    let mut arguments = arguments.to_vec();
    arguments.push(format!("--snapshot={}", snapshot.id));
    let dumped = dump::dump(&client.pg_dump(), &arguments, target, credentials, folder).await;
    // A session that was lost in the meantime did its service if pg_dump succeeded.
    let released = session.release().await;
    match dumped {
        Ok((partial, written)) => Ok(Dumped { partial, written, snapshot }),
        Err(BackupError::Dump { stderr, .. }) if waited_for_a_lock(&stderr) => {
            released?;
            let holders = session.blockers().await;
            Err(BackupError::lock_wait(request.lock_wait, locked_relation(&stderr), holders))
        }
        Err(BackupError::Dump { status, stderr }) => Err(match hidden_relation(&stderr) {
            Some(relation) => BackupError::RowSecurity { relation },
            None => BackupError::Dump { status, stderr },
        }),
        Err(error) => Err(error),
    }
}

/// pg_dump's arguments, but for the snapshot. None of them is a secret, and none a connection.
fn arguments(request: &Request, client: &Client) -> Result<Vec<String>, BackupError> {
    let mut arguments = vec![
        "--format=custom".to_owned(),
        "--no-password".to_owned(),
        // Zero would mean no limit at all.
        format!("--lock-wait-timeout={}", request.lock_wait.as_millis().max(1)),
    ];
    arguments.extend(request.compression.argument(client.major)?);
    if let Some(role) = &request.connection.role {
        arguments.push(format!("--role={role}"));
    }
    Ok(arguments)
}

/// A finished backup of the same PostgresBackup; another's is an error.
fn of_a_predecessor(folder: &Folder, origin: &Origin) -> Result<Option<Record>, BackupError> {
    match folder.read_record()? {
        Some(record) if origin.uid.is_some() && record.backup.uid == origin.uid => Ok(Some(record)),
        Some(_) => Err(BackupError::Exists { path: folder.dump() }),
        // A dump without a record was not verified: a Pod was killed in between. But a person's own file is not ours.
        None if origin.uid.is_none() && folder.dump().exists() => Err(BackupError::Exists { path: folder.dump() }),
        None => Ok(None),
    }
}

/// What the server calls our sessions.
fn application(origin: &Origin) -> String {
    let namespace = origin.namespace.as_deref().unwrap_or_default();
    crate::api::conditions::truncate(&format!("belay/backup/{namespace}/{}", origin.name), 63)
}

/// pg_dump sets statement_timeout for its LOCK TABLE, so that is what the server says.
fn waited_for_a_lock(stderr: &str) -> bool {
    stderr.contains("LOCK TABLE") && (stderr.contains("statement timeout") || stderr.contains("lock timeout"))
}

/// The relation that pg_dump waited for, if it asked for one alone.
fn locked_relation(stderr: &str) -> Option<String> {
    let (_, rest) = stderr.split_once("LOCK TABLE ")?;
    let (relations, _) = rest.split_once(" IN ACCESS SHARE MODE")?;
    (!relations.contains(',')).then(|| relations.to_owned())
}

/// The relation of which row-level security would have kept rows from pg_dump, as the COPY that failed names it.
fn hidden_relation(stderr: &str) -> Option<String> {
    let (_, rest) = stderr.split_once("row-level security policy for table ")?;
    let (_, rest) = rest.split_once("COPY ")?;
    rest.split_once(" (").map(|(relation, _)| relation.to_owned())
}

/// 1 s, growing to 30 s, with half of it up to chance: those who queued behind pg_dump get through.
fn pause(try_: u32, random: f64) -> Duration {
    let whole = Duration::from_secs(1 << (try_ / 2).min(5)).min(Duration::from_secs(30));
    whole.mul_f64(0.5 + 0.5 * random)
}

/// `15.18`, out of "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
async fn tool_version(client: &Client) -> String {
    let mut command = dump::program(&client.pg_dump(), std::iter::empty::<(_, &str)>());
    let output = command.arg("--version").output().await.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    text.split_whitespace().nth(2).map_or_else(|| client.major.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_not_to_be_had_is_told_from_other_failures() {
        let locked = "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout; \
                      pg_dump: detail: Query was: LOCK TABLE public.orders IN ACCESS SHARE MODE";
        assert!(waited_for_a_lock(locked));
        assert_eq!(locked_relation(locked).as_deref(), Some("public.orders"));
        assert_eq!(locked_relation("LOCK TABLE a.b, a.c IN ACCESS SHARE MODE"), None);
        assert!(!waited_for_a_lock("permission denied for table orders; Query was: LOCK TABLE public.orders"));
    }

    #[test]
    fn what_row_level_security_hides_is_named() {
        let hidden = "pg_dump: error: Dumping the contents of table \"accounts\" failed: PQgetResult() failed.; pg_dump: detail: \
                      Error message from server: ERROR:  query would be affected by row-level security policy for table \
                      \"accounts\"; pg_dump: detail: Command was: COPY public.accounts (id, tenant) TO stdout;";
        assert_eq!(hidden_relation(hidden).as_deref(), Some("public.accounts"));
        assert_eq!(
            hidden_relation("permission denied for table accounts; Command was: COPY a.b (id) TO stdout;"),
            None
        );
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(pause(1000, 1.0), Duration::from_secs(30));
    }
}
