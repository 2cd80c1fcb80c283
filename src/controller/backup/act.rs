//! Carries out one step, after the status says what it is.

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::{Api, Client, ResourceExt};

use super::decide::{Step, method};
use super::job::{self, Image};
use super::observe::Seen;
use crate::api::{BACKUP_FINALIZER, PostgresBackup};
use crate::controller::{Context, finalizer, status};

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum Acted {
    /// It is done, or was done before.
    Done,
    /// The Job cannot be made, for a reason that only a person can mend.
    Refused(String),
}

/// Carries out the step.
///
/// # Errors
/// When the API server cannot be asked, or does not take a write; the object is then observed and decided on again.
pub async fn act(seen: &Seen, step: &Step, context: &Context) -> Result<Acted, kube::Error> {
    let backup = &seen.backup;
    let namespace = backup.namespace().unwrap_or_default();
    let jobs = Api::<Job>::namespaced(context.client.clone(), &namespace);
    let image = Image { name: context.image.clone(), pull_policy: context.image_pull_policy.clone() };
    match step {
        Step::Rest => Ok(Acted::Done),
        Step::Hold(hold) => set_finalizer(backup, *hold, &context.client).await.map(|()| Acted::Done),
        Step::Create(method) => {
            let Some(database) = &seen.database else { return Ok(Acted::Done) };
            match job::build(backup, database, method, &image) {
                Ok(mut job) => {
                    let version = seen.secret.clone().map(|version| (job::SECRET_VERSION.to_owned(), version));
                    job.annotations_mut().extend(version);
                    create(&jobs, &job).await.or_else(refused)
                }
                Err(error) => {
                    Ok(Acted::Refused(format!("the Pod template of the backup's method cannot be read: {error}")))
                }
            }
        }
        Step::Erase(store) => {
            let method = method(backup, seen.database.as_deref()).and_then(|method| method.pg_dump.as_ref());
            let template = method.and_then(|dump| dump.pod_template.as_ref());
            match job::build_deletion(backup, store, template, &image) {
                Ok(job) => match create(&jobs, &job).await {
                    // Nothing is made in it any more: what holds the object would hold the namespace for ever.
                    Err(error) if is_of_a_namespace_that_goes(&error) => {
                        let name = backup.name_any();
                        tracing::warn!(
                            namespace,
                            backup = name,
                            "its namespace goes, and takes no Job that deletes its data: the data stays in the store"
                        );
                        set_finalizer(backup, false, &context.client).await.map(|()| Acted::Done)
                    }
                    result => result.or_else(refused),
                },
                Err(error) => {
                    Ok(Acted::Refused(format!("the Pod template of the backup's method cannot be read: {error}")))
                }
            }
        }
        Step::Stop => delete(&jobs, &job::name(backup)).await,
        Step::EraseAgain => delete(&jobs, &job::deletion_name(backup)).await,
    }
}

/// Creates a Job once. One of that name is left as it is: whose it is, the next look tells.
async fn create(jobs: &Api<Job>, job: &Job) -> Result<Acted, kube::Error> {
    match jobs.create(&PostParams::default(), job).await {
        Ok(_) => {
            tracing::info!(job = job.name_any(), namespace = job.namespace(), "created");
            Ok(Acted::Done)
        }
        Err(kube::Error::Api(error)) if error.code == 409 && error.reason == "AlreadyExists" => Ok(Acted::Done),
        Err(error) => Err(error),
    }
}

/// A Job that is not taken because its template is no Pod's, or because an admission policy does not let it in: trying again changes
/// nothing.
fn refused(error: kube::Error) -> Result<Acted, kube::Error> {
    match status::refusal(&error) {
        Some(why) => Ok(Acted::Refused(format!("the Job was refused: {why}"))),
        None => Err(error),
    }
}

fn is_of_a_namespace_that_goes(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// Deletes a Job; it stays to be seen until its Pods are gone.
async fn delete(jobs: &Api<Job>, name: &str) -> Result<Acted, kube::Error> {
    let parameters =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    match jobs.delete(name, &parameters).await {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(Acted::Done),
        result => result.map(|_| Acted::Done),
    }
}

/// Sets the finalizer, or takes it away, without touching those of others: it is a set, and the apply owns its part.
pub async fn set_finalizer(backup: &PostgresBackup, hold: bool, client: &Client) -> Result<(), kube::Error> {
    match hold {
        true => finalizer::set::<PostgresBackup>(&backup.metadata, BACKUP_FINALIZER, "belay-data", client).await,
        false => finalizer::take_away::<PostgresBackup>(&backup.metadata, BACKUP_FINALIZER, client).await,
    }
}
