//! A status → its write, and an event.

use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};

use crate::api::conditions::{self, READY};
use crate::api::{PostgresBackup, PostgresBackupStatus, Reason, State};
use crate::controller::Context;
use crate::controller::status::write;

/// Writes the status, if it says something new.
///
/// # Errors
/// When the API server does not take the write: nothing of the decision is then carried out.
pub async fn report(
    backup: &PostgresBackup,
    status: &PostgresBackupStatus,
    context: &Context,
) -> Result<(), kube::Error> {
    let former = backup.status.clone().unwrap_or_default();
    write(backup, &former, status, &context.client).await?;
    let reason = conditions::reason_of(&status.conditions, READY);
    if let Some(reason) = reason.filter(|_| reason != conditions::reason_of(&former.conditions, READY)) {
        announce(backup, reason, status, context);
        count(backup, reason, context);
    }
    Ok(())
}

/// A Backup that was taken, or failed, is counted.
fn count(backup: &PostgresBackup, reason: Reason, context: &Context) {
    if !matches!(reason, Reason::Succeeded | Reason::BackupFailed) {
        return;
    }
    let created = backup.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let lasted = created.map(|created| jiff::Timestamp::now().duration_since(created));
    let lasted = lasted.and_then(|lasted| lasted.try_into().ok()).unwrap_or_default();
    context.metrics.backup_ended(reason, lasted);
}

/// One log line and one event, each time that the reason changes. Neither holds the reconcile up.
fn announce(backup: &PostgresBackup, reason: Reason, status: &PostgresBackupStatus, context: &Context) {
    let message = status.conditions.iter().find(|condition| condition.type_ == READY);
    let message = message.map(|condition| condition.message.clone()).unwrap_or_default();
    let (name, namespace) = (backup.name_any(), backup.namespace());
    let warn = matches!(reason.state(), State::Stalled | State::Missing);
    if warn {
        tracing::warn!(namespace, backup = name, %reason, "{message}");
    } else {
        tracing::info!(namespace, backup = name, %reason, "{message}");
    }
    let event = Event {
        type_: if warn { EventType::Warning } else { EventType::Normal },
        reason: reason.as_str().to_owned(),
        note: Some(conditions::truncate(&message, 1000)),
        action: "BackUp".to_owned(),
        secondary: None,
    };
    let (recorder, reference) = (context.recorder.clone(), backup.object_ref(&()));
    tokio::spawn(async move {
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::debug!("an event could not be published: {error}");
        }
    });
}
