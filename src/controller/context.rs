//! What the controllers share: a client, the caches that the watches fill, and the memory of runs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};

use super::database::{Looks, Pins};
use super::index::Index;
use super::lease::Lead;
use super::memory::Memory;
use super::metrics::Metrics;
use super::pace::Pace;
use super::queue::Queues;
use super::rest;
use super::turns::Turns;
use super::watch::AllListed;
use crate::api::{Migration, PostgresBackup, PostgresDatabase};
use crate::health;

/// An object as it is watched: also one that cannot be read is seen, and does not stop the watch.
pub type Watched<K> = DeserializeGuard<K>;

/// What the controllers share.
pub struct Context {
    pub client: Client,
    /// Names this cluster in ledgers: two clusters that migrate one database must not take each other for themselves.
    pub cluster: String,
    pub recorder: Recorder,
    pub health: health::Policy,
    /// The image of backup Jobs, and when it is pulled.
    pub image: String,
    pub image_pull_policy: String,
    pub migrations: Store<Watched<Migration>>,
    pub databases: Store<Watched<PostgresDatabase>>,
    pub backups: Store<Watched<PostgresBackup>>,
    pub migrations_by_database: Index,
    pub migrations_by_config_map: Index,
    pub backups_by_database: Index,
    pub queues: Queues,
    /// Set once Belay is asked to stop: nothing new is begun.
    pub draining: AtomicBool,
    /// Whether this replica is the one that acts.
    pub lead: Lead,
    /// How far the watches are.
    pub listed: AllListed,
    pub metrics: Metrics,
    /// What was last seen of each Database's server.
    pub looks: Looks,
    /// What each Database is known to be.
    pub pins: Pins,
    /// When a Migration that is well is looked at for the first time.
    pub pace: Pace,
    /// Who may connect to which server.
    pub turns: Turns,
    pub(super) memories: Mutex<HashMap<String, Arc<Entry>>>,
}

/// The memory of one Migration. It is locked for the length of a reconcile; the flag can be set at any time.
#[derive(Default)]
pub struct Entry {
    pub memory: tokio::sync::Mutex<Memory>,
    /// A ConfigMap of its source has changed.
    pub source_changed: AtomicBool,
}

impl Context {
    /// Whether nothing is to be begun or written: another replica leads, this one has not read yet what there is since it leads, or
    /// Belay is asked to stop.
    pub fn rests(&self) -> bool {
        let term = self.lead.term();
        self.draining.load(Ordering::SeqCst)
            || !self.lead.acts()
            || !self.listed.all().iter().all(|listed| listed.is_of(term))
    }

    /// The Database of this name.
    pub fn database(&self, namespace: &str, name: &str) -> Option<Arc<PostgresDatabase>> {
        let key = ObjectRef::new(name).within(namespace);
        self.databases.get(&key)?.0.as_ref().ok().cloned().map(Arc::new)
    }

    /// Whether there is a Database of this name, be it one that cannot be read.
    pub fn has_database(&self, namespace: &str, name: &str) -> bool {
        self.databases.get(&ObjectRef::new(name).within(namespace)).is_some()
    }

    /// The Migrations of a Database.
    pub fn migrations_of(&self, namespace: &str, database: &str) -> Vec<Arc<Migration>> {
        let names = self.migrations_by_database.of(namespace, database);
        readable(&self.migrations, namespace, names, |migration| migration.spec.database_ref.name == database)
    }

    /// The Backups of a Database.
    pub fn backups_of(&self, namespace: &str, database: &str) -> Vec<Arc<PostgresBackup>> {
        let names = self.backups_by_database.of(namespace, database);
        readable(&self.backups, namespace, names, |backup| backup.spec.database_ref.name == database)
    }

    /// Has a Migration looked at again.
    pub fn wake(&self, namespace: &str, name: &str) {
        self.queues.migrations.add(namespace, name);
    }

    /// Has the server of a Database looked at anew: a run has ended.
    pub fn look_at_database(&self, namespace: &str, name: &str) {
        if let Some(uid) = self.database(namespace, name).and_then(|database| database.uid()) {
            self.looks.expire(&uid);
        }
        self.tell_database(namespace, name);
    }

    /// Has the status of a Database looked at again: a backup has changed.
    pub fn tell_database(&self, namespace: &str, name: &str) {
        self.queues.databases.add(namespace, name);
    }

    /// Has every Migration of a Database looked at again.
    pub fn wake_migrations_of(&self, namespace: &str, database: &str) {
        for migration in self.migrations_of(namespace, database) {
            self.wake(namespace, &migration.name_any());
        }
    }

    /// A ConfigMap changed: every Migration that reads it reads it again; unless `all`, only those that are not at rest.
    pub fn config_map_changed(&self, namespace: &str, name: &str, all: bool) {
        let names = self.migrations_by_config_map.of(namespace, name);
        let reads = |migration: &Migration| {
            migration.spec.source.config_map_names().any(|map| map == name) && (all || !rest::is_at_rest(migration))
        };
        for migration in readable(&self.migrations, namespace, names, reads) {
            if let Some(uid) = &migration.metadata.uid {
                self.entry(uid).source_changed.store(true, Ordering::SeqCst);
            }
            self.wake(namespace, &migration.name_any());
        }
    }

    /// The memory of the Migration with this UID.
    pub fn entry(&self, uid: &str) -> Arc<Entry> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.to_owned()).or_default().clone()
    }

    /// The object is gone: whatever ran for it is cancelled.
    pub fn forget(&self, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// The runs that have not ended. One whose reconcile is in progress counts, lest a scrape wait for it.
    pub fn runs_in_progress(&self) -> usize {
        let runs = |entry: &Arc<Entry>| match entry.memory.try_lock() {
            Ok(memory) => memory.run.as_ref().is_some_and(|run| !run.has_ended()),
            Err(_) => true,
        };
        self.entries().iter().filter(|entry| runs(entry)).count()
    }

    /// The memories of every Migration.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The readable objects of these names that `wanted` says yes to.
fn readable<K>(
    store: &Store<Watched<K>>,
    namespace: &str,
    names: Vec<String>,
    wanted: impl Fn(&K) -> bool,
) -> Vec<Arc<K>>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    let objects = names.iter().filter_map(|name| store.get(&ObjectRef::new(name).within(namespace)));
    objects.filter_map(|object| object.0.as_ref().ok().filter(|k| wanted(k)).cloned().map(Arc::new)).collect()
}
