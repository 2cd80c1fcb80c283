//! Every metric there is. The registry, docs/metrics.md and the tests read this one table.

/// One metric, as it is exposed and documented.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As queries have it; of a histogram without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    pub kind: Kind,
    /// Bounded, each: names of objects, and words of Belay's own. Never a message.
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// The types of Prometheus that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    /// The name as the library registers it, which adds a counter's `_total` itself.
    pub fn registered(&self) -> &'static str {
        self.name.strip_suffix("_total").filter(|_| self.kind == Kind::Counter).unwrap_or(self.name)
    }

    /// Whether one of its series has this name.
    pub fn exposes(&self, series: &str) -> bool {
        match self.kind {
            Kind::Histogram => {
                series.strip_prefix(self.name).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
            }
            Kind::Counter | Kind::Gauge => series == self.name,
        }
    }
}

macro_rules! metrics {
    ($($name:ident: $kind:ident $text:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help]
        pub const $name: Metric =
            Metric { name: $text, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order of the table.
        pub const ALL: &[Metric] = &[$($name,)*];
    };
}

metrics! {
    BUILD: Gauge "belay_build_info" ["version"]
        "Always 1, with the version of Belay";
    LEADER: Gauge "belay_leader" []
        "1 on the replica that acts, 0 on one that follows";
    QUEUED: Gauge "belay_reconciles_queued" ["kind"]
        "Objects that changed, or were woken by a run, and wait to be looked at";
    RECONCILING: Gauge "belay_reconciles_in_progress" ["kind"]
        "Objects that are being looked at: at most 16, of PostgresDatabases 8";
    RECONCILE_ERRORS: Counter "belay_reconcile_errors_total" ["kind", "reason"]
        "Looks at an object that failed for Kubernetes' sake, by the HTTP status of the API server's answer, or Unreachable, Unreadable, NotLeading, Other";
    RUNS_IN_PROGRESS: Gauge "belay_runs_in_progress" []
        "Runs that hold, or ask for, a connection to a database";
    RUN_DURATION: Histogram "belay_run_duration_seconds" ["outcome"]
        "From a run's first backup or script to its outcome";
    SCRIPT_DURATION: Histogram "belay_script_duration_seconds" []
        "How long applied scripts ran, as the ledger has it";
    BACKUP_DURATION: Histogram "belay_backup_duration_seconds" ["outcome"]
        "From a PostgresBackup's creation to its outcome, verification included";
    RUNS: Counter "belay_runs_total" ["namespace", "name", "outcome"]
        "Runs of a Migration that backed up or applied scripts, by the reason with which they ended";
    CONDITION: Gauge "belay_condition" ["kind", "namespace", "name", "condition", "reason"]
        "1 for the one of Ready, Reconciling and Stalled that is True of an object, with its reason";
    MIGRATION: Gauge "belay_migration_info" ["namespace", "name", "database", "version", "target"]
        "Always 1: where a Migration's database is, and where it is to go";
    PENDING: Gauge "belay_migration_pending_scripts" ["namespace", "name"]
        "Scripts to apply";
    WAITING_ON: Gauge "belay_migration_waiting_on_sessions" ["namespace", "name"]
        "Sessions whose locks the run waits for";
    ATTEMPTS: Gauge "belay_migration_script_attempts" ["namespace", "name"]
        "Tries of the script that is being applied; above 1, its locks were not to be had";
    LAST_SUCCESS: Gauge "belay_migration_last_success_timestamp_seconds" ["namespace", "name"]
        "When the newest of the last ten runs that succeeded was over";
    DATABASE: Gauge "belay_database_info" ["namespace", "name", "version", "server_version"]
        "Always 1: the version that the ledger shows, and the server's own";
    DATABASE_SIZE: Gauge "belay_database_size_bytes" ["namespace", "name"]
        "The size of the database when it was last looked at";
    LAST_BACKUP: Gauge "belay_database_last_backup_timestamp_seconds" ["namespace", "name"]
        "The moment whose data the newest completed backup holds";
}
