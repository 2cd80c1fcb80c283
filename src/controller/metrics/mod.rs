//! Metrics: what the process has done is counted here; what the objects are, [`objects`] reads from the caches at every
//! scrape, so that nothing of a deleted object is left.

mod objects;
pub mod table;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Resource;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub use waiting::{Reconciling, Waiting};

use super::Context;
use super::gate::NotLeading;
use crate::api::Reason;

/// From a quick script's 10 ms to an index that is built all day: each four times the one before.
const BUCKETS: [f64; 12] = [0.01, 0.04, 0.16, 0.64, 2.56, 10.24, 40.96, 163.84, 655.36, 2621.44, 10_485.76, 41_943.04];

type Labels = Vec<(&'static str, String)>;
/// Runs of one Migration, by outcome.
type Outcomes = BTreeMap<&'static str, u64>;

/// What is counted. Every clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    queued: Family<Labels, Gauge>,
    reconciling: Family<Labels, Gauge>,
    reconcile_errors: Family<Labels, Counter>,
    run_duration: Family<Labels, Histogram>,
    script_duration: Histogram,
    backup_duration: Family<Labels, Histogram>,
    /// By namespace and name.
    runs: Arc<Mutex<BTreeMap<(String, String), Outcomes>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let durations = || Family::new_with_constructor(histogram as fn() -> Histogram);
        Self {
            queued: Family::default(),
            reconciling: Family::default(),
            reconcile_errors: Family::default(),
            run_duration: durations(),
            script_duration: histogram(),
            backup_duration: durations(),
            runs: Arc::default(),
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    /// What tells of the objects of kind `K` that wait to be looked at.
    pub fn waiting<K: Resource<DynamicType = ()>>(&self) -> Waiting {
        let labels = vec![("kind", K::kind(&()).into_owned())];
        Waiting::new(self.queued.get_or_create_owned(&labels), self.reconciling.get_or_create_owned(&labels))
    }

    /// A reconcile of an object of kind `K` failed.
    pub fn reconcile_failed<K: Resource<DynamicType = ()>>(&self, error: &kube::Error) {
        let labels = vec![("kind", K::kind(&()).into_owned()), ("reason", reason(error))];
        self.reconcile_errors.get_or_create(&labels).inc();
    }

    /// A run that the status told of is over.
    pub fn run_ended(&self, namespace: &str, name: &str, outcome: Reason, lasted: Duration) {
        let labels = vec![("outcome", outcome.to_string())];
        self.run_duration.get_or_create(&labels).observe(lasted.as_secs_f64());
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes = runs.entry((namespace.to_owned(), name.to_owned())).or_default();
        let runs = outcomes.entry(outcome.as_str()).or_default();
        *runs = runs.saturating_add(1);
    }

    /// The ledger shows a script that the run applied.
    pub fn script_applied(&self, lasted: Duration) {
        self.script_duration.observe(lasted.as_secs_f64());
    }

    /// A Backup was taken, or failed.
    pub fn backup_ended(&self, outcome: Reason, lasted: Duration) {
        let labels = vec![("outcome", outcome.to_string())];
        self.backup_duration.get_or_create(&labels).observe(lasted.as_secs_f64());
    }

    /// All that is exposed, of this process and of the objects in its caches.
    pub fn registry(&self, context: &Arc<Context>) -> Registry {
        let mut registry = Registry::default();
        let build = Family::<Labels, Gauge>::default();
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        register(&mut registry, table::BUILD, build);
        register(&mut registry, table::QUEUED, self.queued.clone());
        register(&mut registry, table::RECONCILING, self.reconciling.clone());
        register(&mut registry, table::RECONCILE_ERRORS, self.reconcile_errors.clone());
        register(&mut registry, table::RUN_DURATION, self.run_duration.clone());
        register(&mut registry, table::SCRIPT_DURATION, self.script_duration.clone());
        register(&mut registry, table::BACKUP_DURATION, self.backup_duration.clone());
        registry.register_collector(Box::new(objects::Objects::new(context)));
        registry
    }

    /// The runs of every Migration that `exists`; those of others are forgotten.
    fn runs_of(&self, exists: impl Fn(&str, &str) -> bool) -> Vec<(Labels, u64)> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|(namespace, name), _| exists(namespace, name));
        let labels = |namespace: &str, name: &str, outcome: &str| {
            vec![("namespace", namespace.to_owned()), ("name", name.to_owned()), ("outcome", outcome.to_owned())]
        };
        let all = runs.iter().flat_map(|((namespace, name), outcomes)| {
            outcomes.iter().map(move |(outcome, runs)| (labels(namespace, name, outcome), *runs))
        });
        all.collect()
    }
}

fn register(registry: &mut Registry, metric: table::Metric, value: impl Metric) {
    registry.register(metric.registered(), metric.help, value);
}

/// A word for why Kubernetes did not do what it was asked.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.code.to_string(),
        kube::Error::Service(error) if error.is::<NotLeading>() => "NotLeading".to_owned(),
        kube::Error::Service(_) | kube::Error::HyperError(_) => "Unreachable".to_owned(),
        kube::Error::SerdeError(_) => "Unreadable".to_owned(),
        _ => "Other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for metric in table::ALL {
            let name = metric.name;
            assert!(name.starts_with("belay_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == table::Kind::Counter, "{name}");
            assert!(metric.kind != table::Kind::Histogram || name.ends_with("_seconds"), "{name}");
            assert!(!metric.help.ends_with('.'), "the library adds one: {}", metric.help);
        }
    }

    #[test]
    fn runs_of_a_migration_that_is_gone_are_forgotten() {
        let metrics = Metrics::default();
        metrics.run_ended("shop", "a", Reason::Succeeded, Duration::from_secs(1));
        metrics.run_ended("shop", "a", Reason::Succeeded, Duration::from_secs(1));
        metrics.run_ended("shop", "b", Reason::ScriptFailed, Duration::from_secs(1));
        let label = |name: &str, outcome: &str| {
            vec![("namespace", "shop".to_owned()), ("name", name.to_owned()), ("outcome", outcome.to_owned())]
        };
        let both = vec![(label("a", "Succeeded"), 2), (label("b", "ScriptFailed"), 1)];
        assert_eq!(metrics.runs_of(|_, _| true), both);
        assert_eq!(metrics.runs_of(|_, name| name == "b"), both[1..]);
        assert_eq!(metrics.runs_of(|_, _| true), both[1..], "it does not come back");
    }
}
