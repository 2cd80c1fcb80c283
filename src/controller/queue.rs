//! What of a kind is to be looked at: at once, or when its time comes. Each object once, however often it is asked for.
//!
//! What waits for its time is kept by its name, in the library's scheduler. The one inside a controller, which a requeue goes to,
//! keeps two references to each, with its version and its UID: of ten thousand objects at rest that is a part that counts.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::controller::{Action, Config, Controller, Error};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::context::Watched;
use super::metrics::{Reconciling, Waiting};
use crate::api::{Migration, PostgresBackup, PostgresDatabase};

/// One for each kind.
pub struct Queues {
    pub migrations: Queue<Migration>,
    pub databases: Queue<PostgresDatabase>,
    pub backups: Queue<PostgresBackup>,
}

/// By which objects of one kind are asked for.
pub struct Queue<K: Resource> {
    now: UnboundedSender<ObjectRef<Watched<K>>>,
    later: UnboundedSender<ScheduleRequest<Name>>,
    waiting: Waiting,
}

/// What a controller takes them from.
pub struct Queued<K: Resource> {
    now: UnboundedReceiver<ObjectRef<Watched<K>>>,
    later: UnboundedReceiver<ScheduleRequest<Name>>,
    waiting: Waiting,
}

/// `<namespace>/<name>`
type Name = Arc<str>;

impl<K> Queue<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug + 'static,
{
    /// The queue and its end, which `waiting` tells of.
    pub fn new(waiting: Waiting) -> (Self, Queued<K>) {
        let ((now, take_now), (later, take_later)) = (mpsc::unbounded(), mpsc::unbounded());
        let end = Queued { now: take_now, later: take_later, waiting: waiting.clone() };
        (Self { now, later, waiting }, end)
    }

    /// The object is looked at as soon as it can be.
    pub fn add(&self, namespace: &str, name: &str) {
        self.waiting.add(namespace, name);
        // Nobody takes any more only when the controller is being shut down.
        let _ = self.now.unbounded_send(ObjectRef::new(name).within(namespace));
    }

    /// The object is looked at when it is due, if anything says when that is; else as soon as it can be.
    pub fn add_in_turn(&self, object: &impl ResourceExt, due: Option<Timestamp>) {
        match due {
            Some(due) => self.add_after(object, until(due)),
            None => self.add(&object.namespace().unwrap_or_default(), &object.name_any()),
        }
    }

    /// Of two times the earlier one counts.
    fn add_after(&self, object: &impl ResourceExt, after: Duration) {
        // What lies beyond the clock's end never comes.
        let Some(run_at) = Instant::now().checked_add(after) else { return };
        let message = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any()).into();
        let _ = self.later.unbounded_send(ScheduleRequest { message, run_at });
    }

    /// What a reconcile answers: the object is looked at again when it changes, or after so long.
    pub fn again(&self, object: &impl ResourceExt, after: impl Into<Option<Duration>>) -> Action {
        if let Some(after) = after.into() {
            self.add_after(object, after);
        }
        Action::await_change()
    }

    /// The same, at that time.
    pub fn again_at(&self, object: &impl ResourceExt, at: Timestamp) -> Action {
        self.again(object, until(at))
    }

    /// The object is looked at, as long as the answer lives.
    pub fn reconciling(&self, object: &impl ResourceExt) -> Reconciling {
        self.waiting.reconciling(&object.namespace().unwrap_or_default(), &object.name_any())
    }

    /// What came of a look: where there was nothing to look at, it does not wait any more.
    pub fn ended<T, E, F>(&self, result: Result<T, Error<E, F>>)
    where
        E: std::error::Error + 'static,
        F: std::error::Error + 'static,
    {
        if let Err(Error::ObjectNotFound(object)) = result {
            self.waiting.gone(object.namespace.as_deref().unwrap_or_default(), &object.name);
        }
    }
}

/// How long it is until then; nothing, if that is past.
fn until(time: Timestamp) -> Duration {
    time.duration_since(Timestamp::now()).try_into().unwrap_or_default()
}

impl<K> Queued<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    /// A controller of what is in the queue, and in the cache; so many at once.
    pub fn controller(self, cache: Store<Watched<K>>, at_once: u16) -> Controller<Watched<K>> {
        let waiting = self.waiting;
        let due = scheduler(self.later).map(move |object| {
            let (namespace, name) = object.split_once('/').unwrap_or_default();
            waiting.add(namespace, name);
            ObjectRef::new(name).within(namespace)
        });
        // What the watch brings, it puts into the queue.
        Controller::for_stream(stream::pending(), cache)
            .with_config(Config::default().concurrency(at_once))
            .reconcile_on(stream::select(self.now, due))
    }
}
