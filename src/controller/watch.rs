//! Watches: each fills a cache with what the controllers need, drops the rest, and survives a bad object.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::SetOnce;

use super::context::Watched;
use super::{Context, rest};
use crate::api::{Migration, PostgresBackup, PostgresDatabase};

/// Set once a watch has read everything. (`Store::wait_until_ready` serves one waiter, and the controller is that one.)
pub type Synced = Arc<SetOnce<()>>;

/// The changes of a kind, as a controller is triggered by them.
pub type Trigger<K> = Pin<Box<dyn Stream<Item = Result<Watched<K>, watcher::Error>> + Send>>;

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

/// Migrations: triggers when the spec, the annotations or the finalizers change, not when the status does, unless it makes them
/// readable or not. One that is
/// gone has its run cancelled, and wakes those that it kept from the same Database.
pub fn migrations(context: Arc<Context>, scope: &Scope, writer: Writer<Watched<Migration>>) -> Trigger<Migration> {
    let stream = cached(scope.api(&context.client), rest::prune, writer);
    let gone = move |event: &watcher::Event<Watched<Migration>>| {
        context.migrations_by_database.follow(event, |m| vec![m.spec.database_ref.name.clone()]);
        context
            .migrations_by_config_map
            .follow(event, |m| m.spec.source.config_map_names().map(str::to_owned).collect());
        let watcher::Event::Delete(migration) = event else { return };
        context.forget(&migration.uid().unwrap_or_default());
        if let Ok(readable) = &migration.0 {
            context.wake_migrations_of(&migration.namespace().unwrap_or_default(), &readable.spec.database_ref.name);
        }
    };
    let changed = Predicate::<Watched<Migration>>::combine(predicates::generation, predicates::annotations)
        .combine(predicates::finalizers)
        .combine(readable);
    Box::pin(stream.inspect_ok(gone).applied_objects().predicate_filter(changed, PredicateConfig::default()))
}

/// Databases: a change of the spec triggers, and wakes their Migrations; so does a Database's end.
pub fn databases(
    context: Arc<Context>,
    scope: &Scope,
    writer: Writer<Watched<PostgresDatabase>>,
    synced: Synced,
) -> Trigger<PostgresDatabase> {
    let changed = Predicate::<Watched<PostgresDatabase>>::combine(predicates::generation, predicates::annotations)
        .combine(readable);
    let gone = context.clone();
    Box::pin(
        cached(scope.api(&context.client), |_| {}, writer)
            .inspect_ok(move |event| {
                note(event, &synced);
                if let watcher::Event::Delete(database) = event {
                    gone.looks.forget(&database.uid().unwrap_or_default());
                    gone.pins.forget(&database.uid().unwrap_or_default());
                    gone.wake_migrations_of(&database.namespace().unwrap_or_default(), &database.name_any());
                }
            })
            .applied_objects()
            .predicate_filter(changed, PredicateConfig::default())
            .inspect_ok(move |database| {
                // A person may have accepted what the last look refused.
                context.looks.expire(&database.uid().unwrap_or_default());
                context.wake_migrations_of(&database.namespace().unwrap_or_default(), &database.name_any());
            }),
    )
}

/// Backups: a change wakes the Migrations of their Database.
pub fn backups(
    context: Arc<Context>,
    scope: &Scope,
    writer: Writer<Watched<PostgresBackup>>,
    synced: Synced,
) -> Trigger<PostgresBackup> {
    let index = context.clone();
    let stream = cached(scope.api(&context.client), |_| {}, writer)
        .inspect_ok(move |event| {
            note(event, &synced);
            index.backups_by_database.follow(event, |backup| vec![backup.spec.database_ref.name.clone()]);
        })
        .touched_objects();
    Box::pin(stream.inspect_ok(move |backup| {
        if let Ok(readable) = &backup.0 {
            let (namespace, database) = (backup.namespace().unwrap_or_default(), &readable.spec.database_ref.name);
            context.wake_migrations_of(&namespace, database);
            context.tell_database(&namespace, database);
        }
    }))
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

/// Says each time that this replica, which followed, leads: what the caches hold is then looked at, all of it.
pub fn elected(context: &Context) -> impl Stream<Item = ()> + Send + use<> {
    let lead = context.lead.clone();
    // One that leads from the start sees every object as the watch brings it.
    let term = if lead.acts() { lead.term() } else { 0 };
    stream::unfold((lead, term), async |(lead, term)| {
        let term = lead.elected_after(term).await;
        Some(((), (lead, term)))
    })
}

/// A page of a list is in memory as it came, with all that is not kept.
fn config() -> watcher::Config {
    watcher::Config::default().page_size(50)
}

fn cached<K>(
    api: Api<DeserializeGuard<K>>,
    prune_more: impl Fn(&mut K) + Send,
    writer: Writer<DeserializeGuard<K>>,
) -> impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<K>>>> + Send
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send,
{
    let pruned = move |object: &mut DeserializeGuard<K>| {
        prune(object);
        if let Ok(readable) = &mut object.0 {
            prune_more(readable);
        }
    };
    watcher(api, config()).default_backoff().modify(pruned).reflect(writer)
}

/// A status, too, can be what an object could not be read for; and the schema can change below it.
fn readable<K>(object: &DeserializeGuard<K>) -> Option<u64> {
    Some(object.0.is_ok().into())
}

fn note<K>(event: &watcher::Event<K>, synced: &Synced) {
    if let watcher::Event::InitDone = event {
        // Set already when the watch had to begin anew.
        let _ = synced.set(());
    }
}

/// What nobody reads is not worth its memory.
fn prune<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}
