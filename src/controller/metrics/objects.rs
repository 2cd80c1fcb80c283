//! What the caches hold → gauges, anew at every scrape. Only the replica that leads tells of the objects: a sum over the
//! replicas counts each once.

use std::fmt;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Labels;
use super::table::{self, Metric};
use crate::api::conditions::{READY, RECONCILING, STALLED};
use crate::api::{Migration, PostgresDatabase, Reason};
use crate::controller::Context;
use crate::controller::Watched;

/// Reads the caches of a [`Context`], which holds what holds this.
pub struct Objects(Weak<Context>);

impl Objects {
    pub fn new(context: &Arc<Context>) -> Self {
        Self(Arc::downgrade(context))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(context) = self.0.upgrade() else { return Ok(()) };
        let leads = context.lead.acts();
        gauge(&mut encoder, table::LEADER, f64::from(u8::from(leads)))?;
        gauge(&mut encoder, table::RUNS_IN_PROGRESS, context.runs_in_progress() as f64)?;
        if !leads {
            return Ok(());
        }
        let of_all = conditions(&context.migrations, |m| Some(&m.status.as_ref()?.conditions))
            .chain(conditions(&context.databases, |d| Some(&d.status.as_ref()?.conditions)))
            .chain(conditions(&context.backups, |b| Some(&b.status.as_ref()?.conditions)));
        gauges(&mut encoder, table::CONDITION, of_all)?;
        // Not copies: a scrape of ten thousand objects must not double what they take.
        let (migrations, databases) = (context.migrations.state(), context.databases.state());
        let (migrations, databases) = (readable(&migrations), readable(&databases));
        of_migrations(&mut encoder, &migrations)?;
        of_databases(&mut encoder, &databases)?;
        runs(&mut encoder, &context)
    }
}

/// Those that can be read.
fn readable<K>(objects: &[Arc<Watched<K>>]) -> Vec<&K> {
    objects.iter().filter_map(|object| object.0.as_ref().ok()).collect()
}

fn of_migrations(encoder: &mut DescriptorEncoder, migrations: &[&Migration]) -> fmt::Result {
    let told = || migrations.iter().filter_map(|migration| Some((migration, migration.status.as_ref()?)));
    let info = told().map(|(migration, status)| {
        let mut labels = named(*migration);
        labels.push(("database", migration.spec.database_ref.name.clone()));
        labels.push(("version", status.version.clone().unwrap_or_default()));
        labels.push(("target", status.target.clone().unwrap_or_default()));
        (labels, 1.0)
    });
    gauges(encoder, table::MIGRATION, info)?;
    let pending = told().filter_map(|(m, status)| Some((named(*m), status.pending? as f64)));
    gauges(encoder, table::PENDING, pending)?;
    let running = || told().filter_map(|(migration, status)| Some((named(*migration), status.run.as_ref()?)));
    gauges(encoder, table::WAITING_ON, running().map(|(labels, run)| (labels, run.waiting_on.len() as f64)))?;
    gauges(encoder, table::ATTEMPTS, running().filter_map(|(labels, run)| Some((labels, run.attempts? as f64))))?;
    let last = told().filter_map(|(migration, status)| {
        let last = status.history.iter().find(|run| run.outcome == Reason::Succeeded.as_str())?;
        Some((named(*migration), seconds(&last.completed_at)?))
    });
    gauges(encoder, table::LAST_SUCCESS, last)
}

fn of_databases(encoder: &mut DescriptorEncoder, databases: &[&PostgresDatabase]) -> fmt::Result {
    let told = || databases.iter().filter_map(|database| Some((database, database.status.as_ref()?)));
    let info = told().map(|(database, status)| {
        let mut labels = named(*database);
        labels.push(("version", status.version.clone().unwrap_or_default()));
        labels.push(("server_version", status.server_version.clone().unwrap_or_default()));
        (labels, 1.0)
    });
    gauges(encoder, table::DATABASE, info)?;
    let size = told().filter_map(|(database, status)| Some((named(*database), status.size_bytes? as f64)));
    gauges(encoder, table::DATABASE_SIZE, size)?;
    let backup = told()
        .filter_map(|(database, status)| Some((named(*database), seconds(&status.last_backup.as_ref()?.snapshot_at)?)));
    gauges(encoder, table::LAST_BACKUP, backup)
}

