//! What the commands on a database have in common: who asks, the connection, the lock, and where the database is.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::error::{CliError, describe};
use super::target::Database;
use super::{excerpt, output};
use crate::plan::{Ledger, Refusal};
use crate::postgres::{Engine, Locks};
use crate::script::History;

/// How often a lock that is held is asked for again.
const POLL: Duration = Duration::from_millis(500);

/// Who asks, as the ledger and pg_stat_activity name them: `anna@laptop`.
pub fn person() -> String {
    let user = login();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty());
    format!("{}@{}", user.as_deref().unwrap_or("somebody"), host.as_deref().unwrap_or("somewhere"))
}

/// The name of the user who runs this.
pub fn login() -> Option<String> {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    // Cron and containers set neither.
    named.or_else(listed).or_else(|| {
        let answer = std::process::Command::new("id").arg("-un").output().ok()?;
        let name = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
        (answer.status.success() && !name.is_empty()).then_some(name)
    })
}

/// The same, where a file has it: to start a program takes longer than a small script.
fn listed() -> Option<String> {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    // name:password:uid:…
    let fields = users.lines().map(|line| line.split(':'));
    fields
        .filter_map(|mut fields| Some((fields.next()?, fields.nth(1)?)))
        .find(|(_, uid)| *uid == id)
        .map(|(name, _)| name.to_owned())
}

/// Connects, and changes nothing.
pub async fn connect(database: &Database, locks: Locks) -> Result<Engine, CliError> {
    let target = database.target(locks).map_err(crate::postgres::PostgresError::from)?;
    Ok(Engine::connect(target, &format!("belay/{}", person())).await?)
}

/// Takes the database's lock, waiting up to `patience` for another session to be done, and telling whose it is.
pub async fn lock(engine: &mut Engine, patience: Duration, cancel: &CancellationToken) -> Result<(), CliError> {
    let since = Instant::now();
    let mut told = None;
    while !engine.try_lock().await? {
        let holder = engine.lock_holder().await?;
        if since.elapsed() + POLL > patience {
            return Err(CliError::LockHeld {
                address: engine.target().address().clone(),
                holder: holder.map(Box::new),
            });
        }
        if let Some(holder) = holder
            && told != Some(holder.pid)
        {
            told = Some(holder.pid);
            let holder = describe(&holder);
            output::tell(&output::printable(&format!("Waiting: another session migrates this database ({holder}).")));
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(CliError::Interrupted),
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

/// `shop is at 002`, as the ledger has it.
pub fn place(engine: &Engine, ledger: &Ledger) -> String {
    let database = &engine.identity().database;
    match ledger.current() {
        Some(current) => format!("{database} is at {}", current.version),
        None => format!("{database} has no version yet"),
    }
}

/// A refusal, with where the database is and the line that it is about.
pub fn refused(engine: &Engine, ledger: &Ledger, history: &History, refusal: Refusal) -> CliError {
    let about = match &refusal {
        Refusal::UnsupportedScript { script, what } => Some((script, what.position.line, Some(what.position.column))),
        Refusal::EditedHalfway { script, line, .. } | Refusal::EditedInDoubt { script, line, .. } => {
            line.map(|line| (script, line, None))
        }
        _ => None,
    };
    let excerpt = about.and_then(|(file, line, column)| {
        let script = history.scripts().find(|candidate| candidate.file_name == *file)?.whole().ok()?;
        excerpt::excerpt(&script, line, column)
    });
    CliError::Refused { refusal: Box::new(refusal), place: place(engine, ledger), excerpt }
}
