//! A plan and its scripts, as people read them and as documents have them.

use serde::Serialize;

use super::output::{capital, count};
use crate::api::TransactionMode;
use crate::plan::{Hold, Plan};
use crate::script::{self, Rollback, Script};

/// One script of a plan. The names that status.plan of a Migration has, and a few more.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptSummary {
    pub version: String,
    pub description: String,
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Transaction, SharedTransaction, NoTransaction; or Baseline, or Adopt: recorded, not run.
    pub mode: &'static str,
    pub statements: usize,
    /// yes, no, or "not SQL", which counts as none.
    pub rollback: &'static str,
    /// What it locks of what is there, the strongest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// The first statement after which data that was there could be gone, or not be what it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destructive: Option<String>,
    /// The strongest lock, with the command that takes it.
    #[serde(skip)]
    strongest: Option<String>,
}

/// How a script of a plan gets into the ledger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Transaction,
    SharedTransaction,
    NoTransaction,
    Baseline,
    Adopt,
}

impl Mode {
    /// Of the scripts that a plan records, and does not run.
    pub fn recorded(plan: &Plan) -> Self {
        if plan.adopted.is_some() { Self::Adopt } else { Self::Baseline }
    }

    /// Of a script of a plan that runs so many.
    pub fn of(script: &Script, transaction: TransactionMode, pending: usize) -> Self {
        match transaction {
            _ if script.mode == script::Mode::NoTransaction => Self::NoTransaction,
            TransactionMode::AllPending if pending > 1 => Self::SharedTransaction,
            _ => Self::Transaction,
        }
    }
}

impl ScriptSummary {
    pub fn new(script: &Script, mode: Mode) -> Self {
        let runs = !matches!(mode, Mode::Baseline | Mode::Adopt);
        Self {
            version: script.version.to_string(),
            description: script.title().to_owned(),
            file: script.file_name.clone(),
            author: script.header.author.clone(),
            date: script.header.date.clone(),
            mode: match mode {
                Mode::Transaction => "Transaction",
                Mode::SharedTransaction => "SharedTransaction",
                Mode::NoTransaction => "NoTransaction",
                Mode::Baseline => "Baseline",
                Mode::Adopt => "Adopt",
            },
            statements: script.statement_count,
            rollback: match &script.rollback {
                Rollback::None => "no",
                Rollback::Sql(_) => "yes",
                Rollback::NotSql(_) => "not SQL",
                Rollback::Unsupported(..) => "not runnable",
            },
            locks: if runs { script.lock_lines() } else { Vec::new() },
            destructive: script.destructive_line().filter(|_| runs),
            strongest: strongest(script).filter(|_| runs),
        }
    }

    /// Version, description, author, mode, statements, rollback, the strongest lock, what is destructive.
    pub fn row(&self) -> Vec<String> {
        let mode = match self.mode {
            "Baseline" | "Adopt" => "recorded, not run",
            "SharedTransaction" => "in one transaction with the others",
            "NoTransaction" => "statement by statement",
            _ => "in a transaction",
        };
        vec![
            self.version.clone(),
            capital(&self.description),
            self.author.clone().unwrap_or_default(),
            mode.to_owned(),
            count(self.statements, "statement"),
            format!("rollback: {}", self.rollback),
            self.strongest.clone().unwrap_or_default(),
            self.destructive.as_ref().map(|what| format!("destructive, {what}")).unwrap_or_default(),
        ]
    }
}

/// Version, description, author: the first columns of [`ScriptSummary::row`], for those who need no more of a great many.
pub fn name(script: &Script) -> Vec<String> {
    vec![script.version.to_string(), capital(script.title()), script.header.author.clone().unwrap_or_default()]
}

/// `ALTER TABLE tickets: ACCESS EXCLUSIVE, 2 more`; what no statement names counts among the others.
fn strongest(script: &Script) -> Option<String> {
    let (locks, more) = (script.locks(), script.more_locks());
    let others = (locks.len() + more.len()).checked_sub(1)?;
    let first = match locks.first() {
        Some(lock) => format!("{} {}: {}", lock.command, lock.relation, lock.mode),
        None => more.first().map(|what| format!("locks {what}"))?,
    };
    Some(if others > 0 { format!("{first}, {others} more") } else { first })
}

/// The scripts of a plan, those to be recorded first.
pub fn scripts(plan: &Plan, transaction: TransactionMode) -> (Vec<ScriptSummary>, Vec<ScriptSummary>) {
    let mode = |script: &Script| Mode::of(script, transaction, plan.pending.len());
    (
        plan.baseline.iter().map(|script| ScriptSummary::new(script, Mode::recorded(plan))).collect(),
        plan.pending.iter().map(|script| ScriptSummary::new(script, mode(script))).collect(),
    )
}

/// `1 script to apply, up to 003`, what a plan comes to.
pub fn what(plan: &Plan) -> String {
    let mut parts = Vec::new();
    if let Some(last) = plan.baseline.last() {
        let scripts = count(plan.baseline.len(), "script");
        let says = plan.adopted.as_ref().map(|ledger| format!(", as {ledger} of {} has them", ledger.tool.name()));
        parts.push(format!("{scripts} to record as present, up to {}{}", last.version, says.unwrap_or_default()));
    }
    match plan.pending.last() {
        Some(last) => {
            parts.push(format!("{} to apply, up to {}", count(plan.pending.len(), "script"), last.version));
        }
        None => parts.push("nothing to apply".to_owned()),
    }
    parts.join("; ")
}

/// A plan that Belay does not try again by itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldSummary {
    pub reason: String,
    pub message: String,
    /// RFC 3339.
    pub at: String,
    pub plan: String,
}

impl From<&Hold> for HoldSummary {
    fn from(hold: &Hold) -> Self {
        Self {
            reason: hold.failure.reason.clone(),
            message: hold.failure.message.clone(),
            at: hold.at.to_string(),
            plan: hold.plan.to_string(),
        }
    }
}
