use clap::Args;
use serde::Serialize;

use super::error::{CliError, describe};
use super::exit::{self, Exit};
use super::output::{self, Format, capital, count, moment};
use super::session;
use super::source::OptionalFolder;
use super::summary::{self, HoldSummary};
use super::target::{Database, PlanOptions};
use crate::api::Failure;
use crate::plan::{Begun, Ledger, plan};
use crate::postgres::{Engine, FailedRun, Holder, Locks};

/// Show where a database is, what is pending, what failed, and who is at work.
#[derive(Args, Debug)]
#[command(after_help = exit::HELP)]
pub struct Status {
    #[command(flatten)]
    folder: OptionalFolder,
    /// End with 3 when scripts are pending
    #[arg(long)]
    exit_code: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    options: PlanOptions,
}

/// What `belay status` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    database: String,
    address: String,
    server_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_identifier: Option<String>,
    database_oid: u32,
    size_bytes: i64,
    history_schema: String,
    /// Whether there is one.
    ledger: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_by: Option<String>,
    /// Scripts that are run statement by statement, and are not applied as a whole yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    begun: Vec<Begun>,
    /// With a folder only.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// With a folder only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<usize>,
    /// Why there is no plan for the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldSummary>,
    /// The run that ended last, if it did not end well, and no hold tells more of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Failed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_holder: Option<LockHolder>,
}

#[derive(Serialize)]
struct Failed {
    reason: String,
    by: String,
    /// RFC 3339.
    at: String,
}

impl From<&FailedRun> for Failed {
    fn from(run: &FailedRun) -> Self {
        Self { reason: run.reason.clone(), by: run.holder.clone(), at: run.at.to_string() }
    }
}

