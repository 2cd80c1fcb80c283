//! Which backup stands below a run: an older one that still holds, one of its own, or none.

use jiff::Timestamp;

use super::observe::Observed;
use super::view::{Inspection, View};
use crate::api::{BackupWhen, PostgresBackup, conditions};
use crate::backup;
use crate::plan::Plan;

/// The backup below a run.
pub enum Below<'a> {
    /// The policy asks for none.
    NotAsked,
    /// It asks for one, and does not say how.
    NotConfigured,
    Have(&'a PostgresBackup),
    Running(&'a PostgresBackup),
    Failed(&'a PostgresBackup),
    /// One of this name is to be made.
    Create(String),
}

/// Which backup a run that is about to apply `plan` has below it.
pub fn below<'a>(o: &'a Observed, run: &View, inspection: &Inspection, plan: &Plan, now: Timestamp) -> Below<'a> {
    let Ok(database) = &o.database else { return Below::NotConfigured };
    let policy = &database.spec.backup;
    let asked = match o.backup_when() {
        BackupWhen::Never => false,
        BackupWhen::BeforeDestructive => plan.pending.iter().any(|script| script.destructive().is_some()),
        BackupWhen::Always => true,
    };
    if !asked {
        return Below::NotAsked;
    }
    let Some(method) = &policy.method else { return Below::NotConfigured };
    let version = inspection.ledger.current().map(|row| row.version.as_written());
    let (identity, max_age) = (&inspection.identity, policy.max_age.get());
    let usable = backup::Usable { method, identity, version, run: &run.id, max_age, now };
    if let Some(backup) = o.backups.iter().find(|backup| usable.holds(backup)) {
        return Below::Have(backup);
    }
    // The newest that was made for this very plan says how far it is, also after a restart.
    let mut own: Vec<&PostgresBackup> = o
        .backups
        .iter()
        .map(AsRef::as_ref)
        .filter(|backup| backup::plan_of(backup) == Some(plan.hash.as_str()))
        .filter(|backup| backup.metadata.deletion_timestamp.is_none())
        .collect();
    own.sort_by_key(|backup| backup.metadata.creation_timestamp.as_ref().map(|at| at.0));
    let create = || Below::Create(backup::name_for(&o.name, &run.id, &o.backups));
    let Some(last) = own.last() else { return create() };
    let status = last.status.as_ref();
    let ended = status.is_some_and(|s| conditions::is_true(&s.conditions, conditions::STALLED));
    let ready = status.is_some_and(|s| conditions::is_true(&s.conditions, conditions::READY));
    let created = last.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
    let same_policy = backup::database_generation_of(last) == Some(o.key.database_generation);
    match (ended, ready) {
        (false, false) => Below::Running(last),
        (true, _) if same_policy && !o.request_is_after(created) => Below::Failed(last),
        _ => create(),
    }
}
