//! What the controller remembers of one Migration between two reconciles: nothing that a restart may not forget.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::migration::{Key, Run, Settle};
use crate::api::{Migration, MigrationStatus, Reason, State, conditions};
use crate::script::History;

/// The longest that a watch takes to bring a status back that was written. Were it longer, the next write would not be taken.
const WATCH_LAG: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// What is remembered of one Migration, by its UID.
#[derive(Default)]
pub struct Memory {
    /// The run in progress.
    pub run: Option<Run>,
    /// Tries in a row that failed for what may recover by itself.
    pub attempts: u32,
    /// Since when an input has been missing, or the server out of reach.
    pub missing_since: Option<Timestamp>,
    /// When the status was last written.
    pub written_at: Option<Timestamp>,
    settled: Option<(Key, Timestamp)>,
    source: Option<(i64, Arc<History>)>,
    /// The status as it was last written, until the watch brings it back.
    written: Option<MigrationStatus>,
}

impl Memory {
    /// Another replica leads: what is remembered is of a time that is over, and a run at rest is ended, so that its lock is
    /// free. One in the middle of a step goes on to that step's end; whether there is such a one.
    pub fn let_go(&mut self) -> bool {
        let busy = self.run.take().filter(|run| !run.is_idle());
        *self = Self { run: busy, ..Self::default() };
        self.run.is_some()
    }

    /// The status as it was last written, or as the watch has it: a minute later that is what counts, also if it is another's.
    pub fn status(&mut self, watched: Option<&MigrationStatus>, now: Timestamp) -> MigrationStatus {
        let old = self.written_at.is_none_or(|at| now.duration_since(at) > WATCH_LAG);
        if old || self.written.as_ref() == watched {
            self.written = None;
        }
        self.written.clone().or(watched.cloned()).unwrap_or_default()
    }

    /// The status was written.
    pub fn wrote(&mut self, status: MigrationStatus, now: Timestamp) {
        self.written = Some(status);
        self.written_at = Some(now);
    }

    /// Another has written the status: what the watch brings of it counts.
    pub fn was_overtaken(&mut self) {
        self.written = None;
    }

    /// The source, where it was read for this generation and no ConfigMap has changed since.
    pub fn source(&self, migration: &Migration) -> Option<Arc<History>> {
        let (generation, history) = self.source.as_ref()?;
        (Some(*generation) == migration.metadata.generation).then(|| history.clone())
    }

    /// Keeps the source as long as a run needs it.
    pub fn keep_source(&mut self, migration: &Migration, history: Option<&Arc<History>>) {
        self.source = migration.metadata.generation.zip(history.cloned());
    }

    /// A ConfigMap changed, or the run is over: the source is read anew.
    pub fn forget_source(&mut self) {
        self.source = None;
    }

    /// Until when nothing is to be done with these inputs.
    pub fn settled_until(&self, key: &Key) -> Option<Timestamp> {
        self.settled.as_ref().filter(|(settled, _)| settled == key).map(|(_, until)| *until)
    }

    /// Whether nothing is known yet of what was done: the object is new, or this process is.
    pub fn is_fresh(&self) -> bool {
        self.run.is_none() && self.settled.is_none()
    }

    /// The inputs of `key` were dealt with.
    pub fn settle(&mut self, key: Key, settle: Settle) {
        self.attempts = if settle.failed { self.attempts.saturating_add(1) } else { 0 };
        self.settled = Some((key, settle.until));
    }

    /// Keeps since when something has been missing, and says for how long. What `said` of it, before this Belay began, counts.
    pub fn missing_for(&mut self, reason: Reason, said: &[Condition], now: Timestamp) -> std::time::Duration {
        match reason.state() {
            State::Missing => {
                let since = *self.missing_since.get_or_insert_with(|| conditions::missing_since(said).unwrap_or(now));
                now.duration_since(since).try_into().unwrap_or_default()
            }
            // A new try after a failed one says nothing yet.
            _ if reason == Reason::Planning => std::time::Duration::ZERO,
            _ => {
                self.missing_since = None;
                std::time::Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_something_is_missing_outlives_a_restart() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut said = Vec::new();
        let mut tell = |memory: &mut Memory, reason, seconds| {
            let missing_for = memory.missing_for(reason, &said, at(seconds));
            conditions::set_summary(&mut said, (reason, "m"), missing_for, Some(1), at(seconds));
            missing_for.as_secs()
        };
        let mut memory = Memory::default();
        assert_eq!(tell(&mut memory, Reason::SecretNotFound, 100), 0);
        assert_eq!(tell(&mut memory, Reason::Planning, 150), 0, "a new try says nothing yet");
        assert_eq!(tell(&mut memory, Reason::ConnectionFailed, 160), 60);
        let mut restarted = Memory::default();
        assert_eq!(tell(&mut restarted, Reason::ConnectionFailed, 340), 240);
        assert_eq!(tell(&mut restarted, Reason::ConnectionFailed, 400), 300);
        assert_eq!(tell(&mut restarted, Reason::Succeeded, 410), 0);
        assert_eq!(tell(&mut restarted, Reason::ConnectionFailed, 500), 0, "what recovered begins anew");
    }
}
