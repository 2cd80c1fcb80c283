//! A run: a task of its own that holds one connection and its lock, and does one ordered step after the other.
//!
//! The reconcile never waits for SQL: it orders a step, sees the run's [`View`], and is woken by its every change.
//! What the next step is, [`super::decide`] says; this room only does it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

use super::observe::{Key, Trouble};
use super::view::{About, Activity, Doing, Inspection, Place, View};
use crate::api::{Failure, HealthCheck, PostgresDatabase, Reason, TransactionMode};
use crate::controller::database::Seen;
use crate::controller::turns::Turn;
use crate::controller::{Context, connection};
use crate::health::{self, Verdict};
use crate::plan::Plan;
use crate::postgres::{Engine, Holder, PostgresError, Progress, RunContext, RunIntent};

/// A step that a run is ordered to do.
pub enum Order {
    Inspect {
        lock: bool,
        below: Option<String>,
    },
    /// `lifts`: the plan is held, and a person has asked for another try.
    Apply {
        plan: Plan,
        about: Arc<About>,
        lifts: bool,
    },
    CheckHealth(Vec<HealthCheck>),
    Close {
        outcome: Reason,
    },
}

/// What a run is about, and with what it works.
pub struct Setting {
    pub context: Arc<Context>,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub claimant: String,
    pub database: Arc<PostgresDatabase>,
    /// A former Belay began the run: its row in the ledger is there already, and is to be closed.
    pub adopted: bool,
}

impl Setting {
    /// A reconcile should see what has changed.
    fn wake(&self) {
        self.context.wake(&self.namespace, &self.name);
    }
}

/// The reconcile's end of a run.
pub struct Run {
    view: Arc<Mutex<View>>,
    orders: mpsc::UnboundedSender<Order>,
    cancel: CancellationToken,
}

impl Run {
    /// Starts the task; its first order is to connect and to read.
    pub fn start(id: Uuid, now: Timestamp, key: Key, setting: Setting, lock: bool) -> Self {
        let view = Arc::new(Mutex::new(View::new(id, now, key)));
        let (orders, inbox) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let span = tracing::info_span!("run", run = %id, namespace = %setting.namespace, migration = %setting.name);
        let task = Task { id, setting, view: view.clone(), cancel: cancel.clone(), engine: None, turn: None };
        tokio::spawn(task.work(inbox).instrument(span));
        let run = Self { view, orders, cancel };
        run.order(Order::Inspect { lock, below: None });
        run
    }

    /// The run as it is now.
    pub fn view(&self) -> View {
        lock(&self.view).clone()
    }

    /// Orders the next step; it counts as begun from this moment on.
    pub fn order(&self, order: Order) {
        {
            let mut view = lock(&self.view);
            match &order {
                Order::Inspect { below, .. } => {
                    view.activity = Activity::Busy(Doing::Reading);
                    view.inspection = None;
                    view.below.clone_from(below);
                }
                Order::Apply { plan, about, .. } => {
                    view.activity = Activity::Busy(Doing::Applying(Place::first(plan)));
                    view.inspection = None;
                    view.applied = None;
                    view.health = None;
                    view.wrote = true;
                    view.about = Some(about.clone());
                }
                Order::CheckHealth(_) => view.activity = Activity::Busy(Doing::CheckingHealth(String::new())),
                Order::Close { .. } => view.activity = Activity::Busy(Doing::Reading),
            }
        }
        if self.orders.send(order).is_err() {
            lock(&self.view).activity = Activity::Ended;
        }
    }

    /// Whether it is doing nothing that a stop would undo.
    pub fn is_idle(&self) -> bool {
        matches!(lock(&self.view).activity, Activity::Idle | Activity::Ended)
    }

    /// Whether its connection is closed.
    pub fn has_ended(&self) -> bool {
        lock(&self.view).activity == Activity::Ended
    }

    /// Asks for what runs to be cancelled on the server; the run ends soon after. Asking twice does nothing more.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    id: Uuid,
    setting: Setting,
    view: Arc<Mutex<View>>,
    cancel: CancellationToken,
    engine: Option<Engine>,
    /// Taken before it connects, and given back when it ends.
    turn: Option<Turn>,
}

