use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::postgres::{PostgresError, TargetError};

/// Why a backup was not taken, or not deleted. Messages say what happened and what to do; none holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot read the connection in {}: {source}", path.display())]
    Connection { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("sslmode {mode} needs certificate authorities, and there is no file of the system's: set caRef")]
    NoRoots { mode: &'static str },
    #[error("cannot write the connection's files in {}: {source}", path.display())]
    Credentials { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Connect(PostgresError),
    #[error("{address}: {action} failed: {message}")]
    Query { address: String, action: &'static str, message: String },
    #[error("no client for the server: there {}, the server is {server}. {}", Have(.available), no_client_remedy(root))]
    NoClient { server: u32, available: Vec<u32>, root: PathBuf },
    #[error("compression {method} needs pg_dump 16, and the server's is {major}: use gzip")]
    Compression { method: String, major: u32 },
    #[error("cannot start {}: {source}", program.display())]
    Program { program: PathBuf, source: io::Error },
    #[error("pg_dump waited longer than {} for a lock{}{}. {tries}. End that session, or raise backup.lockWait or locks.retryFor",
        seconds(*lock_wait), On(.relation), Held(.holders))]
    LockWait { lock_wait: Duration, relation: Option<String>, holders: Vec<String>, tries: Tries },
    #[error("pg_dump failed ({status}): {stderr}")]
    Dump { status: String, stderr: String },
    #[error(
        "pg_dump may not leave out rows, and row-level security hides some of {relation} from it. Give the role that it \
        dumps as BYPASSRLS, or run: ALTER TABLE {relation} NO FORCE ROW LEVEL SECURITY"
    )]
    RowSecurity { relation: String },
    #[error("the volume is full: {bytes} bytes were written to {} when it said {source:?}, and {free} bytes are free now. \
        Make the claim larger, or lower backup.keep", path.display(), source = source.to_string())]
    VolumeFull { path: PathBuf, bytes: u64, free: u64, source: io::Error },
    #[error("the volume cannot be written by user {user}: {}: {source}. Set securityContext.fsGroup in the podTemplate, \
        or mend the volume's owner", path.display())]
    NotWritable { path: PathBuf, user: u32, source: io::Error },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is being written by another process: no two may write the same backup", path.display())]
    InUse { path: PathBuf },
    #[error("{} exists already and is another backup's: choose another name, or move it away", path.display())]
    Exists { path: PathBuf },
    #[error("{0:?} is not a path inside the store: it has to be relative, without . and ..")]
    Path(String),
    #[error("{} was read back, and is not what pg_dump sent: its SHA-256 is {found}, the stream's was {expected}. \
        The volume cannot be trusted", path.display())]
    HashDiffers { path: PathBuf, expected: String, found: String },
    #[error("pg_restore cannot read {} to its end ({status}): {stderr}", path.display())]
    Unreadable { path: PathBuf, status: String, stderr: String },
    #[error("stopped by a signal before it was done: the Pod was deleted, evicted or its node drained")]
    Interrupted,
}

impl BackupError {
    /// A lock that was not to be had, once.
    pub(super) fn lock_wait(lock_wait: Duration, relation: Option<String>, holders: Vec<String>) -> Self {
        Self::LockWait { lock_wait, relation, holders, tries: Tries { count: 1, over: Duration::ZERO } }
    }
}

/// How often something was tried, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    pub count: u32,
    pub over: Duration,
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => f.write_str("It was tried once"),
            count => write!(f, "It was tried {count} times in {}", seconds(self.over)),
        }
    }
}

fn no_client_remedy(root: &std::path::Path) -> String {
    format!("Use an image that has it in {}/<major>/bin", root.display())
}

fn seconds(duration: Duration) -> crate::api::Duration {
    // To the millisecond, as specs have it.
    format!("{}ms", duration.as_millis()).parse().unwrap_or(crate::api::Duration::from_secs(duration.as_secs()))
}

struct Have<'a>(&'a [u32]);

impl fmt::Display for Have<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("is no pg_dump"),
            [one] => write!(f, "is pg_dump {one}"),
            [most @ .., last] => {
                let most: Vec<String> = most.iter().map(u32::to_string).collect();
                write!(f, "are pg_dump {} and {last}", most.join(", "))
            }
        }
    }
}

struct On<'a>(&'a Option<String>);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |relation| write!(f, " on {relation}"))
    }
}

struct Held<'a>(&'a [String]);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", held by {}", self.0.join("; ")) }
    }
}
