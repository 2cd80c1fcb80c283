//! What a look saw → the Database's status.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::look::Look;
use crate::api::{LastBackup, PostgresBackup, PostgresDatabase, PostgresDatabaseStatus, Reason, conditions};
use crate::controller::{Context, status};

/// Writes what was seen, if it is new.
///
/// # Errors
/// When the API server does not take the write.
pub async fn report(
    database: &PostgresDatabase,
    look: &Look,
    context: &Context,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let old = database.status.clone().unwrap_or_default();
    let backups = context.backups_of(&database.namespace().unwrap_or_default(), &database.name_any());
    let mut new = PostgresDatabaseStatus {
        observed_generation: database.metadata.generation,
        last_backup: backups.iter().filter_map(|backup| last(backup)).max_by(|a, b| a.snapshot_at.cmp(&b.snapshot_at)),
        ..old.clone()
    };
    let failing = look.failing_since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
    let (reason, message) = match &look.seen {
        Ok(seen) => {
            new.server_version = Some(seen.identity.server_version.clone());
            new.system_identifier = seen.identity.system_identifier.clone();
            new.database_oid = Some(seen.identity.database_oid);
            new.size_bytes = Some(told_size(old.size_bytes, seen.size_bytes));
            new.version = seen.version.as_ref().map(ToString::to_string);
            let at = seen
                .version
                .as_ref()
                .map_or("no script is applied".to_owned(), |version| format!("the ledger shows {version}"));
            (Reason::Succeeded, format!("PostgreSQL {} answers; {at}.", seen.identity.server_version))
        }
        Err(trouble) => (trouble.reason, trouble.message.clone()),
    };
    let generation = database.metadata.generation;
    conditions::set_summary(&mut new.conditions, (reason, &message), failing.unwrap_or_default(), generation, now);
    status::write(database, &old, &new, &context.client).await
}

fn last(backup: &PostgresBackup) -> Option<LastBackup> {
    let status = backup.status.as_ref().filter(|status| conditions::is_true(&status.conditions, conditions::READY))?;
    Some(LastBackup {
        name: backup.name_any(),
        snapshot_at: status.snapshot_at.clone()?,
        version: status.ledger_version.clone(),
    })
}

/// A size that has hardly changed is no news: else every look at a database in use would be a write to the API server.
fn told_size(told: Option<i64>, seen: i64) -> i64 {
    told.filter(|told| seen.abs_diff(*told) <= told.unsigned_abs() / 20).unwrap_or(seen)
}

#[cfg(test)]
mod tests {
    use super::told_size;

    #[test]
    fn a_size_is_told_anew_when_it_has_changed_by_more_than_a_twentieth() {
        assert_eq!(told_size(None, 1000), 1000);
        assert_eq!(told_size(Some(1000), 1050), 1000);
        assert_eq!(told_size(Some(1000), 950), 1000);
        assert_eq!(told_size(Some(1000), 1051), 1051);
        assert_eq!(told_size(Some(1000), 0), 0);
        assert_eq!(told_size(Some(0), 1), 1);
    }
}
