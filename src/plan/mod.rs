//! History × ledger × policy → [`Plan`], or a [`Refusal`] that says what to do.
//!
//! Pure: what the ledger said and what the source held come in as values. Reading them is the task of
//! [`crate::postgres`] and [`crate::source`]; running a plan, of [`crate::postgres`].

mod drift;
mod hash;
mod ledger;
mod refusal;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::Arc;

pub use drift::{Drift, drift};
pub use hash::PlanHash;
pub use ledger::{Applied, Hold, Ledger};
pub use refusal::Refusal;

use crate::api::TransactionMode;
use crate::script::{History, Script, Version};

/// What a plan is made under: the fields of a Migration and of its Database that change what would run.
///
/// Part of the plan's hash: another policy is another plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Absent: the latest.
    pub target: Option<Version>,
    pub transaction: TransactionMode,
    /// Whether a script may be applied after one with a higher version.
    pub out_of_order: bool,
    /// With an empty ledger: scripts up to here are recorded as present, not run.
    pub baseline: Option<Version>,
    /// The role that scripts run as.
    pub role: Option<String>,
    /// The search_path that scripts run with.
    pub search_path: Vec<String>,
}

/// What is to be done to bring a database to its target.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the database is; `None`: no script is applied.
    pub from: Option<Version>,
    /// The description of that version.
    pub from_description: Option<String>,
    /// Where it is to go.
    pub to: Version,
    /// To be recorded as present, not run, before anything else.
    pub baseline: Vec<PlannedScript>,
    /// To be applied, in this order.
    pub pending: Vec<PlannedScript>,
    /// Names this plan.
    pub hash: PlanHash,
}

impl Plan {
    /// Whether the ledger already shows what is asked for.
    pub fn is_done(&self) -> bool {
        self.pending.is_empty() && self.baseline.is_empty()
    }
}

/// A script that a plan found fit to run. Only [`plan`] makes one, so what was not classified cannot be applied.
#[derive(Clone, Debug)]
pub struct PlannedScript(Arc<Script>);

impl PlannedScript {
    /// The script.
    pub fn script(&self) -> &Arc<Script> {
        &self.0
    }
}

impl Deref for PlannedScript {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.0
    }
}

/// The plan that brings a database with this ledger to the policy's target.
///
/// # Errors
/// A [`Refusal`] when the history, the ledger and the policy do not fit together: nothing may be run then.
pub fn plan(history: &History, ledger: &Ledger, policy: &Policy) -> Result<Plan, Refusal> {
    let latest = history.latest().ok_or(Refusal::EmptySource)?;
    let target = match &policy.target {
        None => latest,
        Some(version) => history
            .get(version)
            .ok_or_else(|| Refusal::UnknownTarget { target: version.clone(), latest: latest.version.clone() })?,
    };
    agree(history, ledger)?;

    let current = ledger.current();
    if let Some(current) = current.filter(|current| current.version > target.version) {
        return Err(Refusal::TargetBelowCurrent { target: target.version.clone(), current: current.version.clone() });
    }
    let baseline = baseline(history, ledger, policy)?;
    let applied = ledger.versions();
    let pending: Vec<_> = history
        .scripts()
        .filter(|script| script.version <= target.version && !applied.contains(&script.version))
        .filter(|script| baseline.as_ref().is_none_or(|upto| script.version > *upto))
        .map(|script| PlannedScript(script.clone()))
        .collect();

    if let Some(current) = current.filter(|_| !policy.out_of_order)
        && let Some(late) = pending.iter().find(|script| script.version < current.version)
    {
        return Err(Refusal::OutOfOrder { script: late.file_name.clone(), applied: current.file_name.clone() });
    }
    if let Some((script, what)) = pending.iter().find_map(|script| Some((script, script.unsupported.as_ref()?))) {
        return Err(Refusal::UnsupportedScript { script: script.file_name.clone(), what: what.clone() });
    }

    let up_to_target = history.scripts().filter(|script| script.version <= target.version);
    Ok(Plan {
        from: current.map(|row| row.version.clone()),
        from_description: current.map(|row| row.description.clone()),
        to: target.version.clone(),
        baseline: history
            .scripts()
            .filter(|script| baseline.as_ref().is_some_and(|upto| script.version <= *upto))
            .map(|script| PlannedScript(script.clone()))
            .collect(),
        hash: PlanHash::of(up_to_target.map(Arc::as_ref), policy),
        pending,
    })
}

/// What is applied must still be in the history, as it was.
fn agree(history: &History, ledger: &Ledger) -> Result<(), Refusal> {
    for row in &ledger.rows {
        match history.get(&row.version) {
            None if row.retired => {}
            None => return Err(Refusal::MissingScript { script: row.file_name.clone(), version: row.version.clone() }),
            Some(script) if script.checksum != row.checksum => {
                return Err(Refusal::ChecksumMismatch {
                    script: script.file_name.clone(),
                    was: row.checksum,
                    is: script.checksum,
                    applied_at: row.applied_at,
                });
            }
            Some(script) if script.file_name != row.file_name => {
                return Err(Refusal::Renamed { was: row.file_name.clone(), is: script.file_name.clone() });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The version up to which scripts are recorded as present, when the ledger is empty.
fn baseline(history: &History, ledger: &Ledger, policy: &Policy) -> Result<Option<Version>, Refusal> {
    if !ledger.rows.is_empty() {
        return Ok(None);
    }
    match (&policy.baseline, &ledger.first_foreign_table) {
        (Some(version), _) if version.number() == "0" => Ok(None),
        (Some(version), _) => match history.get(version) {
            Some(script) => Ok(Some(script.version.clone())),
            None => Err(Refusal::UnknownBaseline { baseline: version.clone() }),
        },
        (None, Some(table)) => Err(Refusal::BaselineRequired { table: table.clone() }),
        (None, None) => Ok(None),
    }
}
