//! The operator: watches the kinds, and brings databases to where their Migrations say. One folder a kind.
//!
//! What a kind's rules are stands in its `decide.rs`, which is pure; what SQL, backups and health checks do, in the
//! rooms of those names.

mod backup;
mod cache;
mod connection;
mod context;
mod crds;
mod database;
mod finalizer;
mod gate;
mod index;
mod invalid;
mod lease;
mod memory;
pub mod metrics;
pub mod migration;
mod pace;
mod pin;
mod probes;
mod queue;
mod rest;
mod status;
mod term;
mod turns;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::client::ClientBuilder;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tower::timeout::TimeoutLayer;

pub use context::{Context, Watched};
pub use watch::Scope;

use crate::api::{Migration, PostgresBackup, PostgresDatabase};
use crate::health;
use cache::Cache;
use gate::Gate;
use lease::Lead;
use queue::{Queue, Queues};

/// How long the API server may take to begin an answer: as long as an admission webhook may. A connection that somebody on the way has
/// forgotten would else be waited for until TCP gives it up, a quarter of an hour later.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a watch may be silent: it is sent a bookmark every minute.
const SILENCE: Duration = Duration::from_secs(150);

/// The operator's settings. Each is an argument of `belay controller`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Watch this namespace only.
    pub namespace: Option<String>,
    /// Names the cluster in ledgers. Absent: the UID of the namespace kube-system.
    pub cluster: Option<String>,
    /// The image of backup Jobs.
    pub image: String,
    pub image_pull_policy: String,
    /// Hosts that HTTP checks may reach besides Services of their own namespace.
    pub allowed_hosts: Vec<String>,
    /// How long runs may go on after a signal to stop, before they are cancelled.
    pub drain_timeout: Duration,
    /// Where /healthz, /readyz and /metrics are served.
    pub probes: std::net::SocketAddr,
    /// Act only while holding this Lease. Absent: there is one operator, and it acts.
    pub election: Option<Election>,
}

/// The Lease by which the replicas choose who acts.
#[derive(Clone, Debug)]
pub struct Election {
    pub lease: String,
    /// Absent: the Pod's own namespace; outside a Pod, the kubeconfig's.
    pub namespace: Option<String>,
}

/// Why the operator could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the Kubernetes API cannot be reached: {0}. Check the kubeconfig or the ServiceAccount")]
    Kubernetes(#[from] kube::Error),
    #[error("no Kubernetes configuration: {0}. Run in a Pod, or set KUBECONFIG")]
    Configuration(#[from] kube::config::InferConfigError),
    #[error(
        "the namespace kube-system cannot be read, whose UID names this cluster in ledgers: {0}. Grant get on it, or set --cluster"
    )]
    Cluster(kube::Error),
    #[error("the address {address} cannot be served: {error}. Set another with --probes")]
    Probes { address: std::net::SocketAddr, error: std::io::Error },
    #[error("SIGTERM and Ctrl-C cannot be listened for: {0}. Start Belay again")]
    Signals(std::io::Error),
    #[error("the task that watches {0} ended, which it never should. Start Belay again, and report what it logged")]
    Ended(&'static str),
}

