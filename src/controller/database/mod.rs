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
use super::pin::{self, Pin};
use super::{Context, invalid, watch};
use crate::api::{ACCEPT, PostgresDatabase};
use look::Look;

/// As many servers are looked at at once.
const CONCURRENCY: u16 = 8;

/// What was last seen of each Database, by UID.
#[derive(Default)]
pub struct Looks(Mutex<HashMap<String, Look>>);

/// What each Database is pinned to, by UID, and how often a person has moved the pin: sooner than the watch brings the
/// status back.
#[derive(Default)]
pub struct Pins(Mutex<HashMap<String, (Pin, u32)>>);

impl Pins {
    /// What a Database is pinned to, and how often a person has moved that.
    pub fn get(&self, database: &PostgresDatabase) -> (Pin, u32) {
        let pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pins.get(&database.uid().unwrap_or_default()).cloned();
        known.unwrap_or_else(|| (database.status.as_ref().map(Pin::of).unwrap_or_default(), 0))
    }

    fn keep(&self, uid: String, pin: Pin, moved: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, (pin, moved));
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

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
    Controller::for_stream(trigger, context.databases.clone())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(wake)
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context)
        .for_each(async |_| {})
        .await;
}

async fn reconcile(watched: Arc<Watched<PostgresDatabase>>, context: Arc<Context>) -> Result<Action, kube::Error> {
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
            let look = pinned(database, look::look(database, &context, now).await, &context);
            context.looks.keep(uid, look.clone());
            look
        }
    };
    report::report(database, &look, &context, now).await?;
    Ok(Action::requeue(until(look.until, Timestamp::now())))
}

/// What was seen, if it is still the database that it was; the pin goes along with it.
fn pinned(database: &PostgresDatabase, mut look: Look, context: &Context) -> Look {
    let Ok(seen) = &look.seen else { return look };
    let (pin, moved) = context.pins.get(database);
    let now = Pin::seen(&seen.identity, seen.version.as_ref());
    match pin::check(database, &pin, &now) {
        Ok(accepted) => {
            context.pins.keep(database.uid().unwrap_or_default(), now, moved + u32::from(accepted));
            if accepted {
                tracing::warn!(
                    database = database.name_any(),
                    namespace = database.namespace(),
                    accepted = database.annotations().get(ACCEPT),
                    "a person accepted what this database is now"
                );
                context.wake_migrations_of(&database.namespace().unwrap_or_default(), &database.name_any());
            }
        }
        Err(trouble) => look.seen = Err(trouble),
    }
    look
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now).max(SignedDuration::ZERO)).unwrap_or_default()
}

fn on_error(watched: Arc<Watched<PostgresDatabase>>, error: &kube::Error, _: Arc<Context>) -> Action {
    tracing::warn!(database = watched.name_any(), namespace = watched.namespace(), "the reconcile failed: {error}");
    Action::requeue(Duration::from_secs(5))
}
