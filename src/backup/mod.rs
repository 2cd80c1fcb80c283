//! Backups: what runs inside a backup's Job, and the rules of which Backups are used again and which go.
//!
//! [`take()`] dumps a database with pg_dump into a folder, and believes only what it read back. [`delete()`] takes a
//! dump away again, and [`prepare()`] gives a team's own script its connection. No Kubernetes client here: Jobs are made and
//! watched in [`crate::controller`].

mod clients;
mod compression;
mod connection;
mod dump;
mod error;
mod folder;
mod outcome;
mod retention;
mod run;
mod snapshot;
mod verify;

pub use clients::{Client, Clients};
pub use compression::Compression;
pub use connection::{Connection, Credentials, Readers};
pub use error::BackupError;
pub use outcome::{Failed, Origin, Outcome, Prepared, Record, Taken};
pub use retention::{Usable, database_generation_of, for_run, is_failed, is_taken, name_for, plan_of, to_prune};
pub use run::{Request, delete, prepare, take};
pub use verify::verify;

/// Where a backup of this name is in the folder `path` of a store.
pub fn location(path: &str, name: &str) -> String {
    folder::Folder::location(path, name)
}

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