/// The session that migrates the database now.
#[derive(Serialize)]
struct LockHolder {
    pid: i32,
    user: String,
    application: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl From<&Holder> for LockHolder {
    fn from(holder: &Holder) -> Self {
        Self {
            pid: holder.pid,
            user: holder.user.clone(),
            application: holder.application.clone(),
            since: holder.since.map(|since| since.to_string()),
        }
    }
}

/// What the database says.
struct There {
    ledger: Ledger,
    failed: Option<FailedRun>,
    /// In bytes.
    size: i64,
    holder: Option<Holder>,
}

/// What the folder adds.
#[derive(Default)]
struct Ahead {
    target: Option<String>,
    pending: Option<usize>,
    text: Option<String>,
    failure: Option<Failure>,
}

impl Status {
    pub async fn run(self) -> Result<Exit, CliError> {
        let history = self.folder.read()?;
        let mut engine = session::connect(&self.database, Locks::default()).await?;
        let ledger = engine.ledger().await?;
        let failed = match ledger.exists && ledger.hold.is_none() {
            true => engine.failed_run().await?,
            false => None,
        };
        let size = engine.size_bytes().await?;
        let holder = engine.lock_holder().await?;
        let ahead = match &history {
            None => Ahead::default(),
            Some(history) => match plan(history, &ledger, &self.options.policy(&self.database)) {
                Ok(planned) => Ahead {
                    target: Some(planned.to.to_string()),
                    pending: Some(planned.pending.len()),
                    text: Some(summary::what(&planned)),
                    failure: None,
                },
                Err(refusal) => {
                    let refused = session::refused(&engine, &ledger, history, refusal);
                    Ahead { failure: Some(refused.failure()), ..Ahead::default() }
                }
            },
        };
        let exit = match &ahead {
            Ahead { failure: Some(_), .. } => Exit::Failed,
            Ahead { pending: Some(1..), .. } if self.exit_code => Exit::Pending,
            _ => Exit::Done,
        };
        // What nobody waits for any more is over.
        let failed = failed.filter(|_| ahead.pending != Some(0));
        let there = There { ledger, failed, size, holder };
        let text = match self.output {
            Format::Table => table(&engine, &there, &ahead),
            format => output::document(format, &document(&engine, &there, ahead)),
        };
        engine.close().await;
        output::print(&text)?;
        Ok(exit)
    }
}

fn document(engine: &Engine, there: &There, ahead: Ahead) -> Document {
    let ledger = &there.ledger;
    let identity = engine.identity();
    let current = ledger.current();
    Document {
        database: identity.database.clone(),
        address: engine.target().address().to_string(),
        server_version: identity.server_version.clone(),
        system_identifier: identity.system_identifier.clone(),
        database_oid: identity.database_oid,
        size_bytes: there.size,
        history_schema: engine.target().history_schema.clone(),
        ledger: ledger.exists,
        version: current.map(|row| row.version.to_string()),
        description: current.map(|row| row.description.clone()),
        applied_at: current.map(|row| row.applied_at.to_string()),
        applied_by: current.map(|row| row.applied_by.clone()),
        begun: ledger.begun.clone(),
        target: ahead.target,
        pending: ahead.pending,
        failure: ahead.failure,
        claimant: ledger.claimant.clone(),
        hold: ledger.hold.as_ref().map(HoldSummary::from),
        failed: there.failed.as_ref().map(Failed::from),
        lock_holder: there.holder.as_ref().map(LockHolder::from),
    }
}

fn table(engine: &Engine, there: &There, ahead: &Ahead) -> String {
    let There { ledger, failed, size, holder } = there;
    let (identity, target) = (engine.identity(), engine.target());
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut say = |name: &str, text: String| rows.push(vec![name.to_owned(), text]);
    let server = &identity.server_version;
    say("database", format!("{} (PostgreSQL {server}, {})", target.address(), bytes(*size)));
    let system = identity.system_identifier.as_deref().unwrap_or("unknown");
    say("identity", format!("{system}/{}", identity.database_oid));
    if let Some(grant) = identity.missing_grant(target.user()) {
        say("", format!("to know the server again: {grant}"));
    }
    say(
        "version",
        match ledger.current() {
            Some(row) => format!(
                "{}  {}, applied {} by {}",
                row.version,
                capital(&row.description),
                moment(row.applied_at),
                row.applied_by
            ),
            None if !ledger.begun.is_empty() => "none: no script is applied as a whole yet".to_owned(),
            None if ledger.exists => "none: the ledger is empty".to_owned(),
            None => "none: there is no ledger yet".to_owned(),
        },
    );
    for script in &ledger.begun {
        say("begun", script.to_string());
    }
    if let Some(text) = &ahead.text {
        say("folder", text.clone());
    }
    if let Some(failure) = &ahead.failure {
        say("folder", format!("{}: {}", failure.reason, failure.message));
    }
    let retired = ledger.rows.iter().filter(|row| row.retired).count();
    let retired = if retired > 0 { format!(", {retired} of them retired") } else { String::new() };
    say("ledger", format!("schema {}, {}{retired}", target.history_schema, count(ledger.rows.len(), "script")));
    say("kept by", ledger.claimant.clone().unwrap_or_else(|| "nobody".into()));
    if let Some(hold) = &ledger.hold {
        say("held", format!("since {}, {}: {}", moment(hold.at), hold.failure.reason, hold.failure.message));
    }
    if let Some(run) = failed {
        say("failed", format!("{}  {}, run by {}", moment(run.at), run.reason, run.holder));
    }
    say("lock", holder.as_ref().map_or_else(|| "free".to_owned(), |holder| format!("held by {}", describe(holder))));
    output::table(None, &rows, "")
}

/// `12 MB`, as pg_size_pretty has it.
fn bytes(size: i64) -> String {
    let units = ["bytes", "kB", "MB", "GB"];
    let mut size = size;
    for unit in units {
        if size < 10 * 1024 {
            return format!("{size} {unit}");
        }
        size /= 1024;
    }
    format!("{size} TB")
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn a_size_is_told_as_postgresql_does() {
        assert_eq!(bytes(8191), "8191 bytes");
        assert_eq!(bytes(7_500_000), "7324 kB");
        assert_eq!(bytes(1 << 40), "1024 GB");
    }
}
