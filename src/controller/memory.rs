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
    /// The whole object, while a run needs what the cache does not keep.
    pub whole: Option<Arc<Migration>>,
    settled: Option<(Key, Timestamp)>,
    /// A ConfigMap of the source has changed, and what there is now was not dealt with yet.
    source_changed: bool,
    source: Option<(i64, Arc<History>)>,
    /// The status as it was last written, until the watch brings it back, and the resource version that it has.
    written: Option<Box<(MigrationStatus, Option<String>)>>,
}

impl Memory {
    /// Another replica leads: what is remembered is of a time that is over, and a run at rest is ended, so that its lock is
    /// free. One in the middle of a step goes on to that step's end; whether there is such a one.
    pub fn let_go(&mut self) -> bool {
        let busy = self.run.take().filter(|run| !run.is_idle());
        *self = Self { run: busy, ..Self::default() };
        self.run.is_some()
    }

    /// The status as it was last written, until the watch has brought it: from then on what the watch has counts, also if it is
    /// another's.
    pub fn status(&mut self, watched: &Migration, now: Timestamp) -> MigrationStatus {
        self.catch_up(watched);
        if self.written_at.is_none_or(|at| now.duration_since(at) > WATCH_LAG) {
            self.written = None;
        }
        let written = self.written.as_ref().map(|written| &written.0);
        written.or(watched.status.as_ref()).cloned().unwrap_or_default()
    }

    /// Lets go of the status as it was last written, where the watch has brought it, or a later one.
    pub fn catch_up(&mut self, watched: &Migration) {
        // Versions of one kind of object are numbers that grow, in every API server.
        let number = |version: Option<&String>| version?.parse::<u64>().ok();
        let written = number(self.written.as_ref().and_then(|written| written.1.as_ref()));
        let seen = number(watched.metadata.resource_version.as_ref());
        if written.zip(seen).is_some_and(|(written, seen)| seen >= written) {
            self.written = None;
        }
    }

    /// The status was written, and the object has that resource version since.
    pub fn wrote(&mut self, status: MigrationStatus, version: Option<String>, now: Timestamp) {
        self.written = Some(Box::new((status, version)));
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

    /// A ConfigMap changed: the source is read anew.
    pub fn source_changed(&mut self) {
        self.source = None;
        self.source_changed = true;
    }

    /// No run is in progress: what only a run needs is not worth its memory.
    pub fn rest(&mut self) {
        self.source = None;
        self.whole = None;
    }

    /// Until when nothing is to be done with these inputs.
    pub fn settled_until(&mut self, key: &Key) -> Option<Timestamp> {
        let (_, until) = self.settled.as_ref().filter(|(settled, _)| settled == key)?;
        let until = *until;
        self.source_changed &= !self.was_read(key);
        Some(until)
    }

    /// The same, for what is known without reading the source, which has not changed.
    pub fn rests_until(&self, key: &Key) -> Option<Timestamp> {
        let (settled, until) = self.settled.as_ref().filter(|_| self.run.is_none() && !self.source_changed)?;
        let key = Key { source_digest: settled.source_digest.clone(), ..key.clone() };
        (*settled == key).then_some(*until)
    }

    /// Whether the source of `key` is the one that was read last.
    fn was_read(&self, key: &Key) -> bool {
        self.source.as_ref().is_some_and(|(_, read)| Some(read.digest()) == key.source_digest.as_deref())
    }

    /// Whether nothing is known yet of what was done: the object is new, or this process is.
    pub fn is_fresh(&self) -> bool {
        self.run.is_none() && self.settled.is_none()
    }

    /// The inputs of `key` were dealt with.
    pub fn settle(&mut self, key: Key, settle: Settle) {
        self.attempts = if settle.failed { self.attempts.saturating_add(1) } else { 0 };
        self.source_changed &= !self.was_read(&key);
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

    fn migration(version: &str) -> Migration {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration",
            "metadata": { "name": "m", "generation": 1, "resourceVersion": version },
            "spec": { "databaseRef": { "name": "d" }, "source": { "inline": {} } },
        }))
        .unwrap()
    }

    #[test]
    fn a_status_that_was_written_is_kept_until_the_watch_has_brought_it_or_a_later_one() {
        let now = Timestamp::now();
        let mut memory = Memory::default();
        memory.wrote(MigrationStatus::default(), Some("100".into()), now);
        memory.catch_up(&migration("99"));
        assert!(memory.written.is_some());
        memory.catch_up(&migration("1000"));
        assert!(memory.written.is_none());
    }

    #[test]
    fn what_another_wrote_over_a_status_counts_as_soon_as_the_watch_has_brought_it() {
        let now = Timestamp::now();
        let mut memory = Memory::default();
        memory.wrote(MigrationStatus { version: Some("1".into()), ..Default::default() }, Some("100".into()), now);
        assert_eq!(memory.status(&migration("99"), now).version.as_deref(), Some("1"));
        assert_eq!(memory.status(&migration("101"), now).version, None);
    }

    #[test]
    fn a_source_that_changed_is_not_at_rest_until_what_it_is_now_was_dealt_with() {
        let history = |sql: &str| {
            let files = [("1_a.sql".to_owned(), sql.as_bytes().to_vec())];
            Arc::new(History::from_files(files).unwrap())
        };
        let (old, new) = (history("select 1"), history("select 2"));
        let key = |history: &History| Key { source_digest: Some(history.digest().to_owned()), ..Key::default() };
        let settle = Settle { until: Timestamp::MAX, failed: false };
        let mut memory = Memory::default();
        memory.keep_source(&migration("1"), Some(&old));
        memory.settle(key(&old), settle);
        memory.rest();
        assert!(memory.rests_until(&Key::default()).is_some(), "whatever the digest is");
        assert!(memory.rests_until(&Key { generation: 7, ..Key::default() }).is_none());

        memory.source_changed();
        assert!(memory.rests_until(&Key::default()).is_none());
        // The run that was under way is about the old one.
        memory.keep_source(&migration("1"), Some(&new));
        memory.settle(key(&old), settle);
        assert!(memory.rests_until(&Key::default()).is_none());
        assert!(memory.settled_until(&key(&new)).is_none());
        memory.settle(key(&new), settle);
        assert!(memory.rests_until(&Key::default()).is_some());

        // A change to what it was before.
        memory.source_changed();
        memory.keep_source(&migration("1"), Some(&new));
        assert!(memory.settled_until(&key(&new)).is_some());
        assert!(memory.rests_until(&Key::default()).is_some());
    }
}