impl Task {
    async fn work(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        loop {
            let order = tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                order = inbox.recv() => order,
            };
            let done = match order {
                None => break,
                Some(Order::Inspect { lock, .. }) => {
                    self.look(lock).await;
                    false
                }
                Some(Order::Apply { plan, about, lifts }) => {
                    let applied = self.apply(&plan, about.policy.transaction, lifts).await;
                    self.show(|view| {
                        view.applied = Some(applied);
                        view.activity = Activity::Busy(Doing::Reading);
                    });
                    // What it came to is read back before anything is said of it.
                    if self.engine.as_ref().is_some_and(Engine::holds_lock) && !self.cancel.is_cancelled() {
                        self.look(true).await;
                    }
                    false
                }
                Some(Order::CheckHealth(checks)) => {
                    let verdict = self.check_health(&checks).await;
                    self.show(|view| match verdict {
                        Ok(verdict) => view.health = Some(verdict),
                        Err(trouble) => view.trouble = Some(trouble),
                    });
                    false
                }
                Some(Order::Close { outcome }) => {
                    self.finish(outcome).await;
                    let seen = self.see().await;
                    self.show(|view| view.seen = seen);
                    true
                }
            };
            if done {
                break;
            }
            self.show(|view| view.activity = Activity::Idle);
            self.setting.wake();
        }
        if self.cancel.is_cancelled() {
            // As where a replica that lost its Lease lets go of a run that came to its end.
            let outcome = match &lock(&self.view).applied {
                Some(Ok(())) => Reason::Succeeded,
                Some(Err(failure)) => failure.reason.parse().unwrap_or(Reason::Cancelled),
                None => Reason::Cancelled,
            };
            self.finish(outcome).await;
        }
        if let Some(engine) = self.engine.take() {
            engine.close().await;
        }
        self.show(|view| view.activity = Activity::Ended);
        self.setting.wake();
    }

    fn show(&self, change: impl FnOnce(&mut View)) {
        change(&mut lock(&self.view));
    }

    /// The PostgresBackup below the run.
    fn below(&self) -> Option<String> {
        lock(&self.view).below.clone()
    }

    /// Whether the ledger has a row of this run that is this task's to close: never while another holds the lock.
    fn is_in_ledger(&self) -> bool {
        let view = lock(&self.view);
        let adopted = |inspection: &Arc<Inspection>| inspection.locked && inspection.ledger.exists;
        view.wrote || (self.setting.adopted && view.inspection.as_ref().is_some_and(adopted))
    }

    /// Reads identity and ledger, and shows what there is.
    async fn look(&mut self, lock: bool) {
        let inspection = self.inspect(lock).await;
        self.show(|view| match inspection {
            Ok(inspection) => view.inspection = Some(Arc::new(inspection)),
            Err(trouble) => view.trouble = Some(trouble),
        });
    }

    async fn inspect(&mut self, lock: bool) -> Result<Inspection, Trouble> {
        let below = self.below();
        // One that was lost while scripts ran, and did not come back in time, may be there again.
        self.engine = self.engine.take().filter(Engine::is_connected);
        if self.engine.is_none() {
            let Setting { context, namespace, database, .. } = &self.setting;
            let target = connection::target(&context.client, namespace, database).await?;
            self.take_turn(target.address().server()).await?;
            let application = format!("belay/{}/{}/{}", self.id.simple(), self.setting.namespace, self.setting.name);
            self.engine = Some(Engine::connect(target, &application).await.map_err(Trouble::from)?);
        }
        let Some(engine) = &mut self.engine else { return Err(closed()) };
        let read = read(engine, lock, below).await;
        if let Err(PostgresError::Lost { .. }) = &read {
            self.engine = None;
        }
        read.map_err(Trouble::from)
    }

    async fn take_turn(&mut self, server: String) -> Result<(), Trouble> {
        if self.turn.is_some() {
            return Ok(());
        }
        let waits = |view: &mut View| view.activity = Activity::Busy(Doing::Waiting(server.clone()));
        self.show(waits);
        let turn = tokio::select! {
            turn = self.setting.context.turns.take(&server) => turn,
            () = self.cancel.cancelled() => return Err(closed()),
        };
        self.turn = Some(turn);
        self.show(|view| {
            view.activity = Activity::Busy(Doing::Reading);
            view.since = Timestamp::now();
        });
        Ok(())
    }

    async fn apply(&mut self, plan: &Plan, transaction: TransactionMode, lifts: bool) -> Result<(), Failure> {
        let below = self.below();
        let Some(engine) = &mut self.engine else { return Err(closed().into_failure()) };
        let context = RunContext::new(self.id, self.setting.claimant.clone());
        let intent = RunIntent {
            id: self.id,
            holder: self.setting.claimant.clone(),
            plan: plan.hash.clone(),
            from: plan.from.as_ref().map(ToString::to_string),
            to: Some(plan.to.to_string()),
            backup: below,
        };
        let view = &self.view;
        let setting = &self.setting;
        let progress = move |progress: Progress<'_>| {
            lock(view).activity = Activity::Busy(Doing::Applying(Place::from(&progress)));
            setting.wake();
        };
        let applied = async {
            engine.claim(&self.setting.claimant).await?;
            engine.begin_run(&intent).await?;
            if lifts {
                // What it ends in now is what counts.
                engine.release_hold(&self.setting.claimant, &plan.hash).await?;
            }
            engine.record_present(&context, plan, &self.cancel).await?;
            engine.apply(&plan.pending, transaction, &context, &progress, &self.cancel).await
        }
        .await;
        let Err(error) = applied else { return Ok(()) };
        let failure = error.failure();
        tracing::warn!(
            reason = failure.reason,
            script = failure.script,
            line = failure.line,
            "the run stopped: {error}"
        );
        if error.is_held()
            && let Err(error) = engine.hold(&context, &plan.hash, &failure).await
        {
            tracing::warn!("the hold could not be written to the ledger: {error}");
        }
        Err(failure)
    }

    async fn check_health(&mut self, checks: &[HealthCheck]) -> Result<Verdict, Trouble> {
        let Some(engine) = &mut self.engine else { return Err(closed()) };
        let view = &self.view;
        let setting = &self.setting;
        let began = |check: &str| {
            lock(view).activity = Activity::Busy(Doing::CheckingHealth(check.to_owned()));
            setting.wake();
        };
        let place = health::Setting {
            client: &setting.context.client,
            namespace: &setting.namespace,
            migration: &setting.name,
            uid: &setting.uid,
            run: self.id,
            policy: &setting.context.health,
        };
        tokio::select! {
            verdict = health::check_all(checks, &place, engine, &began) => verdict.map_err(Trouble::from),
            // The query of a check that is cut off leaves a connection that is only good to be closed.
            () = self.cancel.cancelled() => Err(closed()),
        }
    }

    /// What a look at the Database would see, without a connection of its own.
    async fn see(&mut self) -> Option<Seen> {
        let inspection = lock(&self.view).inspection.clone()?;
        let size_bytes = self.engine.as_mut()?.size_bytes().await.ok()?;
        let version = inspection.ledger.current().map(|row| row.version.clone());
        Some(Seen { identity: inspection.identity.clone(), size_bytes, version })
    }

    /// Writes the outcome to the ledger, if the run changed anything.
    async fn finish(&mut self, outcome: Reason) {
        if !self.is_in_ledger() {
            return;
        }
        let Some(engine) = &mut self.engine else { return };
        if let Err(error) = engine.finish_run(self.id, outcome.as_str()).await {
            tracing::warn!("the run's outcome could not be written to the ledger: {error}");
        }
    }
}

async fn read(engine: &mut Engine, lock: bool, below: Option<String>) -> Result<Inspection, PostgresError> {
    let locked = engine.holds_lock() || (lock && engine.try_lock().await?);
    let ledger = engine.ledger().await?;
    let holder = if locked || !lock { None } else { engine.lock_holder().await?.map(|holder| in_words(&holder)) };
    let privileges = engine.check_privileges().await.err().map(Trouble::from);
    Ok(Inspection {
        at: Timestamp::now(),
        identity: engine.identity().clone(),
        ledger,
        locked,
        holder,
        privileges,
        below,
    })
}

impl From<PostgresError> for Trouble {
    fn from(error: PostgresError) -> Self {
        Self { reason: error.reason(), message: error.to_string() }
    }
}

fn closed() -> Trouble {
    Trouble { reason: Reason::Cancelled, message: "the run was cancelled".to_owned() }
}

fn in_words(holder: &Holder) -> String {
    let since = holder.since.map_or_else(String::new, |since| format!(", connected since {since:.0}"));
    format!("{} (user {}, pid {}{since})", holder.application, holder.user, holder.pid)
}
