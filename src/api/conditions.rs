//! Conditions as the API conventions and kstatus read them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{Reason, State};

/// The ledger shows the target, and the health checks passed for it.
pub const READY: &str = "Ready";
/// Work goes on.
pub const RECONCILING: &str = "Reconciling";
/// Only a person can move it.
pub const STALLED: &str = "Stalled";
/// The plan stands in the status.
pub const PLANNED: &str = "Planned";
/// The backup below the run is taken and verified, or none is asked for.
pub const BACKED_UP: &str = "BackedUp";
/// The ledger shows the target.
pub const APPLIED: &str = "Applied";
/// The health checks passed for the target.
pub const HEALTHY: &str = "Healthy";

/// How long a missing input counts as Reconciling before it is Stalled.
pub const MISSING_GRACE: std::time::Duration = std::time::Duration::from_secs(300);

/// The most that a message may be, in bytes.
const MAX_MESSAGE: usize = 1024;

/// Sets Ready, Reconciling and Stalled as `reason` has it, so that exactly one of them is True.
///
/// A [`State::Missing`] reason is Reconciling until something has been missing for [`MISSING_GRACE`]; what was
/// Stalled for such a reason stays so, also when a restart made Belay forget since when.
pub fn set_summary(
    conditions: &mut Vec<Condition>,
    (reason, message): (Reason, &str),
    missing_for: std::time::Duration,
    generation: Option<i64>,
    now: Timestamp,
) {
    let stalled_before = conditions.iter().any(|c| {
        let missing = c.reason.parse().is_ok_and(|reason: Reason| reason.state() == State::Missing);
        c.type_ == STALLED && c.status == "True" && missing
    });
    let state = match reason.state() {
        State::Missing if stalled_before || missing_for >= MISSING_GRACE => State::Stalled,
        State::Missing => State::Reconciling,
        state => state,
    };
    for (kind, holds) in
        [(READY, state == State::Ready), (RECONCILING, state == State::Reconciling), (STALLED, state == State::Stalled)]
    {
        set(conditions, kind, holds, reason.as_str(), message, generation, now);
    }
}

/// Since when what is missing has been missing, as far as the conditions tell: for a Belay that has only just started.
pub fn missing_since(conditions: &[Condition]) -> Option<Timestamp> {
    let told = conditions.iter().find(|c| c.type_ == RECONCILING && c.status == "True")?;
    let missing = told.reason.parse().is_ok_and(|reason: Reason| reason.state() == State::Missing);
    missing.then_some(told.last_transition_time.0)
}

/// Sets one condition; its transition time moves only when its status does.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = if holds { "True" } else { "False" };
    let fresh = Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: truncate(message, MAX_MESSAGE),
        observed_generation: generation,
        // As the API server gives it back: what was written is compared with what the watch brings.
        last_transition_time: Time(to_the_second(now)),
    };
    match conditions.iter_mut().find(|c| c.type_ == kind) {
        Some(old) => {
            let at = if old.status == status {
                old.last_transition_time.clone()
            } else {
                fresh.last_transition_time.clone()
            };
            *old = Condition { last_transition_time: at, ..fresh };
        }
        None => conditions.push(fresh),
    }
}

/// A time without its fraction, as statuses have it.
pub fn to_the_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Takes a condition away: it says nothing of the present generation.
pub fn clear(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|c| c.type_ != kind);
}

/// Whether the condition is there and True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|c| c.type_ == kind && c.status == "True")
}

/// Whether the condition is True for this generation.
pub fn is_current(conditions: &[Condition], kind: &str, generation: i64) -> bool {
    conditions.iter().any(|c| c.type_ == kind && c.status == "True" && c.observed_generation == Some(generation))
}

/// The reason of a condition.
pub fn reason_of(conditions: &[Condition], kind: &str) -> Option<Reason> {
    conditions.iter().find(|c| c.type_ == kind)?.reason.parse().ok()
}

/// The first `max` bytes of `text`, cut between characters, with an ellipsis where something was cut.
pub fn truncate(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    const ELLIPSIS: &str = "…";
    let mut end = max.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn trues(conditions: &[Condition]) -> Vec<&str> {
        conditions.iter().filter(|c| c.status == "True").map(|c| c.type_.as_str()).collect()
    }

    fn after(conditions: &mut Vec<Condition>, reason: Reason, missing_for: u64) -> Vec<&str> {
        set_summary(conditions, (reason, "m"), std::time::Duration::from_secs(missing_for), Some(1), at(0));
        trues(conditions)
    }

    #[test]
    fn exactly_one_of_ready_reconciling_stalled_is_true_under_every_reason() {
        for reason in Reason::ALL {
            for missing_for in [0, 1000] {
                assert_eq!(after(&mut Vec::new(), *reason, missing_for).len(), 1, "{reason}");
            }
        }
    }

    #[test]
    fn a_missing_input_is_reconciling_for_five_minutes_and_stalled_after() {
        let mut conditions = Vec::new();
        assert_eq!(after(&mut conditions, Reason::SecretNotFound, 0), [RECONCILING]);
        assert_eq!(after(&mut conditions, Reason::ConnectionFailed, 299), [RECONCILING]);
        assert_eq!(after(&mut conditions, Reason::SecretNotFound, 300), [STALLED]);
        assert_eq!(after(&mut conditions, Reason::ConnectionFailed, 0), [STALLED], "also after a restart of Belay");
        assert_eq!(after(&mut conditions, Reason::Planning, 0), [RECONCILING]);
        assert_eq!(after(&mut conditions, Reason::Succeeded, 0), [READY]);
    }

    #[test]
    fn since_when_something_is_missing_can_be_read_from_the_conditions() {
        let mut conditions = Vec::new();
        let mut tell = |reason, seconds| {
            set_summary(&mut conditions, (reason, "m"), std::time::Duration::ZERO, Some(1), at(seconds));
            missing_since(&conditions)
        };
        assert_eq!(tell(Reason::SecretNotFound, 5), Some(at(5)));
        assert_eq!(tell(Reason::ConnectionFailed, 9), Some(at(5)), "one thing or another");
        assert_eq!(tell(Reason::Succeeded, 10), None);
        assert_eq!(tell(Reason::Applying, 11), None, "nothing is missing");
        assert_eq!(tell(Reason::ScriptFailed, 12), None);
    }

    #[test]
    fn a_condition_that_stays_keeps_its_transition_time() {
        let mut conditions = Vec::new();
        set(&mut conditions, APPLIED, true, "Succeeded", "a", Some(1), at(0));
        set(&mut conditions, APPLIED, true, "Succeeded", "b", Some(2), at(9));
        assert_eq!(conditions[0].last_transition_time.0, at(0));
        assert_eq!(conditions[0].message, "b");
        set(&mut conditions, APPLIED, false, "ScriptFailed", "c", Some(2), at(10));
        assert_eq!(conditions[0].last_transition_time.0, at(10));
    }

    #[test]
    fn a_condition_is_as_the_api_server_gives_it_back() {
        let mut conditions = Vec::new();
        set(&mut conditions, APPLIED, true, "Succeeded", "a", Some(1), Timestamp::new(5, 999_999_999).unwrap());
        let back: Vec<Condition> = serde_json::from_value(serde_json::to_value(&conditions).unwrap()).unwrap();
        assert_eq!(back, conditions);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = truncate(&"é".repeat(1000), 1024);
        assert!(cut.len() <= 1024 && cut.ends_with('…'), "{}", cut.len());
        assert_eq!(truncate("short", 1024), "short");
    }
}
