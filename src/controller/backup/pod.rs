//! What a Job and its Pods say of how far they are, in words for people. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodStatus};
use kube::ResourceExt;

use crate::api::conditions::truncate;
use crate::backup::Outcome;
use crate::postgres::Target;

/// The most of a container's last words that a message repeats, in bytes.
const MAX_WORDS: usize = 600;

/// How far a Job is.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFacts {
    pub name: String,
    /// By the API server's clock.
    pub created_at: Timestamp,
    pub phase: Phase,
}

/// How far a Job is.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// No container of it runs yet, since that moment; and why, if something says so.
    Waiting { since: Timestamp, why: Option<String> },
    /// It works.
    Running,
    /// It succeeded, then, with these last words of Belay's containers.
    Complete { at: Option<Timestamp>, outcomes: Vec<Outcome> },
    /// It failed, and why.
    Failed { why: String },
    /// It is another's: its name was taken.
    Foreign,
    /// It is being deleted.
    Deleting,
}

/// What is quoted of the last words of a container that failed. A team's own script may print what it should not.
#[derive(Clone, Copy, Debug)]
pub enum Words<'a> {
    /// All: the Job has no password.
    All,
    /// All but the password of this target, which is the one that the Job has.
    Without(&'a Target),
    /// None: the Job's password is not known any more.
    None,
}

impl Words<'_> {
    fn of(self, said: &str) -> Option<String> {
        match self {
            Self::All => Some(said.to_owned()),
            Self::Without(target) => Some(target.redact(said)),
            Self::None => None,
        }
    }
}

/// Reads a Job and its Pods. `owner` is the Backup's UID.
pub fn facts(job: &Job, pods: &[Pod], owner: Option<&str>, words: Words<'_>) -> JobFacts {
    let created_at = job.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    JobFacts { name: job.name_any(), created_at, phase: phase(job, pods, owner, created_at, words) }
}

/// Whether the Job has failed for good.
pub fn has_failed(job: &Job) -> bool {
    condition(job, "Failed").is_some()
}

fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|condition| condition.type_ == kind && condition.status == "True")
}

fn phase(job: &Job, pods: &[Pod], owner: Option<&str>, created_at: Timestamp, words: Words<'_>) -> Phase {
    if !job.owner_references().iter().any(|reference| Some(reference.uid.as_str()) == owner) {
        return Phase::Foreign;
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Phase::Deleting;
    }
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
    if condition(job, "Complete").is_some() {
        let succeeded = pods.iter().rev().find(|pod| phase_of(pod) == "Succeeded");
        let outcomes = succeeded.map(|pod| outcomes(pod)).unwrap_or_default();
        let at = job.status.as_ref().and_then(|status| status.completion_time.as_ref());
        return Phase::Complete { at: at.map(|at| at.0), outcomes };
    }
    if let Some(failed) = condition(job, "Failed") {
        // The newest one that has something to say: one that was evicted before it started has not.
        let why = pods.iter().rev().find_map(|pod| why_it_failed(pod, words));
        let reason = failed.reason.as_deref().unwrap_or_default();
        let message = failed.message.as_deref().unwrap_or_default();
        return Phase::Failed { why: why.unwrap_or_else(|| format!("the Job failed ({reason}): {message}")) };
    }
    let Some(pod) = pods.last() else {
        // One whose Pod was taken away makes another after a while, and counts it before it lets it go.
        return Phase::Waiting { since: changed_at(job).unwrap_or(created_at), why: None };
    };
    if has_started(pod) {
        return Phase::Running;
    }
    let since = pod.metadata.creation_timestamp.as_ref().map_or(created_at, |at| at.0);
    Phase::Waiting { since, why: why_it_waits(pod) }
}

/// When the Job's status was last changed.
fn changed_at(job: &Job) -> Option<Timestamp> {
    let fields = job.metadata.managed_fields.iter().flatten();
    let changes = fields.filter(|change| change.subresource.as_deref() == Some("status"));
    changes.filter_map(|change| change.time.as_ref()).map(|at| at.0).max()
}

fn phase_of(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Belay's own containers come first: the init container, then the one that dumps.
fn containers(status: &PodStatus) -> impl DoubleEndedIterator<Item = &ContainerStatus> {
    status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
}

fn outcomes(pod: &Pod) -> Vec<Outcome> {
    let status = pod.status.iter();
    status.flat_map(containers).filter_map(|container| Outcome::read(last_words(container)?)).collect()
}

fn last_words(container: &ContainerStatus) -> Option<&str> {
    container.state.as_ref()?.terminated.as_ref()?.message.as_deref()
}

fn has_started(pod: &Pod) -> bool {
    let running = |container: &ContainerStatus| {
        container.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    phase_of(pod) == "Running" || pod.status.iter().flat_map(containers).any(running)
}

/// Why no container of a Pod runs yet: what the scheduler says, or what the kubelet says of images and Secrets.
fn why_it_waits(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return condition.message.clone().or_else(|| condition.reason.clone());
    }
    containers(status).find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        match (waiting.reason.as_deref()?, waiting.message.as_deref()) {
            // Every Pod passes these.
            ("ContainerCreating" | "PodInitializing", _) => None,
            (reason, Some(message)) => Some(format!("{reason}: {message}")),
            (reason, None) => Some(reason.to_owned()),
        }
    })
}

