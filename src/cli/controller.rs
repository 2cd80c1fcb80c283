//! `belay controller`: the operator.

use std::net::SocketAddr;
use std::str::FromStr;

use clap::Args;

use super::error::CliError;
use super::exit::Exit;
use crate::api::Duration;
use crate::controller::{self, Election, Settings};

/// Watch Migrations and bring their databases to where they say (what the chart runs)
#[derive(Args, Debug)]
pub struct Controller {
    /// Watch this namespace only
    #[arg(long, env = "BELAY_NAMESPACE")]
    namespace: Option<String>,
    /// What ledgers call this cluster; by default the UID of the namespace kube-system
    #[arg(long, env = "BELAY_CLUSTER")]
    cluster: Option<String>,
    /// The image of backup Jobs: this program's own
    #[arg(long, env = "BELAY_IMAGE", default_value = concat!("belay:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// When that image is pulled: Always, IfNotPresent or Never
    #[arg(long, env = "BELAY_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: String,
    /// Hosts that HTTP checks may reach besides Services of their own namespace
    #[arg(long, env = "BELAY_ALLOWED_HOSTS", value_delimiter = ',')]
    allowed_hosts: Vec<String>,
    /// How long runs may go on after a signal to stop, before they are cancelled and rolled back
    #[arg(long, env = "BELAY_DRAIN_TIMEOUT", default_value = "30s", value_parser = Duration::from_str)]
    drain_timeout: Duration,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "BELAY_PROBES", default_value = "[::]:8080")]
    probes: SocketAddr,
    /// Act only while holding a Lease, so that of several replicas one acts
    #[arg(long, env = "BELAY_LEADER_ELECT")]
    leader_elect: bool,
    /// The Lease's name
    #[arg(long, env = "BELAY_LEASE", default_value = "belay", value_name = "NAME")]
    lease: String,
    /// The Lease's namespace; by default the Pod's own
    #[arg(long, env = "BELAY_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
}

impl Controller {
    pub fn run(self) -> Result<Exit, CliError> {
        /// It waits more than it works: on a large machine a thread for each core, with its part of the heap, would be for nothing.
        const MOST_THREADS: usize = 4;
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .map_err(CliError::Start)?;
        let settings = Settings {
            namespace: self.namespace,
            cluster: self.cluster,
            image: self.image,
            image_pull_policy: self.image_pull_policy,
            allowed_hosts: self.allowed_hosts,
            drain_timeout: self.drain_timeout.get(),
            probes: self.probes,
            election: self.leader_elect.then_some(Election { lease: self.lease, namespace: self.lease_namespace }),
        };
        runtime.block_on(controller::run(settings)).map_err(CliError::Controller)?;
        Ok(Exit::Done)
    }
}
