//! Does a Job of the team's own succeed? One Job a run of the checks: it is made once, watched, and taken away; one that failed stays
//! for its log. Whatever becomes of the operator meanwhile, it ends with its check, and goes a while later.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Resource, ResourceExt};

use super::{Seen, Setting};
use crate::api::{HealthCheck, JobCheck, MIGRATION_LABEL, Migration};

/// The annotation with the check's name.
const CHECK: &str = "belay.dev/check";
/// Long enough to read a log; a check that does not pass is tried again, and the Job that failed before goes then.
const TTL_SECONDS: i32 = 3600;

/// The Job of one check, in one run of the checks.
pub(super) struct Run {
    jobs: Api<Job>,
    wanted: Result<Job, String>,
    created: Option<String>,
    failed: bool,
}

impl Run {
    pub(super) fn new(spec: &JobCheck, check: &HealthCheck, timeout: Duration, setting: &Setting<'_>) -> Self {
        Self {
            jobs: Api::namespaced(setting.client.clone(), setting.namespace),
            wanted: job(spec, check, timeout, setting),
            created: None,
            failed: false,
        }
    }

    pub(super) async fn check(&mut self) -> Seen {
        let wanted = match &self.wanted {
            Ok(job) => job,
            Err(why) => return Seen::Refused(why.clone()),
        };
        let Some(name) = &self.created else {
            return match self.jobs.create(&PostParams::default(), wanted).await {
                Ok(job) => {
                    let name = job.metadata.name.unwrap_or_default();
                    let seen = Seen::NotYet(format!("Job {name} was created"));
                    self.created = Some(name);
                    seen
                }
                Err(kube::Error::Api(error)) if (400..500).contains(&error.code) && error.code != 429 => {
                    Seen::Refused(format!("its Job is not accepted: {}", error.message))
                }
                Err(error) => Seen::NotYet(format!("its Job cannot be created: {error}")),
            };
        };
        match self.jobs.get_opt(name).await {
            Err(error) => Seen::NotYet(format!("Job {name} cannot be read: {error}")),
            Ok(None) => Seen::Failed(format!("Job {name} was deleted before it was done")),
            Ok(Some(job)) => {
                let seen = ended(&job).unwrap_or_else(|| Seen::NotYet(format!("Job {name} is still running")));
                self.failed = matches!(seen, Seen::Failed(_));
                seen
            }
        }
    }

    /// Takes the Job away, with its Pods; or, where it failed, those that failed before it.
    pub(super) async fn end(self) {
        let Some(name) = &self.created else { return };
        let gone = if self.failed { self.former(name).await } else { vec![name.clone()] };
        for name in gone {
            if let Err(error) = self.jobs.delete(&name, &DeleteParams::background()).await {
                tracing::warn!(job = name, "the check's Job could not be deleted: {error}");
            }
        }
    }

    /// The other Jobs of this check.
    async fn former(&self, name: &str) -> Vec<String> {
        let Ok(wanted) = &self.wanted else { return Vec::new() };
        let migration = wanted.labels().get(MIGRATION_LABEL).map(String::as_str).unwrap_or_default();
        let its = ListParams::default().labels(&format!("{MIGRATION_LABEL}={migration}"));
        let jobs = self.jobs.list(&its).await.inspect_err(|error| {
            tracing::warn!(job = name, "the Jobs that failed before it could not be listed: {error}");
        });
        let jobs = jobs.into_iter().flat_map(|jobs| jobs.items);
        let former = jobs.filter(|job| {
            let same = job.annotations().get(CHECK) == wanted.annotations().get(CHECK);
            same && job.owner_references() == wanted.owner_references() && job.name_any() != name
        });
        former.map(|job| job.name_any()).collect()
    }
}

fn ended(job: &Job) -> Option<Seen> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter(|c| c.status == "True").find_map(|condition| match condition.type_.as_str() {
        "Complete" => Some(Seen::Passed),
        "Failed" => {
            let why = condition.message.as_deref().unwrap_or("it failed");
            Some(Seen::Failed(format!("Job {name}: {why}; see its Pod's log")))
        }
        _ => None,
    })
}

fn job(spec: &JobCheck, check: &HealthCheck, timeout: Duration, setting: &Setting<'_>) -> Result<Job, String> {
    let mut template = spec.template.read().map_err(|error| format!("job.template is no PodTemplateSpec: {error}"))?;
    let Some(pod) = &mut template.spec else { return Err("job.template has no spec".to_owned()) };
    if pod.restart_policy.as_deref().is_none_or(|policy| policy == "Always") {
        pod.restart_policy = Some("Never".to_owned());
    }
    let labels = [(MIGRATION_LABEL.to_owned(), setting.migration.to_owned())];
    template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels.clone());
    Ok(Job {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-check-", cut(setting.migration, 40))),
            namespace: Some(setting.namespace.to_owned()),
            labels: Some(labels.into()),
            annotations: Some(
                [("belay.dev/run".to_owned(), setting.run.to_string()), (CHECK.to_owned(), check.name.clone())].into(),
            ),
            owner_references: Some(vec![OwnerReference {
                api_version: Migration::api_version(&()).into_owned(),
                kind: Migration::kind(&()).into_owned(),
                name: setting.migration.to_owned(),
                uid: setting.uid.to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            template,
            backoff_limit: Some(0),
            active_deadline_seconds: Some(whole_seconds(timeout)),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// As many seconds, and one at least.
fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1)
}

fn cut(text: &str, max: usize) -> &str {
    text.get(..max).unwrap_or(text)
}
