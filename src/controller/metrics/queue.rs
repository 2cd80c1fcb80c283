//! How many objects wait for their reconcile. The library that schedules them does not say; it looks at each once, however often
//! it was asked to, and so does this.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::controller::Error;
use kube::runtime::reflector::{Lookup, ObjectRef};
use kube::{Resource, ResourceExt};
use prometheus_client::metrics::gauge::Gauge;

/// The objects of one kind that wait, by namespace and name. Every clone counts the same.
#[derive(Clone, Debug)]
pub struct Queue {
    waiting: Arc<Mutex<HashSet<(String, String)>>>,
    queued: Gauge,
    reconciling: Gauge,
}

/// A reconcile in progress, until it is dropped.
#[derive(Debug)]
pub struct Reconciling(Gauge);

impl Drop for Reconciling {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Queue {
    pub(super) fn new(queued: Gauge, reconciling: Gauge) -> Self {
        Self { waiting: Arc::default(), queued, reconciling }
    }

    /// The object is to be looked at.
    pub fn add(&self, namespace: &str, name: &str) {
        self.change(|waiting| waiting.insert((namespace.to_owned(), name.to_owned())));
    }

    /// The object is looked at, as long as the answer lives.
    pub fn begin(&self, namespace: &str, name: &str) -> Reconciling {
        self.gone(namespace, name);
        self.reconciling.inc();
        Reconciling(self.reconciling.clone())
    }

    /// The object is gone, and will not be looked at.
    pub fn gone(&self, namespace: &str, name: &str) {
        self.change(|waiting| waiting.remove(&(namespace.to_owned(), name.to_owned())));
    }

    /// Adds every object that passes.
    pub fn changed<K, E, S>(&self, objects: S) -> impl Stream<Item = Result<K, E>> + use<K, E, S>
    where
        K: Resource,
        S: Stream<Item = Result<K, E>>,
    {
        let queue = self.clone();
        objects.inspect_ok(move |object| {
            queue.add(object.meta().namespace.as_deref().unwrap_or_default(), &object.name_any());
        })
    }

    /// Adds every object that is named.
    pub fn woken<K, S>(&self, objects: S) -> impl Stream<Item = ObjectRef<K>> + use<K, S>
    where
        K: Lookup,
        S: Stream<Item = ObjectRef<K>>,
    {
        let queue = self.clone();
        objects.inspect(move |object| queue.add(object.namespace.as_deref().unwrap_or_default(), &object.name))
    }

    /// What came of a look: where there was nothing to look at, it does not wait any more.
    pub fn ended<T, E, F>(&self, result: Result<T, Error<E, F>>)
    where
        E: std::error::Error + 'static,
        F: std::error::Error + 'static,
    {
        if let Err(Error::ObjectNotFound(object)) = result {
            self.gone(object.namespace.as_deref().unwrap_or_default(), &object.name);
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<(String, String)>) -> bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut waiting);
        self.queued.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_waits_once_however_often_it_changed_and_not_while_it_is_looked_at() {
        let (queued, reconciling) = (Gauge::default(), Gauge::default());
        let queue = Queue::new(queued.clone(), reconciling.clone());
        let seen = || (queued.get(), reconciling.get());
        queue.add("shop", "a");
        queue.add("shop", "a");
        queue.add("shop", "b");
        assert_eq!(seen(), (2, 0));
        let looked_at = queue.begin("shop", "a");
        assert_eq!(seen(), (1, 1));
        queue.add("shop", "a");
        queue.gone("shop", "b");
        assert_eq!(seen(), (1, 1));
        drop(looked_at);
        assert_eq!(seen(), (1, 0));
    }
}
