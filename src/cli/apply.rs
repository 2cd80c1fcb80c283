use std::time::Instant;

use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error::{CliError, of_database};
use super::exit::{self, Exit};
use super::output::{self, Format, count};
use super::plan::told_hold;
use super::progress::Printer;
use super::source::Folder;
use super::summary::{self, ScriptSummary};
use super::target::{Database, LockOptions, PlanOptions};
use super::{excerpt, interrupt, session};
use crate::api::{Failure, Reason};
use crate::plan::{Ledger, Plan, PlannedScript, Policy, plan};
use crate::postgres::{ApplyError, Engine, Locks, Notice, RunContext, RunIntent};
use crate::script::{History, Script};

/// Apply the pending scripts, each in a transaction with its row of the ledger.
///
/// What is applied is planned as `plan` shows it; nothing is asked. The first error stops it: what failed is rolled back,
/// what came before stays. Running it again goes on from there; nothing is ever applied twice. Backups and health checks
/// are the operator's: here, they are yours.
#[derive(Args, Debug)]
#[command(after_help = exit::HELP)]
pub struct Apply {
    #[command(flatten)]
    folder: Folder,
    /// Apply also when an object of a cluster keeps the ledger. The claim stays as it is
    #[arg(long)]
    despite_claim: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    options: PlanOptions,
    #[command(flatten)]
    locks: LockOptions,
}

/// What `belay apply` did, also when it failed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    database: String,
    address: String,
    /// A reason: Succeeded, ScriptFailed, …
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    /// Where the database was.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Where it is, as the ledger says it; absent: nowhere yet, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    target: String,
    /// Absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<usize>,
    applied: Vec<ScriptSummary>,
    baseline: Vec<ScriptSummary>,
    /// What the server said while the scripts ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<Notice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

/// A run of a plan, and how it ended.
struct Ran {
    id: Uuid,
    /// What the ledger said afterwards; `None`: it could not be read.
    after: Option<Ledger>,
    ended: Result<(), ApplyError>,
}

impl Apply {
    pub async fn run(self) -> Result<Exit, CliError> {
        let cancel = interrupt::listen();
        let locks = Locks::from(self.locks);
        let (history, (mut engine, ledger)) = tokio::select! {
            both = self.folder.read_beside(self.look(locks)) => both?,
            () = cancel.cancelled() => return Err(CliError::Interrupted),
        };
        let answer = self.on(&mut engine, ledger, &history, locks, &cancel).await;
        engine.close().await;
        answer
    }

    /// Connects, and reads the ledger if nobody else has the lock.
    async fn look(&self, locks: Locks) -> Result<(Engine, Option<Ledger>), CliError> {
        let mut engine = session::connect(&self.database, locks).await?;
        let ledger = match engine.try_lock().await? {
            true => Some(engine.ledger().await?),
            false => None,
        };
        Ok((engine, ledger))
    }

    /// Lock, ledger, plan, run, and the ledger again.
    async fn on(
        &self,
        engine: &mut Engine,
        ledger: Option<Ledger>,
        history: &History,
        locks: Locks,
        cancel: &CancellationToken,
    ) -> Result<Exit, CliError> {
        let ledger = match ledger {
            Some(ledger) => ledger,
            None => {
                session::lock(engine, locks.retry_for, cancel).await?;
                engine.ledger().await?
            }
        };
        let place = session::place(engine, &ledger);
        let policy = self.options.policy(&self.database);
        let planned =
            plan(history, &ledger, &policy).map_err(|refusal| session::refused(engine, &ledger, history, refusal))?;
        self.say(&format!("{place}; {}\n", summary::what(&planned)));
        let claimant = ledger.claimant.clone().filter(|_| !self.despite_claim);
        if planned.is_done() {
            // A hold that a run which was killed could no longer lift.
            if claimant.is_none() {
                lift(engine, &ledger).await?;
            }
            return self.report(engine, &planned, &policy, None);
        }
        if let Some(claimant) = claimant {
            return Err(CliError::Claimed { address: engine.target().address().clone(), claimant, place });
        }
        if let Some(hold) = &ledger.hold {
            self.say(&told_hold(hold, &planned.hash));
        }
        let ran = self.execute(engine, &ledger, &planned, &policy, cancel).await?;
        self.report(engine, &planned, &policy, Some(ran))
    }

