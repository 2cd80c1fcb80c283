//! Watches: each fills a cache with what the controllers need, drops the rest, survives a bad object, and has what is news looked
//! at.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, future};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync;
use tokio::time::Instant;

use super::cache::{Cache, News};
use super::context::Watched;
use super::lease::Lead;
use super::{Context, backup, database, migration, rest};
use crate::api::{Migration, PostgresBackup, PostgresDatabase};

/// What was read so shortly before an election is not read again: at a start, all of it was.
const RECENT: Duration = Duration::from_secs(5);

/// In which of this replica's terms a watch has read everything. (`Store::wait_until_ready` serves one waiter, and the controller is
/// that one.)
#[derive(Debug, Default)]
pub struct Listed(sync::watch::Sender<Option<u64>>);

impl Listed {
    /// Waits until it has read everything once.
    pub async fn once(&self) {
        self.until(|term| term.is_some()).await;
    }

    /// Waits until it has read everything in this term, or in a later one.
    pub async fn since(&self, term: u64) {
        self.until(|listed| *listed >= Some(term)).await;
    }

    /// Whether it has read everything in this term.
    pub fn is_of(&self, term: u64) -> bool {
        *self.0.borrow() == Some(term)
    }

    async fn until(&self, wanted: impl FnMut(&Option<u64>) -> bool) {
        // The channel cannot close: this very handle sends on it.
        let _ = self.0.subscribe().wait_for(wanted).await;
    }

    fn note(&self, term: u64) {
        self.0.send_replace(Some(term));
    }
}

/// How far each of the watches is.
#[derive(Debug, Default)]
pub struct AllListed {
    pub migrations: Listed,
    pub databases: Listed,
    pub backups: Listed,
}

impl AllListed {
    pub fn all(&self) -> [&Listed; 3] {
        [&self.migrations, &self.databases, &self.backups]
    }
}

/// The namespaces that are watched: all, or one.
#[derive(Clone, Debug, Default)]
pub struct Scope(pub Option<String>);

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.0 {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
}

/// Migrations: one is looked at when its spec, its annotations or its finalizers change, not when its status does, unless that makes
/// it readable or not. One that is gone has its run cancelled, and wakes those that it kept from the same Database.
pub async fn migrations(context: Arc<Context>, scope: Scope, cache: Cache<Watched<Migration>>) {
    let database = |migration: &Migration| vec![migration.spec.database_ref.name.clone()];
    let config_maps = |migration: &Migration| migration.spec.source.config_map_names().map(str::to_owned).collect();
    let told = |news: News<Watched<Migration>>| {
        context.migrations_by_database.follow(&news, database);
        context.migrations_by_config_map.follow(&news, config_maps);
        match news {
            News::New(migration) => migration::begin(&migration, &context),
            News::Changed(migration) => context.wake(&namespace(&*migration), &migration.name_any()),
            News::Gone(migration) => {
                context.forget(&migration.uid().unwrap_or_default());
                if let Ok(readable) = &migration.0 {
                    context.wake_migrations_of(&namespace(&*migration), &readable.spec.database_ref.name);
                }
            }
        }
    };
    follow(scope.api(&context.client), rest::prune, cache, told, &context.lead, &context.listed.migrations).await;
}

/// Databases: a change of the spec is looked at, and wakes their Migrations; so does a Database's end.
pub async fn databases(context: Arc<Context>, scope: Scope, cache: Cache<Watched<PostgresDatabase>>) {
    let told = |news: News<Watched<PostgresDatabase>>| {
        let (News::New(database) | News::Changed(database) | News::Gone(database)) = &news;
        let (uid, namespace, name) = (database.uid().unwrap_or_default(), namespace(&**database), database.name_any());
        match &news {
            News::New(database) => database::begin(database, &context),
            News::Changed(_) => {
                // A person may have accepted what the last look refused.
                context.looks.expire(&uid);
                context.tell_database(&namespace, &name);
            }
            News::Gone(_) => {
                context.looks.forget(&uid);
                context.pins.forget(&uid);
            }
        }
        context.wake_migrations_of(&namespace, &name);
    };
    follow(scope.api(&context.client), |_| {}, cache, told, &context.lead, &context.listed.databases).await;
}

