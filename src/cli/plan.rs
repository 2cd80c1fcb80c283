use clap::Args;
use serde::Serialize;

use super::error::CliError;
use super::exit::{self, Exit};
use super::output::{self, Format};
use super::session;
use super::source::Folder;
use super::summary::{self, HoldSummary, ScriptSummary};
use super::target::{Database, LockOptions, PlanOptions};
use crate::plan::{Begun, Ledger, Plan as Planned, plan};
use crate::postgres::Engine;

/// Show what would be applied, and change nothing.
///
/// The folder and the ledger are compared as `apply` and the operator do it. Nothing is created in the database, and no
/// lock is taken.
#[derive(Args, Debug)]
#[command(after_help = exit::HELP)]
pub struct Plan {
    #[command(flatten)]
    folder: Folder,
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
    #[command(flatten)]
    locks: LockOptions,
}

/// What `belay plan` says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    database: String,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    target: String,
    pending: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    begun: Vec<Begun>,
    plan: Vec<ScriptSummary>,
    baseline: Vec<ScriptSummary>,
    hash: String,
    source_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<HoldSummary>,
}

impl Plan {
    pub async fn run(self) -> Result<Exit, CliError> {
        let look = async {
            let mut engine = session::connect(&self.database, self.locks.into()).await?;
            let ledger = engine.ledger().await?;
            Ok((engine, ledger))
        };
        let (history, (engine, ledger)) = self.folder.read_beside(look).await?;
        let policy = self.options.policy(&self.database);
        let planned = plan(&history, &ledger, &policy)
            .map_err(|refusal| session::refused(&engine, &ledger, &history, refusal))?;
        let (baseline, pending) = summary::scripts(&planned, policy.transaction);
        let text = match self.output {
            Format::Table => table(&engine, &ledger, &planned, &baseline, &pending),
            format => {
                let document = Document {
                    database: engine.identity().database.clone(),
                    address: engine.target().address().to_string(),
                    version: planned.from.as_ref().map(ToString::to_string),
                    description: planned.from_description.clone(),
                    target: planned.to.to_string(),
                    pending: pending.len(),
                    begun: ledger.begun.clone(),
                    plan: pending,
                    baseline,
                    hash: planned.hash.to_string(),
                    source_digest: history.digest().to_owned(),
                    claimant: ledger.claimant.clone(),
                    hold: ledger.hold.as_ref().map(HoldSummary::from),
                };
                output::document(format, &document)
            }
        };
        engine.close().await;
        output::print(&text)?;
        Ok(if self.exit_code && !planned.is_done() { Exit::Pending } else { Exit::Done })
    }
}

fn table(
    engine: &Engine,
    ledger: &Ledger,
    planned: &Planned,
    baseline: &[ScriptSummary],
    pending: &[ScriptSummary],
) -> String {
    let rows: Vec<_> = baseline.iter().chain(pending).map(ScriptSummary::row).collect();
    let mut text = format!("{}; {}\n", session::place(engine, ledger), summary::what(planned));
    text.push_str(&output::table(None, &rows, "  "));
    for script in &ledger.begun {
        text.push_str(&output::printable(&format!("Begun: {script}.\n")));
    }
    if let Some(hold) = ledger.hold.as_ref().filter(|_| !planned.is_done()) {
        text.push_str(&told_hold(hold, &planned.hash));
    }
    if let Some(claimant) = ledger.claimant.as_ref().filter(|_| !planned.is_done()) {
        text.push_str(&output::printable(&format!(
            "The ledger is kept by {claimant}, which applies scripts by itself.\n"
        )));
    }
    text
}

/// What a hold says to somebody who is about to apply by hand.
pub fn told_hold(hold: &crate::plan::Hold, plan: &crate::plan::PlanHash) -> String {
    let which = if hold.plan == *plan { "This plan" } else { "An earlier plan" };
    let at = output::moment(hold.at);
    output::printable(&format!(
        "{which} failed at {at}, and the operator does not try it again by itself: {}\n",
        hold.failure.message
    ))
}