    async fn execute(
        &self,
        engine: &mut Engine,
        ledger: &Ledger,
        planned: &Plan,
        policy: &Policy,
        cancel: &CancellationToken,
    ) -> Result<Ran, CliError> {
        let person = session::person();
        let run = RunContext::new(Uuid::new_v4(), person.clone());
        engine.create_ledger().await?;
        let intent = RunIntent {
            id: run.id,
            holder: person,
            plan: planned.hash.clone(),
            from: planned.from.as_ref().map(ToString::to_string),
            to: Some(planned.to.to_string()),
            backup: None,
        };
        engine.begin_run(&intent).await?;
        engine.record_present(&run, planned, cancel).await?;
        for script in &planned.baseline {
            self.say(&output::table(None, &[ScriptSummary::new(script, summary::Mode::recorded(planned)).row()], "  "));
        }
        let printer = Printer::new(&planned.pending, policy.transaction, self.output == Format::Table);
        let since = Instant::now();
        let told = |progress: crate::postgres::Progress<'_>| printer.tell(&progress);
        let ended = engine.apply(&planned.pending, policy.transaction, &run, &told, cancel).await;
        printer.end(ended.is_ok(), since.elapsed());
        let outcome = ended.as_ref().map_or_else(ApplyError::reason, |()| Reason::Succeeded);
        // The run's row is an account, not the truth: that it could not be written is told, and no failure.
        if let Err(error) = engine.finish_run(run.id, outcome.as_str()).await {
            tracing::debug!(%error, "the end of the run was not written");
        }
        match (&ended, &ledger.hold) {
            (Ok(()), _) => lift(engine, ledger).await?,
            // What failed again is not for the operator to try by itself; and what it failed of now is what is told.
            (Err(error), Some(hold)) if error.is_held() => engine.hold(&run, &hold.plan, &error.failure()).await?,
            (Err(_), _) => {}
        }
        Ok(Ran { id: run.id, after: engine.ledger().await.ok(), ended })
    }

    /// Says where the database is now, as its ledger has it.
    fn report(&self, engine: &Engine, planned: &Plan, policy: &Policy, ran: Option<Ran>) -> Result<Exit, CliError> {
        let (after, ended, id) = match ran {
            Some(Ran { id, after, ended }) => (after, ended, Some(id)),
            None => (None, Ok(()), None),
        };
        let (exit, failure) = match &ended {
            Ok(()) => (Exit::Done, None),
            Err(error) => (exit_of(error), Some(error.failure())),
        };
        let there = after.as_ref().map(Ledger::versions).unwrap_or_default();
        let applied: Vec<_> = planned.pending.iter().filter(|script| there.contains(&script.version)).collect();
        let place = match (&after, id) {
            (Some(ledger), _) => session::place(engine, ledger),
            (None, None) => String::new(),
            (None, Some(_)) => "Where the database is could not be read back: `belay status` says it".to_owned(),
        };
        for notice in engine.notices().iter().filter(|_| self.output == Format::Table) {
            output::tell(&output::printable(&format!("{}: {}: {}", notice.script, notice.severity, notice.message)));
        }
        if self.output == Format::Table {
            match &ended {
                Ok(()) if id.is_some() => {
                    self.say(&format!("{place}; {} applied\n", count(applied.len(), "script")));
                }
                Ok(()) => {}
                Err(error) => output::tell(&told_failure(error, planned, &place)),
            }
            return Ok(exit);
        }
        if let Err(error) = &ended {
            output::tell(&told_failure(error, planned, &place));
        }
        let mode = |script: &Script| summary::Mode::of(script, policy.transaction, planned.pending.len());
        let version = match (&after, id) {
            (Some(ledger), _) => ledger.current().map(|row| row.version.to_string()),
            (None, None) => planned.from.as_ref().map(ToString::to_string),
            (None, Some(_)) => None,
        };
        let recorded = planned.baseline.iter().filter(|script| there.contains(&script.version));
        let document = Document {
            database: engine.identity().database.clone(),
            address: engine.target().address().to_string(),
            outcome: failure.as_ref().map_or(Reason::Succeeded.as_str().to_owned(), |failure| failure.reason.clone()),
            run_id: id.map(|id| id.to_string()),
            from: planned.from.as_ref().map(ToString::to_string),
            version,
            target: planned.to.to_string(),
            pending: (id.is_none() || after.is_some()).then(|| planned.pending.len() - applied.len()),
            baseline: recorded.map(|script| ScriptSummary::new(script, summary::Mode::recorded(planned))).collect(),
            applied: applied.into_iter().map(|script| ScriptSummary::new(script, mode(script))).collect(),
            notices: engine.notices().to_vec(),
            failure,
        };
        output::print(&output::document(self.output, &document))?;
        Ok(exit)
    }