fn runs(encoder: &mut DescriptorEncoder, context: &Context) -> fmt::Result {
    let exists =
        |namespace: &str, name: &str| context.migrations.get(&ObjectRef::new(name).within(namespace)).is_some();
    let runs = context.metrics.runs_of(exists);
    if runs.is_empty() {
        return Ok(());
    }
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut counters = encoder.encode_descriptor(table::RUNS.registered(), &sentence(table::RUNS), None, kind)?;
    for (labels, count) in runs {
        ConstCounter::new(count).encode(counters.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A gauge without labels.
fn gauge(encoder: &mut DescriptorEncoder, metric: Metric, value: f64) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(metric.registered(), &sentence(metric), None, gauge.metric_type())?)
}

/// A gauge with each of its series; without any, nothing.
fn gauges(
    encoder: &mut DescriptorEncoder,
    metric: Metric,
    series: impl IntoIterator<Item = (Labels, f64)>,
) -> fmt::Result {
    let mut series = series.into_iter().peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let kind = ConstGauge::new(0.0).metric_type();
    let mut gauges = encoder.encode_descriptor(metric.registered(), &sentence(metric), None, kind)?;
    for (labels, value) in series {
        ConstGauge::new(value).encode(gauges.encode_family(&labels)?)?;
    }
    Ok(())
}

/// As the registry does for what it registers.
fn sentence(metric: Metric) -> String {
    format!("{}.", metric.help)
}

fn named(object: &impl ResourceExt) -> Labels {
    vec![("namespace", object.namespace().unwrap_or_default()), ("name", object.name_any())]
}

/// Of each object of a kind the one of the three that is True. One that cannot be read is Stalled, as `invalid` tells it, be it
/// by an event alone.
fn conditions<K>(
    store: &Store<Watched<K>>,
    of: fn(&K) -> Option<&Vec<Condition>>,
) -> impl Iterator<Item = (Labels, f64)>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().into_iter().filter_map(move |object| {
        let (condition, reason) = match &object.0 {
            Ok(readable) => holds(of(readable)?)?,
            Err(_) => (STALLED, Reason::InvalidSpec),
        };
        let mut labels = vec![("kind", K::kind(&()).into_owned())];
        labels.extend(named(object.as_ref()));
        labels.push(("condition", condition.to_owned()));
        labels.push(("reason", reason.to_string()));
        Some((labels, 1.0))
    })
}

/// The one of the three that is True. A reason that this Belay does not know is no label.
fn holds(conditions: &[Condition]) -> Option<(&str, Reason)> {
    let summary = |condition: &&Condition| [READY, RECONCILING, STALLED].contains(&condition.type_.as_str());
    let holds = conditions.iter().filter(summary).find(|condition| condition.status == "True")?;
    Some((&holds.type_, holds.reason.parse().ok()?))
}

fn seconds(at: &str) -> Option<f64> {
    Some(at.parse::<Timestamp>().ok()?.as_second() as f64)
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store::Writer;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_is_stalled_whatever_its_status_says() {
        let condition = json!({
            "type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let object = |name: &str, spec: serde_json::Value| {
            let object = json!({
                "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "namespace": "shop", "name": name },
                "spec": spec, "status": { "conditions": [condition] },
            });
            serde_json::from_value::<Watched<PostgresDatabase>>(object).unwrap()
        };
        let mut writer = Writer::default();
        let objects = [
            object("a", json!({ "connection": { "secretRef": { "name": "a" } } })),
            object("b", json!("of another Belay")),
        ];
        for object in objects {
            writer.apply_watcher_event(&Event::Apply(object));
        }
        let mut told: Vec<String> = conditions(&writer.as_reader(), |d| Some(&d.status.as_ref()?.conditions))
            .map(|(labels, _)| labels.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join(" "))
            .collect();
        told.sort_unstable();
        assert_eq!(told, ["PostgresDatabase shop a Ready Succeeded", "PostgresDatabase shop b Stalled InvalidSpec"]);
    }
}
