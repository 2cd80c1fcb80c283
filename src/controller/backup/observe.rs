//! Reads everything that a decision rests on.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::decide::method;
use super::job;
use super::pod::{self, JobFacts, Phase, Words};
use crate::api::{DeletionPolicy, PostgresBackup, PostgresDatabase};
use crate::controller::migration::Trouble;
use crate::controller::{Context, connection};
use crate::postgres::Target;

/// What was read for one Backup; [`super::decide::Observed`] borrows from it.
#[derive(Debug)]
pub struct Seen {
    pub backup: PostgresBackup,
    pub database: Option<std::sync::Arc<PostgresDatabase>>,
    pub connection: Result<(), Trouble>,
    /// The resource version of the connection's Secret, as far as a Job is to be made of it.
    pub secret: Option<String>,
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
    let found = find(context, &backup, &job::name(&backup)).await?;
    let target = match &found {
        Some((job, _)) if pod::has_failed(job) => target_of(job, database.as_deref(), context).await?,
        _ => None,
    };
    let words = target.as_ref().map_or(Words::None, Words::Without);
    let job = facts(context, &backup, found, words).await;
    let deleting =
        backup.metadata.deletion_timestamp.is_some() && backup.spec.deletion_policy == DeletionPolicy::Delete;
    let found = if deleting { find(context, &backup, &job::deletion_name(&backup)).await? } else { None };
    let deletion = facts(context, &backup, found, Words::All).await;
    let started = job.is_some() || deleting || backup.status.as_ref().is_some_and(|status| status.job.is_some());
    let (mut connection, mut secret) = (Ok(()), None);
    if let Some(database) = &database
        && !started
        && method(&backup, Some(database)).is_some()
    {
        secret = version_of_secret(database, context).await?;
        connection = connection::target(client, &namespace, database).await.map(|_| ());
    }
    Ok(Some(Seen { backup, database, connection, secret, job, deletion }))
}

/// The connection that a Job was made with. None: its Secret was written to since, or cannot be read any more.
async fn target_of(
    job: &Job,
    database: Option<&PostgresDatabase>,
    context: &Context,
) -> Result<Option<Target>, kube::Error> {
    let Some(database) = database else { return Ok(None) };
    let namespace = job.namespace().unwrap_or_default();
    let target = connection::target(&context.client, &namespace, database).await.ok();
    // Read after it: a Secret that is now as it was then has been so in between.
    let version = version_of_secret(database, context).await?;
    let same = version.is_some() && version.as_ref() == job.annotations().get(job::SECRET_VERSION);
    Ok(target.filter(|_| same))
}

/// The resource version of a connection's Secret. None: it is not there, or may not be read.
async fn version_of_secret(database: &PostgresDatabase, context: &Context) -> Result<Option<String>, kube::Error> {
    let secrets = Api::<Secret>::namespaced(context.client.clone(), &database.namespace().unwrap_or_default());
    match secrets.get_metadata_opt(&database.spec.connection.secret_ref.name).await {
        Err(kube::Error::Api(error)) if error.code == 403 => Ok(None),
        found => Ok(found?.and_then(|secret| secret.resource_version())),
    }
}

/// A Job and its Pods.
async fn find(context: &Context, backup: &PostgresBackup, name: &str) -> Result<Option<(Job, Vec<Pod>)>, kube::Error> {
    let namespace = backup.namespace().unwrap_or_default();
    let Some(job) = Api::<Job>::namespaced(context.client.clone(), &namespace).get_opt(name).await? else {
        return Ok(None);
    };
    // By the Job's UID: another Job of the same name can have left Pods.
    let selector = format!("batch.kubernetes.io/controller-uid={}", job.uid().unwrap_or_default());
    let pods = Api::<Pod>::namespaced(context.client.clone(), &namespace);
    let pods = pods.list(&ListParams::default().labels(&selector)).await?;
    Ok(Some((job, pods.items)))
}

async fn facts(
    context: &Context,
    backup: &PostgresBackup,
    found: Option<(Job, Vec<Pod>)>,
    words: Words<'_>,
) -> Option<JobFacts> {
    let (job, pods) = found?;
    let mut facts = pod::facts(&job, &pods, backup.uid().as_deref(), words);
    if let Phase::Waiting { why, .. } = &mut facts.phase
        && why.is_none()
    {
        let waiting = pods.last().map_or_else(|| job.uid(), ResourceExt::uid);
        *why = warning(context, &backup.namespace().unwrap_or_default(), &waiting.unwrap_or_default()).await;
    }
    Some(facts)
}

/// The last warning about a Job without a Pod, or a Pod without a container: what its status does not say, such as a volume that
/// cannot be mounted, or a Pod that is not let in. Without the right to read events there is none.
async fn warning(context: &Context, namespace: &str, uid: &str) -> Option<String> {
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
    let events = Api::<Event>::namespaced(context.client.clone(), namespace).list(&about).await.ok()?;
    pod::last_warning(&events.items)
}