/// Runs the operator until a signal asks it to stop.
///
/// # Errors
/// When it cannot start.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let asked = asked_to_stop()?;
    let mut config = kube::Config::infer().await?;
    config.read_timeout = Some(SILENCE);
    let stop = CancellationToken::new();
    let pages = probes::Pages::default();
    let probes = probes::serve(settings.probes, pages.clone()).await?;
    let lead = if settings.election.is_some() { Lead::elected_only() } else { Lead::always() };
    let client = ClientBuilder::try_from(config.clone())?
        .with_layer(&TimeoutLayer::new(ANSWER))
        .with_layer(&Gate(lead.clone()))
        .build();
    let begin = async {
        crds::wait(&client).await;
        match &settings.cluster {
            Some(cluster) => Ok(cluster.clone()),
            None => cluster_uid(&client).await,
        }
    };
    let Some(cluster) = asked.run_until_cancelled(begin).await.transpose()? else { return Ok(()) };

    let scope = Scope(settings.namespace.clone());
    let (migrations, migrations_cache) = Cache::new(watch::differs);
    let (databases, databases_cache) = Cache::new(watch::differs);
    let (backups, backups_cache) = Cache::new(watch::differs_at_all);
    let metrics = metrics::Metrics::default();
    let (migrations_queue, queued_migrations) = Queue::new(metrics.waiting::<Migration>());
    let (databases_queue, queued_databases) = Queue::new(metrics.waiting::<PostgresDatabase>());
    let (backups_queue, queued_backups) = Queue::new(metrics.waiting::<PostgresBackup>());
    let context = Arc::new(Context {
        cluster,
        recorder: Recorder::new(client.clone(), Reporter { controller: "belay".to_owned(), instance: None }),
        health: health::Policy { allowed_hosts: settings.allowed_hosts },
        image: settings.image,
        image_pull_policy: settings.image_pull_policy,
        migrations,
        databases,
        backups,
        migrations_by_database: index::Index::default(),
        migrations_by_config_map: index::Index::default(),
        backups_by_database: index::Index::default(),
        queues: Queues { migrations: migrations_queue, databases: databases_queue, backups: backups_queue },
        draining: AtomicBool::new(false),
        lead: lead.clone(),
        listed: watch::AllListed::default(),
        metrics,
        looks: database::Looks::new(lead.clone()),
        pins: database::Pins::new(lead.clone()),
        pace: pace::Pace::default(),
        turns: turns::Turns::default(),
        memories: Mutex::new(HashMap::new()),
        client: client.clone(),
    });

    // Set once: nobody else has it.
    let _ = pages.metrics.set(context.metrics.registry(&context));

    let watched_backups = watch::backups(context.clone(), scope.clone(), backups_cache);
    let watched_databases = watch::databases(context.clone(), scope.clone(), databases_cache);
    let mut databases = both(watched_databases, database::run(context.clone(), queued_databases, stopped(&stop)));
    let mut config_maps = tokio::spawn(watch::config_maps(context.clone(), scope.clone()));
    let mut backups =
        both(watched_backups, backup::run(context.clone(), queued_backups, scope.clone(), stopped(&stop)));
    // A Migration must not be told that its Database is missing because the watch is still reading.
    let filled = async {
        context.listed.databases.once().await;
        context.listed.backups.once().await;
    };
    if asked.run_until_cancelled(filled).await.is_none() {
        return Ok(());
    }
    let _ = pages.ready.set(());
    tracing::info!(cluster = context.cluster, version = env!("CARGO_PKG_VERSION"), "watching");
    let begun = tokio::spawn(begin_each_term(context.clone()));
    // Not before the caches are filled: who leads has to know what there is.
    let leave = CancellationToken::new();
    let election = match settings.election {
        Some(election) => Some(stand(election, config, lead.clone(), leave.clone())?),
        None => None,
    };

    let let_go = tokio::spawn(let_go_when_lost(context.clone()));
    let watched_migrations = watch::migrations(context.clone(), scope, migrations_cache);
    let mut migrations = both(watched_migrations, migration::run(context.clone(), queued_migrations, stopped(&stop)));
    // None of them ends by itself. One that panicked would leave an operator that looks well and does nothing: a new
    // process is better, and finds in the ledgers where things are.
    let ended = tokio::select! {
        () = asked.cancelled() => None,
        _ = &mut migrations => Some("Migrations"),
        _ = &mut databases => Some("PostgresDatabases"),
        _ = &mut backups => Some("PostgresBackups"),
        _ = &mut config_maps => Some("ConfigMaps"),
    };
    match ended {
        None => tracing::info!("asked to stop: runs in progress go on for at most {:?}", settings.drain_timeout),
        Some(what) => tracing::error!("the task that watches {what} ended: Belay stops, to be started anew"),
    }
    context.draining.store(true, Ordering::SeqCst);
    stop.cancel();
    let_go.abort();
    begun.abort();
    drain(&context, settings.drain_timeout).await;
    for task in [databases, config_maps, backups, migrations] {
        task.abort();
    }
    // Only now may another act: nothing of this process is left that does.
    leave.cancel();
    if let Some(election) = election {
        let _ = election.await;
    }
    probes.abort();
    ended.map_or(Ok(()), |what| Err(Error::Ended(what)))
}