/// Why a Pod failed. None: it did not, or says nothing.
fn why_it_failed(pod: &Pod, words: Words<'_>) -> Option<String> {
    let status = pod.status.as_ref()?;
    let told = containers(status).find_map(|container| match Outcome::read(last_words(container)?)? {
        Outcome::Failed(failed) => words.of(&failed.message),
        _ => None,
    });
    let disrupted = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True")
        .map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or("DisruptionTarget");
            format!("its Pod was taken away ({reason}): {}", condition.message.as_deref().unwrap_or_default())
        });
    let evicted = (status.reason.as_deref() == Some("Evicted"))
        .then(|| format!("its Pod was evicted: {}", status.message.as_deref().unwrap_or_default()));
    let ended = || {
        containers(status).find_map(|container| {
            let end = container.state.as_ref()?.terminated.as_ref().filter(|end| end.exit_code != 0)?;
            let name = &container.name;
            if end.reason.as_deref() == Some("OOMKilled") {
                return Some(format!(
                    "container {name} needed more memory than its limit (OOMKilled): raise it in the Pod template"
                ));
            }
            let said = match end.message.as_deref().map(|said| words.of(said)) {
                Some(Some(said)) => in_one_line(&said),
                Some(None) => {
                    "its Secret is another one by now, or cannot be read, so that its words are not told here: see its Pod's log"
                        .to_owned()
                }
                None => String::new(),
            };
            let said = if said.is_empty() { said } else { format!(": {said}") };
            Some(format!("container {name} ended with exit code {}{said}", end.exit_code))
        })
    };
    // An eviction makes Belay say that it was interrupted: why it was is the better answer.
    evicted.or(disrupted).or(told).or_else(ended).or_else(|| status.message.clone())
}

/// What the newest of these events says.
pub fn last_warning(events: &[Event]) -> Option<String> {
    let newest = events.iter().max_by_key(|event| {
        let seen = event.last_timestamp.as_ref().map(|at| at.0).or(event.event_time.as_ref().map(|at| at.0));
        seen.or(event.metadata.creation_timestamp.as_ref().map(|at| at.0))
    })?;
    let message = truncate(&in_one_line(newest.message.as_deref()?), MAX_WORDS);
    Some(format!("{}: {message}", newest.reason.as_deref().unwrap_or("Warning")))
}

/// The end of a log, as one line of a message. Never the beginning of a long one, however much white space follows: the kubelet cuts
/// there, maybe through a password.
fn in_one_line(log: &str) -> String {
    let lines: Vec<&str> = end(log).lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    end(&lines.join("; ")).to_owned()
}

