//! How many objects wait for their reconcile. The library that schedules them does not say; it looks at each once, however often
//! it was asked to, and so does this.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

/// The objects of one kind that wait, by namespace and name. Every clone counts the same.
#[derive(Clone, Debug)]
pub struct Waiting {
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

impl Waiting {
    pub(super) fn new(queued: Gauge, reconciling: Gauge) -> Self {
        Self { waiting: Arc::default(), queued, reconciling }
    }

    /// The object is to be looked at.
    pub fn add(&self, namespace: &str, name: &str) {
        self.change(|waiting| waiting.insert((namespace.to_owned(), name.to_owned())));
    }

    /// The object is looked at, as long as the answer lives.
    pub fn reconciling(&self, namespace: &str, name: &str) -> Reconciling {
        self.gone(namespace, name);
        self.reconciling.inc();
        Reconciling(self.reconciling.clone())
    }

    /// The object is gone, and will not be looked at.
    pub fn gone(&self, namespace: &str, name: &str) {
        self.change(|waiting| waiting.remove(&(namespace.to_owned(), name.to_owned())));
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
        let all = Waiting::new(queued.clone(), reconciling.clone());
        let seen = || (queued.get(), reconciling.get());
        all.add("shop", "a");
        all.add("shop", "a");
        all.add("shop", "b");
        assert_eq!(seen(), (2, 0));
        let looked_at = all.reconciling("shop", "a");
        assert_eq!(seen(), (1, 1));
        all.add("shop", "a");
        all.gone("shop", "b");
        assert_eq!(seen(), (1, 1));
        drop(looked_at);
        assert_eq!(seen(), (1, 0));
    }
}