/// Backups: a change wakes the Migrations of their Database. What was finished before this Belay began they find when they look.
pub async fn backups(context: Arc<Context>, scope: Scope, cache: Cache<Watched<PostgresBackup>>) {
    let told = |news: News<Watched<PostgresBackup>>| {
        context.backups_by_database.follow(&news, |backup| vec![backup.spec.database_ref.name.clone()]);
        let (News::New(backup) | News::Changed(backup) | News::Gone(backup)) = &news;
        if matches!(news, News::New(_)) && backup::is_finished(backup) {
            return;
        }
        let namespace = namespace(&**backup);
        context.queues.backups.add(&namespace, &backup.name_any());
        if let Ok(readable) = &backup.0 {
            context.wake_migrations_of(&namespace, &readable.spec.database_ref.name);
            context.tell_database(&namespace, &readable.spec.database_ref.name);
        }
    };
    follow(scope.api(&context.client), |_| {}, cache, told, &context.lead, &context.listed.backups).await;
}

/// ConfigMaps, by their metadata, none of which is kept: a change wakes the Migrations that read them. What there is at the start
/// wakes only those that are not at rest: the others are all looked at soon anyway.
pub async fn config_maps(context: Arc<Context>, scope: Scope) {
    let mut synced = false;
    watcher(scope.api::<PartialObjectMeta<ConfigMap>>(&context.client), config())
        .default_backoff()
        .for_each(|event| {
            match event {
                Ok(watcher::Event::InitDone) => synced = true,
                Ok(watcher::Event::Apply(map) | watcher::Event::Delete(map) | watcher::Event::InitApply(map)) => {
                    context.config_map_changed(&map.namespace().unwrap_or_default(), &map.name_any(), synced);
                }
                _ => {}
            }
            future::ready(())
        })
        .await;
}

/// A page of a list is in memory as it came, with all that is not kept.
fn config() -> watcher::Config {
    watcher::Config::default().page_size(50)
}

/// Keeps a cache as the watch has it, and tells what is news. Each time that this replica is elected everything is read anew: a watch
/// that was cut off, and does not know it yet, must not be what a leader goes by.
async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    prune_more: impl Fn(&mut K),
    mut cache: Cache<DeserializeGuard<K>>,
    told: impl Fn(News<DeserializeGuard<K>>),
    lead: &Lead,
    listed: &Listed,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let pruned = |object: &mut DeserializeGuard<K>| {
        prune(object);
        if let Ok(readable) = &mut object.0 {
            prune_more(readable);
        }
    };
    let begin = || watcher(api.clone(), config()).default_backoff().modify(pruned);
    let mut watch = pin!(begin());
    let (mut term, mut read) = (lead.term(), None::<Instant>);
    let mut elected = pin!(lead.elected_after(term));
    loop {
        tokio::select! {
            event = watch.next() => {
                let Some(event) = event else { return };
                // Errors: the watch begins anew.
                let Ok(event) = event else { continue };
                cache.take(&event).into_iter().for_each(&told);
                // Only now: who waits for it begins with all that the cache holds, and needs no word of it before.
                if let watcher::Event::InitDone = event {
                    read = Some(Instant::now());
                    listed.note(term);
                }
            }
            newer = &mut elected => {
                term = newer;
                elected.set(lead.elected_after(term));
                match read.is_some_and(|read| read.elapsed() < RECENT) {
                    true => listed.note(term),
                    false => watch.set(begin()),
                }
            }
        }
    }
}

/// Whether an object asks for something else, or has become readable or not: its schema can change below it. What its status says is
/// Belay's own.
pub fn differs<K: Resource>(was: &DeserializeGuard<K>, is: &DeserializeGuard<K>) -> bool {
    let (before, now) = (was.meta(), is.meta());
    before.generation != now.generation
        || before.annotations != now.annotations
        || before.finalizers != now.finalizers
        || was.0.is_ok() != is.0.is_ok()
}

/// Whether anything of an object is not what it was.
pub fn differs_at_all<K: Resource>(was: &DeserializeGuard<K>, is: &DeserializeGuard<K>) -> bool {
    was.meta().resource_version != is.meta().resource_version
}

fn namespace(object: &impl ResourceExt) -> String {
    object.namespace().unwrap_or_default()
}

/// What nobody reads is not worth its memory.
fn prune<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}