    /// For people, as it goes. That nobody reads it any more does not stop a migration.
    fn say(&self, text: &str) {
        if self.output == Format::Table {
            let _ = output::print(text);
        }
    }
}

/// Lifts a hold, which waits for a person to ask.
async fn lift(engine: &mut Engine, ledger: &Ledger) -> Result<(), CliError> {
    match &ledger.hold {
        Some(hold) => Ok(engine.release_hold(&session::person(), &hold.plan).await?),
        None => Ok(()),
    }
}

fn exit_of(error: &ApplyError) -> Exit {
    match error {
        ApplyError::Script(_) => Exit::Failed,
        ApplyError::Locks(_) => Exit::NotNow,
        ApplyError::Cancelled { .. } => Exit::Interrupted,
        ApplyError::Postgres(error) => of_database(error),
    }
}

/// What happened and where; the line itself; what state the data is in; what to do next.
fn told_failure(error: &ApplyError, planned: &Plan, place: &str) -> String {
    let failure = error.failure();
    let mut text = format!("belay: {}", output::printable(&failure.message));
    let script = planned.pending.iter().find(|script| failure.script.as_deref() == Some(&script.file_name));
    let at = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    if let (Some(Ok(script)), Some(line)) = (script.map(PlannedScript::whole), at(failure.line))
        && let Some(excerpt) = excerpt::excerpt(&script, line, at(failure.column))
    {
        text.push_str(&format!("\n{excerpt}"));
    }
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("\nHint: {}", output::printable(hint)));
    }
    let next = match error {
        // Nothing may be wrong with the script.
        ApplyError::Script(_) if error.reason() == Reason::InDoubt => {
            "Settle it as the message says, and run the same command again."
        }
        ApplyError::Script(_) if failure.sql_state.as_deref() == Some("42501") => {
            "Grant the role that right, or correct the script, and run the same command again."
        }
        ApplyError::Script(_) => "Correct the script, and run the same command again.",
        // serialization_failure
        ApplyError::Locks(failure) if failure.sql_state.as_deref() == Some("40001") => {
            "Wait until nobody else changes the same rows, and run the same command again."
        }
        ApplyError::Locks(_) => {
            "End the sessions that hold the locks, or wait for them, and run the same command again."
        }
        ApplyError::Cancelled { .. } => "Run the same command to go on.",
        ApplyError::Postgres(error) if error.is_transient() => "Run the same command again: nothing is applied twice.",
        ApplyError::Postgres(_) => "Then run the same command again: nothing is applied twice.",
    };
    text.push_str(&format!("\n{place}. {next}"));
    text
}
