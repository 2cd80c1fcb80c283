//! PG* variables: a person's own at a terminal, and nothing but trouble where a Secret says how to connect.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Replaces this process by itself without libpq's variables, if it has any.
///
/// sqlx reads some of them with no way to set them back. To take a variable out of one's own environment is not safe in a
/// program that may have threads; to start anew is: the same process, with the same files open.
///
/// # Errors
/// When the program cannot be started.
pub fn without_libpq_variables() -> std::io::Result<()> {
    let variables: Vec<_> =
        std::env::vars_os().map(|(name, _)| name).filter(|name| name.as_encoded_bytes().starts_with(b"PG")).collect();
    if variables.is_empty() {
        return Ok(());
    }
    let mut anew = Command::new(std::env::current_exe()?);
    anew.args(std::env::args_os().skip(1));
    for variable in variables {
        anew.env_remove(variable);
    }
    Err(anew.exec())
}