/// A task that ends when either does.
fn both(
    watch: impl Future<Output = ()> + Send + 'static,
    controller: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async {
        tokio::select! {
            () = watch => {}
            () = controller => {}
        }
    })
}

/// At the start, and each time that this replica leads again: what the caches hold is looked at, all of it, once they were read anew.
async fn begin_each_term(context: Arc<Context>) {
    let mut term = context.lead.term();
    loop {
        for listed in context.listed.all() {
            listed.since(term).await;
        }
        context.migrations.state().iter().for_each(|migration| migration::begin(migration, &context));
        context.databases.state().iter().for_each(|database| database::begin(database, &context));
        context.backups.state().iter().for_each(|backup| backup::begin(backup, &context));
        term = context.lead.elected_after(term).await;
    }
}

/// Each time that the Lease is lost: lets go of what this replica has begun, but for steps in progress, which go on to their
/// end under their advisory locks. When it leads again before that end, they are its runs as they were.
async fn let_go_when_lost(context: Arc<Context>) {
    let mut term = 0;
    loop {
        term = context.lead.elected_after(term).await;
        context.lead.lost(term).await;
        let mut busy = let_go(&context).await;
        if busy > 0 {
            tracing::info!(runs = busy, "runs in progress go on to the end of their step");
        }
        while busy > 0 && !context.lead.acts() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            busy = let_go(&context).await;
        }
    }
}

/// Lets go of all but steps in progress; how many there are.
async fn let_go(context: &Context) -> usize {
    let mut busy = 0;
    for entry in context.entries() {
        busy += usize::from(entry.memory.lock().await.let_go());
    }
    busy
}

/// Stands for election, by a connection of its own, which the gate is not before.
fn stand(
    election: Election,
    config: kube::Config,
    lead: Lead,
    leave: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, Error> {
    // The Pod's name, where there is one; the rest tells a process from the one that was there before it.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "belay".to_owned());
    let candidacy = lease::Candidacy {
        namespace: election.namespace.unwrap_or_else(|| config.default_namespace.clone()),
        name: election.lease,
        identity: format!("{host}_{}", uuid::Uuid::new_v4()),
    };
    let client = Client::try_from(config)?;
    Ok(tokio::spawn(lease::campaign(candidacy, client, lead, leave)))
}

/// Lets runs come to the end of their step, then cancels what is left: on the server too.
async fn drain(context: &Context, timeout: Duration) {
    const CANCELLED: Duration = Duration::from_secs(10);
    if tokio::time::timeout(timeout, until(context, migration::Run::is_idle)).await.is_err() {
        tracing::warn!("the drain timeout is over: runs in progress are cancelled, and rolled back");
    }
    for entry in context.entries() {
        if let Some(run) = &entry.memory.lock().await.run {
            run.cancel();
        }
    }
    if tokio::time::timeout(CANCELLED, until(context, migration::Run::has_ended)).await.is_err() {
        tracing::warn!("a run did not end in time: its server rolls it back");
    }
}

/// Waits until `done` of every run.
async fn until(context: &Context, done: fn(&migration::Run) -> bool) {
    loop {
        let mut waiting = false;
        for entry in context.entries() {
            waiting |= entry.memory.lock().await.run.as_ref().is_some_and(|run| !done(run));
        }
        if !waiting {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn cluster_uid(client: &Client) -> Result<String, Error> {
    let namespace = Api::<Namespace>::all(client.clone()).get("kube-system").await.map_err(Error::Cluster)?;
    Ok(namespace.uid().unwrap_or_default())
}

fn stopped(stop: &CancellationToken) -> impl Future<Output = ()> + Send + Sync + use<> {
    let stop = stop.clone();
    async move { stop.cancelled().await }
}

/// Cancelled by the first SIGTERM or Ctrl-C from now on. Once a process has listened for them they do not end it by themselves any more:
/// what comes while nobody listens is lost.
fn asked_to_stop() -> Result<CancellationToken, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let asked = CancellationToken::new();
    let cancel = asked.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    Ok(asked)
}
