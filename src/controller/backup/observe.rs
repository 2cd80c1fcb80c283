//! Reads everything that a decision rests on.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::decide::method;
use super::job;
use super::pod::{self, JobFacts, Phase};
use crate::api::{DeletionPolicy, PostgresBackup, PostgresDatabase};
use crate::controller::migration::Trouble;
use crate::controller::{Context, connection};

/// What was read for one Backup; [`super::decide::Observed`] borrows from it.
#[derive(Debug)]
pub struct Seen {
    pub backup: PostgresBackup,
    pub database: Option<std::sync::Arc<PostgresDatabase>>,
    pub connection: Result<(), Trouble>,
    pub job: Option<JobFacts>,
    pub deletion: Option<JobFacts>,
}

/// Reads the object itself and all around it. None: it is gone.
///
/// It is read anew and not from the watch's cache: a decision on a status that is older than the Job could take the Job for
/// deleted.
pub async fn observe(cached: &PostgresBackup, context: &Context) -> Result<Option<Seen>, kube::Error> {
    let namespace = cached.namespace().unwrap_or_default();
    let client = &context.client;
    let found = Api::<PostgresBackup>::namespaced(client.clone(), &namespace).get_opt(&cached.name_any()).await?;
    let Some(backup) = found.filter(|found| found.uid() == cached.uid()) else { return Ok(None) };
    let database = context.database(&namespace, &backup.spec.database_ref.name);
    let mut job = look(context, &backup, &job::name(&backup)).await?;
    let deleting =
        backup.metadata.deletion_timestamp.is_some() && backup.spec.deletion_policy == DeletionPolicy::Delete;
    let deletion = if deleting { look(context, &backup, &job::deletion_name(&backup)).await? } else { None };
    let started = job.is_some() || deleting || backup.status.as_ref().is_some_and(|status| status.job.is_some());
    let mut connection = Ok(());
    if let Some(database) = &database {
        if !started && method(&backup, Some(database)).is_some() {
            connection = connection::target(client, &namespace, database).await.map(|_| ());
        }
        // A team's own script may have printed what it should not have.
        if let Some(JobFacts { phase: Phase::Failed { why }, .. }) = &mut job
            && let Ok(target) = connection::target(client, &namespace, database).await
        {
            *why = target.redact(why);
        }
    }
    Ok(Some(Seen { backup, database, connection, job, deletion }))
}

async fn look(context: &Context, backup: &PostgresBackup, name: &str) -> Result<Option<JobFacts>, kube::Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let Some(job) = Api::<Job>::namespaced(context.client.clone(), &namespace).get_opt(name).await? else {
        return Ok(None);
    };
    // By the Job's UID: another Job of the same name can have left Pods.
    let selector = format!("batch.kubernetes.io/controller-uid={}", job.uid().unwrap_or_default());
    let pods = Api::<Pod>::namespaced(context.client.clone(), &namespace);
    let pods = pods.list(&ListParams::default().labels(&selector)).await?;
    let mut facts = pod::facts(&job, &pods.items, backup.uid().as_deref());
    if let Phase::Waiting { why, .. } = &mut facts.phase
        && why.is_none()
    {
        let waiting = pods.items.last().map_or_else(|| job.uid(), ResourceExt::uid);
        *why = warning(context, &namespace, &waiting.unwrap_or_default()).await;
    }
    Ok(Some(facts))
}

/// The last warning about a Job without a Pod, or a Pod without a container: what its status does not say, such as a volume that
/// cannot be mounted, or a Pod that is not let in. Without the right to read events there is none.
async fn warning(context: &Context, namespace: &str, uid: &str) -> Option<String> {
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
    let events = Api::<Event>::namespaced(context.client.clone(), namespace).list(&about).await.ok()?;
    pod::last_warning(&events.items)
}
