use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::api::Verified;

/// What a backup's Pod ends with: its termination message, from which the operator reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The backup is taken and verified.
    Taken(Taken),
    /// The connection's files are written, and the server was looked at.
    Prepared(Prepared),
    /// The data is gone from the store.
    Deleted,
    /// It was not to be done.
    Failed(Failed),
}

/// A backup that was taken and verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The dump's path in the store.
    pub location: String,
    pub bytes: u64,
    /// Of the stream, before it was written.
    pub sha256: String,
    /// `15.18`
    pub server_version: String,
    /// pg_dump's.
    pub tool_version: String,
    /// The moment whose data it holds, by the server's clock; RFC 3339.
    pub snapshot_at: String,
    /// The ledger's version in that snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_version: Option<String>,
    /// RFC 3339.
    pub completed_at: String,
    pub verified: Verified,
    /// Which database it was.
    pub database: DatabaseIdentity,
}

/// What the server was like before a team's own script began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// `15.18`
    pub server_version: String,
    /// By the server's clock; RFC 3339.
    pub snapshot_at: String,
    /// The ledger's version at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_version: Option<String>,
    /// Which database it was.
    pub database: DatabaseIdentity,
}

/// Why it was not to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    pub message: String,
}

/// What stands beside a dump, as `<location>.json`: all that a person needs to find and to trust it without the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What this file is, and of which format.
    pub kind: String,
    /// On whose behalf.
    pub backup: Origin,
    #[serde(flatten)]
    pub taken: Taken,
    /// pg_dump's arguments.
    pub arguments: Vec<String>,
}

impl Record {
    /// The value of `kind`.
    pub const KIND: &str = "belay.dev/backup/v1";
}

/// On whose behalf a backup was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Origin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The PostgresBackup.
    pub name: String,
    /// Its UID: a backup is found again, and never overwritten, by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The PostgresDatabase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<String>,
    /// The run of that Migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// Which database it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseIdentity {
    /// The server's own; absent where pg_control_system() may not be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    pub oid: u32,
    pub name: String,
    /// Where it was reached: `host:port/dbname`.
    pub address: String,
}

/// The most that a termination message may hold, as Kubernetes has it.
const MAX_TERMINATION_MESSAGE: usize = 4096;

impl Outcome {
    /// The outcome of something that failed.
    pub fn failed(error: &BackupError) -> Self {
        let message: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // Escapes make JSON up to twice as long, and a JSON that was cut off cannot be read.
        Self::Failed(Failed { message: crate::api::conditions::truncate(&message, 2000) })
    }

    /// Writes it where the kubelet looks for it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let json = serde_json::to_string(self)?;
        debug_assert!(json.len() <= MAX_TERMINATION_MESSAGE, "{} bytes", json.len());
        std::fs::write(path, json)
    }

    /// Reads a termination message. None: it is something else, say the last lines of a log.
    pub fn read(message: &str) -> Option<Self> {
        serde_json::from_str(message.trim()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_termination_message_reads_back_as_it_was_written_however_long_the_failure() {
        let path = std::env::temp_dir().join(format!("belay-test-{}", uuid::Uuid::new_v4()));
        let error = BackupError::Dump { status: "exit status: 1".into(), stderr: "\u{1}\n\"é".repeat(5000) };
        Outcome::failed(&error).write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= MAX_TERMINATION_MESSAGE, "{}", text.len());
        assert!(matches!(Outcome::read(&text), Some(Outcome::Failed(failed)) if failed.message.contains("pg_dump")));
        assert_eq!(Outcome::read("pg_dump: some log"), None);
        std::fs::remove_file(path).unwrap();
    }
}
