//! A PostgresDatabase's reconcile: look at the server every `interval`, and when a run has ended, and say what was
//! seen. It changes nothing.

mod look;
mod report;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;

use super::context::Watched;
use super::{Context, invalid, watch};
use crate::api::PostgresDatabase;
use look::Look;

/// As many servers are looked at at once.
const CONCURRENCY: u16 = 8;

/// What was last seen of each Database, by UID.
#[derive(Default)]
pub struct Looks(Mutex<HashMap<String, Look>>);

impl Looks {
    /// The next reconcile looks anew: something has changed on the server.
    pub fn expire(&self, uid: &str) {
        if let Some(look) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(uid) {
            look.until = Timestamp::MIN;
        }
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Since when looks have failed, if the last one did.
    fn failing_since(&self, uid: &str) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid)?.failing_since
    }

    /// What was seen of this generation, while it is not too old.
    fn fresh(&self, uid: &str, generation: Option<i64>, now: Timestamp) -> Option<Look> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.get(uid).filter(|look| look.generation == generation && now < look.until).cloned()
    }

    fn keep(&self, uid: String, look: Look) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, look);
    }
}

/// Reconciles Databases until `stop`.
pub async fn run(
    context: Arc<Context>,
    trigger: watch::Trigger<PostgresDatabase>,
    wake: mpsc::UnboundedReceiver<ObjectRef<Watched<PostgresDatabase>>>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let queue = context.metrics.databases.clone();
    Controller::for_stream(queue.changed(trigger), context.databases.clone())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(queue.woken(wake))
        .reconcile_all_on(watch::elected(&context))
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context)
        .for_each(async |result| queue.ended(result))
        .await;
}

async fn reconcile(watched: Arc<Watched<PostgresDatabase>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let _counted = context.metrics.databases.begin(&watched.namespace().unwrap_or_default(), &watched.name_any());
    if context.rests() {
        return Ok(Action::await_change());
    }
    let database = match &watched.0 {
        Ok(database) => database,
        Err(unreadable) => {
            invalid::report::<PostgresDatabase>(unreadable, &context).await?;
            return Ok(Action::await_change());
        }
    };
    if database.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (uid, now) = (database.uid().unwrap_or_default(), Timestamp::now());
    let look = match context.looks.fresh(&uid, database.metadata.generation, now) {
        Some(look) => look,
        None => {
            let look = look::look(database, &context, now).await;
            context.looks.keep(uid, look.clone());
            look
        }
    };
    report::report(database, &look, &context, now).await?;
    Ok(Action::requeue(until(look.until, Timestamp::now())))
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now).max(SignedDuration::ZERO)).unwrap_or_default()
}

fn on_error(watched: Arc<Watched<PostgresDatabase>>, error: &kube::Error, context: Arc<Context>) -> Action {
    context.metrics.reconcile_failed::<PostgresDatabase>(error);
    tracing::warn!(database = watched.name_any(), namespace = watched.namespace(), "the reconcile failed: {error}");
    Action::requeue(Duration::from_secs(5))
}
