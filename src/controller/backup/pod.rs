//! What a Job and its Pods say of how far they are, in words for people. Pure.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodStatus};
use kube::ResourceExt;

use crate::api::conditions::truncate;
use crate::backup::Outcome;

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

/// Reads a Job and its Pods. `owner` is the Backup's UID.
pub fn facts(job: &Job, pods: &[Pod], owner: Option<&str>) -> JobFacts {
    let created_at = job.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    JobFacts { name: job.name_any(), created_at, phase: phase(job, pods, owner, created_at) }
}

fn phase(job: &Job, pods: &[Pod], owner: Option<&str>, created_at: Timestamp) -> Phase {
    if !job.owner_references().iter().any(|reference| Some(reference.uid.as_str()) == owner) {
        return Phase::Foreign;
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Phase::Deleting;
    }
    let status = job.status.clone().unwrap_or_default();
    let is = |kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind && condition.status == "True").cloned()
    };
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0));
    if is("Complete").is_some() {
        let succeeded = pods.iter().rev().find(|pod| phase_of(pod) == "Succeeded");
        let outcomes = succeeded.map(|pod| outcomes(pod)).unwrap_or_default();
        return Phase::Complete { at: status.completion_time.map(|at| at.0), outcomes };
    }
    if let Some(failed) = is("Failed") {
        // The newest one that has something to say: one that was evicted before it started has not.
        let why = pods.iter().rev().find_map(|pod| why_it_failed(pod));
        let reason = failed.reason.unwrap_or_default();
        let message = failed.message.unwrap_or_default();
        return Phase::Failed { why: why.unwrap_or_else(|| format!("the Job failed ({reason}): {message}")) };
    }
    let Some(pod) = pods.last() else {
        return Phase::Waiting { since: created_at, why: None };
    };
    if has_started(pod) {
        return Phase::Running;
    }
    let since = pod.metadata.creation_timestamp.as_ref().map_or(created_at, |at| at.0);
    Phase::Waiting { since, why: why_it_waits(pod) }
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
fn why_it_failed(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let told = containers(status).find_map(|container| match Outcome::read(last_words(container)?)? {
        Outcome::Failed(failed) => Some(failed.message),
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
            let words = end.message.as_deref().map(in_one_line).unwrap_or_default();
            let words = if words.is_empty() { String::new() } else { format!(": {words}") };
            Some(format!("container {name} ended with exit code {}{words}", end.exit_code))
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

/// The end of a log, as one line of a message.
fn in_one_line(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let joined = lines.join("; ");
    let mut cut = joined.len().saturating_sub(MAX_WORDS);
    while !joined.is_char_boundary(cut) {
        cut += 1;
    }
    truncate(&joined[cut..], MAX_WORDS)
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
        let failed = job(json!([{ "type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "m" }]));
        match facts(&failed, &[pod(status)], Some("u")).phase {
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
    fn a_pod_that_cannot_start_says_why() {
        let waiting = |status| match facts(&job(json!([])), &[pod(status)], Some("u")).phase {
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
        let none = facts(&job(json!([])), &[], Some("u")).phase;
        assert_eq!(none, Phase::Waiting { since: "2026-01-01T00:00:00Z".parse().unwrap(), why: None });
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
        assert_eq!(facts(&complete, &[], Some("other")).phase, Phase::Foreign);
        assert_eq!(facts(&complete, &[], None).phase, Phase::Foreign);
    }

    #[test]
    fn a_complete_jobs_outcome_is_its_succeeded_pods() {
        let complete = job(json!([{ "type": "Complete", "status": "True" }]));
        let succeeded = json!({ "phase": "Succeeded", "containerStatuses": [{ "name": "backup", "image": "",
            "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 0, "message": "\"deleted\"" } } }] });
        let pods = [pod(ended(json!({ "exitCode": 130 }))), pod(succeeded)];
        let Phase::Complete { outcomes, .. } = facts(&complete, &pods, Some("u")).phase else { panic!() };
        assert_eq!(outcomes, [Outcome::Deleted]);
    }
}
