//! History × ledger × policy → [`Plan`], or a [`Refusal`] that says what to do.
//!
//! Pure: what the ledger said and what the source held come in as values. Reading them is the task of
//! [`crate::postgres`] and [`crate::source`]; running a plan, of [`crate::postgres`].

mod adopt;
mod begun;
mod drift;
mod foreign;
mod hash;
mod ledger;
mod refusal;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::sync::Arc;

pub use begun::{Begun, BegunStatement, Edited, edited};
pub use drift::{Drift, Taken, begun_apart, drift, taken};
pub use foreign::{ForeignLedger, ForeignRow, Tool, crc32};
pub use hash::PlanHash;
pub use ledger::{Applied, Hold, Ledger};
pub use refusal::Refusal;

use crate::api::TransactionMode;
use crate::script::{History, Mode, Reread, Script, Version};

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
    /// With an empty ledger and no baseline: what another tool's ledger says was applied is recorded, not run.
    pub adopt: bool,
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
    /// The ledger that says so; absent: the policy's baseline does.
    pub adopted: Option<Arc<ForeignLedger>>,
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

    /// The same, with its text: see [`Script::whole`].
    ///
    /// # Errors
    /// When it can no longer be had.
    pub fn whole(&self) -> Result<Self, Reread> {
        self.0.whole().map(Self)
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
    if let Some(begun) = ledger.begun.iter().find(|begun| begun.version > target.version) {
        return Err(Refusal::TargetBelowBegun { target: target.version.clone(), begun: begun.clone() });
    }
    let Recorded { scripts: recorded, adopted } = recorded(history, ledger, policy)?;
    let highest = recorded.last().filter(|_| adopted.is_some());
    if let Some(highest) = highest.filter(|highest| highest.version > target.version) {
        return Err(Refusal::TargetBelowCurrent { target: target.version.clone(), current: highest.version.clone() });
    }
    let mut there = ledger.versions();
    there.extend(recorded.iter().map(|script| &script.version));
    let pending: Vec<_> = history
        .scripts()
        .filter(|script| script.version <= target.version && !there.contains(&script.version))
        .map(|script| PlannedScript(script.clone()))
        .collect();

    // What is done of a script that is begun was run too.
    let begun = ledger.begun.iter().map(|begun| (&begun.version, &begun.file));
    let highest = current
        .map(|row| (&row.version, &row.file_name))
        .or(highest.map(|script| (&script.version, &script.file_name)))
        .into_iter()
        .chain(begun)
        .max();
    if let Some((version, applied)) = highest.filter(|_| !policy.out_of_order)
        && let Some(late) = pending.iter().find(|script| script.version < *version)
    {
        return Err(Refusal::OutOfOrder { script: late.file_name.clone(), applied: applied.clone() });
    }
    if let Some((script, what)) = pending.iter().find_map(|script| Some((script, script.unsupported.as_ref()?))) {
        return Err(Refusal::UnsupportedScript { script: script.file_name.clone(), what: what.clone() });
    }

    if policy.transaction == TransactionMode::AllPending
        && let Some(script) = pending.iter().find(|script| script.mode == Mode::NoTransaction)
    {
        return Err(Refusal::NotInOneTransaction { script: script.file_name.clone() });
    }

    let up_to_target = history.scripts().filter(|script| script.version <= target.version);
    Ok(Plan {
        from: current.map(|row| row.version.clone()),
        from_description: current.map(|row| row.description.clone()),
        to: target.version.clone(),
        baseline: recorded.into_iter().map(PlannedScript).collect(),
        adopted,
        hash: PlanHash::of(up_to_target.map(Arc::as_ref), policy),
        pending,
    })
}

/// What is applied must still be in the history, as it was; and so must be what is done of scripts that are begun.
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
    match begun_apart(history, ledger).next() {
        Some((_, refusal)) => Err(refusal),
        None => Ok(()),
    }
}

/// What is recorded as present when the ledger is empty, and whose ledger says so.
#[derive(Default)]
struct Recorded {
    /// In the order of their versions.
    scripts: Vec<Arc<Script>>,
    adopted: Option<Arc<ForeignLedger>>,
}

/// A baseline is a person's word, and goes before what another tool wrote.
fn recorded(history: &History, ledger: &Ledger, policy: &Policy) -> Result<Recorded, Refusal> {
    if !ledger.rows.is_empty() {
        return Ok(Recorded::default());
    }
    if let Some(version) = &policy.baseline {
        let scripts = up_to(history, version)?;
        let is_recorded = |begun: &&Begun| scripts.iter().any(|script| script.version == begun.version);
        return match ledger.begun.iter().find(is_recorded) {
            Some(begun) => Err(Refusal::BaselineOverBegun { baseline: version.clone(), begun: begun.clone() }),
            None => Ok(Recorded { scripts, adopted: None }),
        };
    }
    if policy.adopt
        && let Some(adoption) = adopt::adopt(history, ledger)?
    {
        return Ok(Recorded { scripts: adoption.scripts, adopted: Some(Arc::new(adoption.ledger)) });
    }
    match &ledger.first_foreign_table {
        Some(table) => {
            let known = adopt::fitting(history.layout(), &ledger.foreign).next().filter(|_| !policy.adopt);
            let known = known.map(|ledger| (adopt::told(ledger), ledger.tool.layout()));
            Err(Refusal::BaselineRequired { table: table.clone(), known })
        }
        None => Ok(Recorded::default()),
    }
}

fn up_to(history: &History, version: &Version) -> Result<Vec<Arc<Script>>, Refusal> {
    match history.get(version) {
        _ if version.number() == "0" => Ok(Vec::new()),
        Some(last) => Ok(history.scripts().filter(|script| script.version <= last.version).cloned().collect()),
        None => Err(Refusal::UnknownBaseline { baseline: version.clone() }),
    }
}