/// The last [`MAX_WORDS`] bytes, or a few less.
fn end(text: &str) -> &str {
    let mut cut = text.len().saturating_sub(MAX_WORDS);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    &text[cut..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(conditions: serde_json::Value) -> Job {
        serde_json::from_value(json!({
            "metadata": { "name": "j", "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{ "apiVersion": "v", "kind": "k", "name": "n", "uid": "u" }] },
            "status": { "conditions": conditions },
        }))
        .unwrap()
    }

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "creationTimestamp": "2026-01-01T00:00:05Z" }, "status": status,
        }))
        .unwrap()
    }

    fn why(status: serde_json::Value) -> String {
        why_in(status, Words::All)
    }

    fn why_in(status: serde_json::Value, words: Words<'_>) -> String {
        let failed = job(json!([{ "type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "m" }]));
        match facts(&failed, &[pod(status)], Some("u"), words).phase {
            Phase::Failed { why } => why,
            other => panic!("{other:?}"),
        }
    }

    fn ended(container: serde_json::Value) -> serde_json::Value {
        json!({ "phase": "Failed", "containerStatuses": [{ "name": "backup", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "terminated": container } }] })
    }

    #[test]
    fn a_failed_jobs_words_are_belays_own_else_the_kubelets_else_the_logs() {
        let own = json!({ "exitCode": 1, "message": r#"{"failed":{"message":"the volume is full"}}"# });
        assert_eq!(why(ended(own.clone())), "the volume is full");
        let killed = json!({ "exitCode": 137, "reason": "OOMKilled" });
        assert!(why(ended(killed)).contains("needed more memory than its limit"));
        let log = json!({ "exitCode": 2, "message": "one\n\ntwo\n" });
        assert_eq!(why(ended(log)), "container backup ended with exit code 2: one; two");
        let mut evicted = ended(own);
        evicted["reason"] = json!("Evicted");
        evicted["message"] = json!("The node was low on resource: memory.");
        assert_eq!(why(evicted), "its Pod was evicted: The node was low on resource: memory.");
        assert_eq!(why(json!({ "phase": "Failed" })), "the Job failed (PodFailurePolicy): m");
    }

    #[test]
    fn a_password_is_blotted_out_also_where_the_words_are_cut() {
        let target = Target::from_url("postgres://me:hunter2@db/shop").unwrap();
        let cut_by_belay = format!("a hunter2{}", "z".repeat(MAX_WORDS - 4));
        let cut_by_the_kubelet = format!("ter2{}zzz", " \n".repeat(1020));
        for log in [cut_by_belay, cut_by_the_kubelet] {
            let said = why_in(ended(json!({ "exitCode": 2, "message": log })), Words::Without(&target));
            assert!(!said.contains("ter2") && said.ends_with("zzz"), "{said}");
        }
        let own = json!({ "exitCode": 1, "message": r#"{"failed":{"message":"it is hunter2"}}"# });
        assert_eq!(why_in(ended(own), Words::Without(&target)), "it is ********");
    }

    #[test]
    fn where_the_password_is_not_known_any_more_only_kubernetes_is_quoted() {
        for message in [r#"{"failed":{"message":"it is hunter2"}}"#, "it is\nhunter2"] {
            let said = why_in(ended(json!({ "exitCode": 2, "message": message })), Words::None);
            assert!(said.starts_with("container backup ended with exit code 2: "), "{said}");
            assert!(said.contains("see its Pod's log") && !said.contains("hunter2"), "{said}");
        }
        let killed = json!({ "exitCode": 137, "reason": "OOMKilled", "message": "hunter2" });
        assert!(why_in(ended(killed), Words::None).contains("needed more memory than its limit"));
        assert_eq!(why_in(ended(json!({ "exitCode": 2 })), Words::None), "container backup ended with exit code 2");
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let waiting = |status| match facts(&job(json!([])), &[pod(status)], Some("u"), Words::All).phase {
            Phase::Waiting { since, why } => (since.to_string(), why),
            other => panic!("{other:?}"),
        };
        let unscheduled = json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "persistentvolumeclaim \"x\" not found" }] });
        let (since, why) = waiting(unscheduled);
        assert_eq!(since, "2026-01-01T00:00:05Z");
        assert_eq!(why.as_deref(), Some("persistentvolumeclaim \"x\" not found"));
        let container = |reason: &str| {
            json!({ "phase": "Pending", "containerStatuses": [{ "name": "backup", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": { "waiting": { "reason": reason, "message": "m" } } }] })
        };
        assert_eq!(waiting(container("ImagePullBackOff")).1.as_deref(), Some("ImagePullBackOff: m"));
        assert_eq!(waiting(container("ContainerCreating")).1, None);
        let none = facts(&job(json!([])), &[], Some("u"), Words::All).phase;
        assert_eq!(none, Phase::Waiting { since: "2026-01-01T00:00:00Z".parse().unwrap(), why: None });
    }

    #[test]
    fn a_job_whose_pod_was_taken_away_has_as_long_as_at_first_to_start_another() {
        let mut job = job(json!([]));
        let change = |subresource: &str, time: &str| json!({ "subresource": subresource, "time": time });
        let changes = json!([
            { "time": "2026-01-01T00:30:00Z" },
            change("status", "2026-01-01T00:00:01Z"),
            change("status", "2026-01-01T00:20:00Z"),
        ]);
        job.metadata.managed_fields = serde_json::from_value(changes).unwrap();
        let between = facts(&job, &[], Some("u"), Words::All).phase;
        assert_eq!(between, Phase::Waiting { since: "2026-01-01T00:20:00Z".parse().unwrap(), why: None });
    }

    #[test]
    fn the_newest_warning_is_told() {
        let event = |reason: &str, minute: u32| -> Event {
            serde_json::from_value(json!({ "metadata": {}, "involvedObject": {}, "reason": reason, "message": "m\nn",
                "lastTimestamp": format!("2026-01-01T00:{minute:02}:00Z") }))
            .unwrap()
        };
        let events = [event("FailedMount", 1), event("FailedAttachVolume", 2), event("Old", 0)];
        assert_eq!(last_warning(&events).as_deref(), Some("FailedAttachVolume: m; n"));
        assert_eq!(last_warning(&[]), None);
    }

    #[test]
    fn a_job_of_another_is_never_taken_for_ones_own() {
        let complete = job(json!([{ "type": "Complete", "status": "True" }]));
        assert_eq!(facts(&complete, &[], Some("other"), Words::All).phase, Phase::Foreign);
        assert_eq!(facts(&complete, &[], None, Words::All).phase, Phase::Foreign);
    }

    #[test]
    fn a_complete_jobs_outcome_is_its_succeeded_pods() {
        let complete = job(json!([{ "type": "Complete", "status": "True" }]));
        let succeeded = json!({ "phase": "Succeeded", "containerStatuses": [{ "name": "backup", "image": "",
            "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "message": "\"deleted\"" } } }] });
        let pods = [pod(ended(json!({ "exitCode": 130 }))), pod(succeeded)];
        let Phase::Complete { outcomes, .. } = facts(&complete, &pods, Some("u"), Words::All).phase else { panic!() };
        assert_eq!(outcomes, [Outcome::Deleted]);
    }
}
