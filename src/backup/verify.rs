use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Stdio;

use sha2::{Digest, Sha256};

use super::dump::{collect, program};
use super::{BackupError, Client, hex};
use crate::postgres::Target;

/// Reads a dump back: its bytes have to have this SHA-256, and pg_restore has to read the archive to its end.
///
/// `pg_restore --list` would be no proof: it accepts archives that were cut off or damaged. Returns the file's size.
///
/// # Errors
/// [`BackupError::HashDiffers`] and [`BackupError::Unreadable`] when it is not to be trusted.
pub async fn verify(path: &Path, sha256: &str, client: &Client, target: &Target) -> Result<u64, BackupError> {
    let tool = client.pg_restore();
    let failed = |source| BackupError::Program { program: tool.clone(), source };
    let file = File::open(path).map_err(|source| BackupError::File { path: path.to_owned(), source })?;
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut command = program(&tool, std::iter::empty::<(_, &str)>());
    let mut child = command
        .args(["--format=custom", "--file=/dev/null"])
        .stdin(reader)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    drop(command);
    let stderr = child.stderr.take();
    let reading = tokio::task::spawn_blocking(move || read(file, writer));
    let (read, stderr, status) = tokio::join!(reading, collect(stderr, target), child.wait());
    let (bytes, found) = read
        .map_err(|panic| failed(io::Error::other(panic)))?
        .map_err(|source| BackupError::File { path: path.to_owned(), source })?;
    if found != sha256 {
        return Err(BackupError::HashDiffers { path: path.to_owned(), expected: sha256.to_owned(), found });
    }
    let status = status.map_err(failed)?;
    if !status.success() {
        return Err(BackupError::Unreadable { path: path.to_owned(), status: status.to_string(), stderr });
    }
    Ok(bytes)
}

/// Hashes the file to its end, and hands pg_restore the same bytes for as long as it takes them.
fn read(mut from: File, to: io::PipeWriter) -> io::Result<(u64, String)> {
    let mut to = Some(to);
    let mut hash = Sha256::new();
    let mut bytes = 0u64;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..read]);
        bytes += read as u64;
        // It ends early when it finds a fault, and says so by its exit status.
        if to.as_mut().is_some_and(|pipe| pipe.write_all(&buffer[..read]).is_err()) {
            to = None;
        }
    }
    Ok((bytes, hex(&hash.finalize())))
}
