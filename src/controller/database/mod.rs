//! A PostgresDatabase's reconcile: look at the server every `interval`, and when a run has ended, and say what was
//! seen. It changes nothing.

mod look;
mod report;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::context::Watched;
use super::lease::Lead;
use super::migration::Trouble;
use super::pace::Pace;
use super::pin::{self, Pin};
use super::queue::Queued;
use super::term::Known;
use super::{Context, invalid, rest};
use crate::api::{ACCEPT, PostgresDatabase, conditions};
use look::Look;
pub use look::Seen;

/// As many servers are looked at at once.
const CONCURRENCY: u16 = 8;

/// What was last seen of each Database, by UID.
pub struct Looks {
    known: Known<Looked>,
    /// When what is well is looked at for the first time.
    pace: Pace,
}

/// How often a look was asked for, in one term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    term: u64,
    times: u64,
}

/// The last look at a Database, and what was asked for.
#[derive(Default)]
struct Looked {
    asked: Asked,
    look: Option<Look>,
    /// When the first look is due, unless one is asked for before.
    due: Option<(Asked, Timestamp)>,
}

impl Looks {
    pub fn new(lead: Lead) -> Self {
        Self { known: Known::new(lead), pace: Pace::default() }
    }

    fn of<T>(&self, uid: &str, read: impl FnOnce(&mut Looked) -> T) -> T {
        self.known.with(|term, known| {
            let new = || Looked { asked: Asked { term, times: 0 }, ..Looked::default() };
            read(known.entry(uid.to_owned()).or_insert_with(new))
        })
    }

    /// The next reconcile looks anew: something has changed. A look that is under way does not count.
    pub fn expire(&self, uid: &str) {
        self.of(uid, |looked| looked.asked.times += 1);
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.known.forget(uid);
    }

    /// What was asked for so far.
    fn asked(&self, uid: &str) -> Asked {
        self.of(uid, |looked| looked.asked)
    }

    /// Since when looks have failed, if the last one did.
    fn failing_since(&self, uid: &str) -> Option<Timestamp> {
        self.of(uid, |looked| looked.look.as_ref()?.failing_since)
    }

    /// What was seen of this generation, while it is not too old.
    fn fresh(&self, uid: &str, generation: Option<i64>, now: Timestamp) -> Option<Look> {
        self.of(uid, |looked| {
            let fresh = |look: &&Look| look.generation == generation && look.asked == looked.asked && now < look.until;
            looked.look.as_ref().filter(fresh).cloned()
        })
    }

    /// When the first look of this term is due, for a Database that can wait for it.
    fn due(&self, uid: &str, now: Timestamp) -> Option<Timestamp> {
        self.of(uid, |looked| {
            let (asked, due) = *looked.due.get_or_insert_with(|| (looked.asked, self.pace.next(now)));
            (looked.look.is_none() && looked.asked == asked).then_some(due)
        })
    }

    fn keep(&self, uid: &str, look: Look) {
        self.of(uid, |looked| looked.look = Some(look));
    }
}

/// What each Database is pinned to, by UID, and how often a person has moved the pin: sooner than the watch brings the
/// status back.
pub struct Pins(Known<(Pin, u32)>);

impl Pins {
    pub fn new(lead: Lead) -> Self {
        Self(Known::new(lead))
    }

    /// What a Database is pinned to, and how often a person has moved that.
    pub fn get(&self, database: &PostgresDatabase) -> (Pin, u32) {
        let known = self.0.with(|_, pins| pins.get(&database.uid().unwrap_or_default()).cloned());
        known.unwrap_or_else(|| (database.status.as_ref().map(Pin::of).unwrap_or_default(), 0))
    }

    fn keep(&self, uid: String, pin: Pin, moved: u32) {
        self.0.with(|_, pins| pins.insert(uid, (pin, moved)));
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.0.forget(uid);
    }
}

/// Reconciles Databases until `stop`.
pub async fn run(
    context: Arc<Context>,
    queued: Queued<PostgresDatabase>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    queued
        .controller(context.databases.clone(), CONCURRENCY)
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context.clone())
        .for_each(async |result| context.queues.databases.ended(result))
        .await;
}

/// Has one that was not known looked at, after a start or once this replica leads: in its turn if it is well, else at once.
pub fn begin(watched: &Watched<PostgresDatabase>, context: &Context) {
    if context.rests() {
        return;
    }
    let due = watched.0.as_ref().ok().and_then(|database| turn(database, context, Timestamp::now()));
    context.queues.databases.add_in_turn(watched, due);
}

async fn reconcile(watched: Arc<Watched<PostgresDatabase>>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let queue = &context.queues.databases;
    let _counted = queue.reconciling(&*watched);
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
            let due = turn(database, &context, now);
            if let Some(due) = due.filter(|due| now < *due) {
                return Ok(queue.again_at(&*watched, due));
            }
            if due.is_some() && waits_for_migration(database, &context) {
                return Ok(queue.again(&*watched, look::by_migration(database)));
            }
            let look = look::look(database, &context, now).await;
            context.looks.keep(&uid, look.clone());
            look
        }
    };
    report::report(database, &look, &context, now).await?;
    Ok(queue.again_at(&*watched, look.until))
}

/// A run has seen what a look would: the server need not be looked at once more.
pub fn saw(database: &PostgresDatabase, seen: Seen, context: &Context) {
    let look = Look::by_run(database, seen, context, Timestamp::now());
    context.looks.keep(&database.uid().unwrap_or_default(), look);
}

/// Whether a Migration that is at rest, and is looked at in its turn, will tell what there is to see.
fn waits_for_migration(database: &PostgresDatabase, context: &Context) -> bool {
    let migrations = context.migrations_of(&database.namespace().unwrap_or_default(), &database.name_any());
    migrations.iter().any(|migration| rest::is_at_rest(migration))
}

/// Until when one can wait for the first look of this term: the last look of whichever Belay found nothing wrong.
fn turn(database: &PostgresDatabase, context: &Context, now: Timestamp) -> Option<Timestamp> {
    let conditions = &database.status.as_ref()?.conditions;
    let well = conditions::is_current(conditions, conditions::READY, database.metadata.generation.unwrap_or_default());
    well.then(|| context.looks.due(&database.uid().unwrap_or_default(), now)).flatten()
}

/// Whether what was seen is still the database that it was; the pin goes along with it.
fn pinned(database: &PostgresDatabase, seen: Seen, context: &Context) -> Result<Seen, Trouble> {
    let (pin, moved) = context.pins.get(database);
    let now = Pin::seen(&seen.identity, seen.version.as_ref());
    let accepted = pin::check(database, &pin, &now)?;
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
    Ok(seen)
}

fn on_error(watched: Arc<Watched<PostgresDatabase>>, error: &kube::Error, context: Arc<Context>) -> Action {
    let again = invalid::on_error(&watched, error, Duration::from_secs(5), &context);
    context.queues.databases.again(&*watched, again)
}
