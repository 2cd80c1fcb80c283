use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::folder::{Folder, Partial};
use super::{BackupError, Credentials, hex};
use crate::postgres::Target;

/// How often the log says how far a dump is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The last of a program's stderr that is kept for messages, in bytes.
const STDERR_KEPT: usize = 1500;

/// What came out of pg_dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub bytes: u64,
    /// Of the stream, taken before it was written.
    pub sha256: String,
}

/// Runs pg_dump into a partial file, which is synced when this returns.
///
/// Dropping the future kills pg_dump.
pub async fn dump(
    pg_dump: &Path,
    arguments: &[String],
    target: &Target,
    credentials: &Credentials,
    folder: &Folder,
) -> Result<(Partial, Written), BackupError> {
    let (partial, file) = folder.begin()?;
    let failed = |source| BackupError::Program { program: pg_dump.to_owned(), source };
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut command = program(pg_dump, credentials.environment());
    let mut child =
        command.args(arguments).stdout(writer).stderr(Stdio::piped()).kill_on_drop(true).spawn().map_err(failed)?;
    // It holds the pipe's other end, which would then never be at its end.
    drop(command);
    let stderr = child.stderr.take();
    let copying = tokio::task::spawn_blocking(move || copy(reader, file));
    let (copied, stderr, status) = tokio::join!(copying, collect(stderr, target), child.wait());
    let status = status.map_err(failed)?;
    // What stopped the writing is told first: pg_dump then only says that its pipe is broken.
    let written = copied
        .map_err(|panic| failed(io::Error::other(panic)))?
        .map_err(|error| folder.file_error(partial.path(), error))?;
    if !status.success() {
        return Err(BackupError::Dump { status: status.to_string(), stderr });
    }
    Ok((partial, written))
}

/// A program of PostgreSQL's with nothing of this process's environment: any PG* variable would change the connection.
pub fn program<E: AsRef<std::ffi::OsStr>>(
    path: &Path,
    environment: impl IntoIterator<Item = (&'static str, E)>,
) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("LC_ALL", "C").env("HOME", "/nonexistent").envs(environment).stdin(Stdio::null());
    command
}

/// Hashes the stream, writes it, and syncs the file to the volume.
fn copy(mut from: impl Read, mut to: File) -> io::Result<Written> {
    let mut hash = Sha256::new();
    let mut bytes = 0u64;
    let mut buffer = vec![0; 256 * 1024];
    let mut said = Instant::now();
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        bytes += read as u64;
        if said.elapsed() >= PROGRESS_EVERY {
            tracing::info!(bytes, "dumping");
            said = Instant::now();
        }
    }
    to.sync_all()?;
    // So that the read-back comes from the volume and not from this machine's memory. Where that is not to be had, no harm.
    let _ = rustix::fs::fadvise(&to, 0, None, rustix::fs::Advice::DontNeed);
    Ok(Written { bytes, sha256: hex(&hash.finalize()) })
}

/// A program's stderr: each line to the log, the last ones for the message. The password never, should it be in there.
pub async fn collect(stderr: Option<impl AsyncRead + Unpin>, target: &Target) -> String {
    let mut kept = String::new();
    let Some(stderr) = stderr else { return kept };
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = target.redact(&String::from_utf8_lossy(&line));
        tracing::warn!("{line}");
        if !kept.is_empty() {
            kept.push_str("; ");
        }
        kept.push_str(line.trim());
        let mut cut = kept.len().saturating_sub(STDERR_KEPT);
        while !kept.is_char_boundary(cut) {
            cut += 1;
        }
        kept.drain(..cut);
    }
    kept
}
