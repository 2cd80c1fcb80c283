//! Is a Deployment, StatefulSet or DaemonSet rolled out and available? As `kubectl rollout status` sees it.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::Api;

use super::{Seen, Setting};
use crate::api::{WorkloadCheck, WorkloadKind};

/// What a rollout has come to.
#[derive(Debug, PartialEq, Eq)]
struct Rollout {
    generation: i64,
    observed: i64,
    desired: i32,
    updated: i32,
    available: i32,
    /// All replicas, old ones too.
    total: i32,
}

pub(super) async fn check(check: &WorkloadCheck, setting: &Setting<'_>) -> Seen {
    let (client, namespace) = (setting.client.clone(), setting.namespace);
    let name = &check.name;
    let rollout = match check.kind {
        WorkloadKind::Deployment => {
            Api::namespaced(client, namespace).get_opt(name).await.map(|found| found.map(deployment))
        }
        WorkloadKind::StatefulSet => {
            Api::namespaced(client, namespace).get_opt(name).await.map(|found| found.map(stateful_set))
        }
        WorkloadKind::DaemonSet => {
            Api::namespaced(client, namespace).get_opt(name).await.map(|found| found.map(daemon_set))
        }
    };
    match rollout {
        Err(error) => Seen::NotYet(format!("{:?} {name} cannot be read: {error}", check.kind)),
        Ok(None) if check.if_present => Seen::Passed,
        Ok(None) => Seen::NotYet(format!("{:?} {name} does not exist", check.kind)),
        Ok(Some(rollout)) => match lacks(&rollout) {
            None => Seen::Passed,
            Some(lacks) => Seen::NotYet(format!("{:?} {name}: {lacks}", check.kind)),
        },
    }
}

/// What is still to come, in words.
fn lacks(rollout: &Rollout) -> Option<String> {
    let Rollout { generation, observed, desired, updated, available, total } = *rollout;
    if observed < generation {
        Some("its controller has not seen its spec yet".to_owned())
    } else if updated < desired {
        Some(format!("{updated} of {desired} replicas are updated"))
    } else if total > updated {
        Some(format!("{} old replicas are still there", total - updated))
    } else if available < desired {
        Some(format!("{available} of {desired} replicas are available"))
    } else {
        None
    }
}

fn deployment(found: Deployment) -> Rollout {
    let status = found.status.unwrap_or_default();
    Rollout {
        generation: found.metadata.generation.unwrap_or_default(),
        observed: status.observed_generation.unwrap_or_default(),
        desired: found.spec.and_then(|spec| spec.replicas).unwrap_or(1),
        updated: status.updated_replicas.unwrap_or_default(),
        available: status.available_replicas.unwrap_or_default(),
        total: status.replicas.unwrap_or_default(),
    }
}

fn stateful_set(found: StatefulSet) -> Rollout {
    let status = found.status.unwrap_or_default();
    Rollout {
        generation: found.metadata.generation.unwrap_or_default(),
        observed: status.observed_generation.unwrap_or_default(),
        desired: found.spec.and_then(|spec| spec.replicas).unwrap_or(1),
        updated: status.updated_replicas.unwrap_or_default(),
        available: status.available_replicas.unwrap_or_default(),
        total: status.replicas,
    }
}

fn daemon_set(found: DaemonSet) -> Rollout {
    let status = found.status.unwrap_or_default();
    let updated = status.updated_number_scheduled.unwrap_or_default();
    Rollout {
        generation: found.metadata.generation.unwrap_or_default(),
        observed: status.observed_generation.unwrap_or_default(),
        desired: status.desired_number_scheduled,
        updated,
        available: status.number_available.unwrap_or_default(),
        total: updated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Rollout = Rollout { generation: 2, observed: 2, desired: 3, updated: 3, available: 3, total: 3 };

    #[test]
    fn a_workload_passes_only_when_it_is_rolled_out_and_available() {
        assert_eq!(lacks(&WHOLE), None);
        for (rollout, words) in [
            (Rollout { observed: 1, ..WHOLE }, "not seen its spec"),
            (Rollout { updated: 2, ..WHOLE }, "2 of 3 replicas are updated"),
            (Rollout { total: 4, ..WHOLE }, "1 old replicas"),
            (Rollout { available: 0, ..WHOLE }, "0 of 3 replicas are available"),
        ] {
            assert!(lacks(&rollout).is_some_and(|lacks| lacks.contains(words)), "{rollout:?}");
        }
    }
}
