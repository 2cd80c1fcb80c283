use std::collections::BTreeMap;

use clap::ValueEnum;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackupWhen, Duration, LocalRef, PodTemplate};

/// "This history of scripts, on that Database, up to this version": desired state, not an event.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "belay.dev",
    version = "v1alpha1",
    kind = "Migration",
    plural = "migrations",
    shortname = "mig",
    category = "belay",
    namespaced,
    status = "MigrationStatus",
    derive = "PartialEq",
    doc = "A history of SQL scripts, on a PostgresDatabase, up to a version.",
    validation = Rule::new("size(self.metadata.name) <= 50").message("metadata.name may be at most 50 characters, so that names derived from it stay valid"),
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.databaseRef.name"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target"),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.pending"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.databaseRef == oldSelf.databaseRef").message("spec.databaseRef cannot be changed: make another Migration"))]
#[serde(rename_all = "camelCase")]
pub struct MigrationSpec {
    /// The PostgresDatabase that is migrated.
    pub database_ref: LocalRef,
    /// Where the scripts are.
    pub source: Source,
    /// A version in the source. Absent: the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[0-9]+$"))]
    pub target: Option<String>,
    /// How scripts share transactions.
    #[serde(default)]
    pub transaction: TransactionMode,
    /// Whether a script may be applied after one with a higher version.
    #[serde(default)]
    pub out_of_order: OutOfOrder,
    /// With an empty ledger: scripts up to here are recorded as present, not run. "0": none; the database is known
    /// not to be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[0-9]+$"))]
    pub baseline: Option<String>,
    /// With an empty ledger and no baseline: whether what another tool's ledger says was applied is recorded, not run.
    #[serde(default)]
    pub adopt: Adopt,
    /// Overrides the Database's backup policy, only towards more safety.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupOverride>,
    /// After applying, in order; all must pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub health_checks: Vec<HealthCheck>,
    /// Plan, and do nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Where the scripts are: exactly one of configMaps and inline.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.configMaps) != has(self.inline)").message("exactly one of configMaps and inline must be set"))]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// ConfigMaps whose keys are file names; several are merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50))]
    pub config_maps: Option<Vec<LocalRef>>,
    /// File name to SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 1000))]
    pub inline: Option<BTreeMap<String, String>>,
    /// How the files are called and divided. Absent: belay. Where a folder names a script (diesel, prisma), a key of a
    /// ConfigMap, which can hold no slash, has two underscores in its place: 2024-01-01-000000_users__up.sql.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// As `belay digest` prints it: run only this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
}

impl Source {
    /// The names of the ConfigMaps that it reads, in order.
    pub fn config_map_names(&self) -> impl Iterator<Item = &str> {
        self.config_maps.iter().flatten().map(|reference| reference.name.as_str())
    }
}

/// Whose names and marks the files have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// 001_x.sql, and 001_x.down.sql or rollback lines
    #[default]
    Belay,
    /// 1_x.up.sql and 1_x.down.sql
    GolangMigrate,
    /// 1_x.sql, with -- +goose Up and -- +goose Down
    Goose,
    /// 1_x.sql, with -- migrate:up and -- migrate:down
    Dbmate,
    /// 1_x/up.sql and 1_x/down.sql
    Diesel,
    /// 1_x.sql, or 1_x.up.sql and 1_x.down.sql
    Sqlx,
    /// V1__x.sql
    Refinery,
    /// V1__x.sql and U1__x.sql
    Flyway,
    /// 1_x/migration.sql
    Prisma,
    /// The one of these that fits all of the files
    Auto,
}

impl Layout {
    /// Every layout that files may have.
    pub const NAMED: &'static [Self] = &[
        Self::Belay,
        Self::GolangMigrate,
        Self::Goose,
        Self::Dbmate,
        Self::Diesel,
        Self::Sqlx,
        Self::Refinery,
        Self::Flyway,
        Self::Prisma,
    ];

    /// As specs and arguments have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Belay => "belay",
            Self::GolangMigrate => "golang-migrate",
            Self::Goose => "goose",
            Self::Dbmate => "dbmate",
            Self::Diesel => "diesel",
            Self::Sqlx => "sqlx",
            Self::Refinery => "refinery",
            Self::Flyway => "flyway",
            Self::Prisma => "prisma",
            Self::Auto => "auto",
        }
    }
}

/// How scripts share transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransactionMode {
    /// Each script in a transaction of its own.
    #[default]
    PerScript,
    /// All pending scripts in one transaction.
    AllPending,
}

/// Whether a script may be applied after one with a higher version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutOfOrder {
    /// It is refused.
    #[default]
    Reject,
    /// It is applied.
    Allow,
}

/// Whether the ledger of another tool is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adopt {
    /// It is not looked at.
    #[default]
    None,
    /// The one that is there is: of Flyway, golang-migrate, goose, dbmate, Rails, sqlx, refinery, diesel or Prisma.
    Auto,
}

/// Overrides the Database's backup policy, only towards more safety.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupOverride {
    /// The safer of this and the Database's own holds.
    pub when: BackupWhen,
}

/// One health check: exactly one of sql, http, workload and job.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.sql), has(self.http), has(self.workload), has(self.job)].filter(x, x).size() == 1").message("exactly one of sql, http, workload and job must be set"))]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What messages call it.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A query that answers true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlCheck>,
    /// A URL that answers as expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A workload that is rolled out and available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadCheck>,
    /// A Job that succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::pod_template::object")]
    pub job: Option<JobCheck>,
    /// How long to try. Absent: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long between tries. Absent: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
}

/// A query of one row with one column, which must be true. It runs in a read-only transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SqlCheck {
    #[schemars(length(min = 1, max = 16384))]
    pub query: String,
}

/// A GET that must answer with a status. It reaches Services of its own namespace, and follows no redirect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// `http://<service>.<namespace>.svc:<port>/<path>`
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://"))]
    pub url: String,
    /// The status to expect. Absent: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub expect_status: Option<u16>,
}

/// A workload that must be rolled out and available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadCheck {
    pub kind: WorkloadKind,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Passes when there is no such workload.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_present: bool,
}

/// The kinds of workload that a check knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// A Job that must succeed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobCheck {
    #[schemars(schema_with = "super::pod_template::of_a_pod")]
    pub template: PodTemplate,
}

/// Where the database is, what is going on, and what went wrong.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, and of the last run: Planned, BackedUp, Applied, Healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
    /// The digest of the source that was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<String>,
    /// The last belay.dev/requestedAt that lifted a hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_requested_at: Option<String>,
    /// Where the database is: read from the ledger, never assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The description of that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it is to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The number of scripts to apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<i64>,
    /// The next 20 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub plan: Vec<PlannedScriptStatus>,
    /// The run in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<RunStatus>>,
    /// What stopped the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    /// The last 10 runs, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<RunSummary>,
}

/// One script of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedScriptStatus {
    pub version: String,
    pub description: String,
    /// Transaction; NoTransaction: statement by statement; or Baseline, or Adopt: recorded, not run.
    pub mode: String,
    /// The number of statements.
    pub statements: i64,
    /// Whether the script brings its own rollback: yes, no, or "not SQL", which counts as none.
    pub rollback: String,
    /// What it locks of what is there, the strongest first: "tickets: ACCESS EXCLUSIVE". Told from its text: partitions,
    /// and what triggers and views reach, are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub locks: Vec<String>,
    /// The first statement after which data that was there could be gone, or not be what it was: "line 3: DROP TABLE".
    /// Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destructive: Option<String>,
}

/// A run in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    pub id: String,
    /// RFC 3339.
    pub started_at: String,
    /// The version where the database was; absent: no script was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The PostgresBackup below the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// The script that is being applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// The number of the statement that is being run, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<i64>,
    /// The number of the script's statements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements: Option<i64>,
    /// The line on which that statement starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<i64>,
    /// The number of tries of this script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
    /// How far a long statement is, in the server's words: "building index: scanning table, 43 %".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// The sessions that it waits for, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub waiting_on: Vec<WaitingOn>,
}

/// A session, or a prepared transaction, that a run waits for. Never its query's text, which may hold rows' values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingOn {
    /// 0: a prepared transaction, which has no session.
    pub pid: i32,
    pub user: String,
    pub application: String,
    /// As pg_stat_activity has it: idle in transaction. Absent: the login may not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The first word of what it runs, or ran last: UPDATE; or autovacuum, and whether that is to prevent wraparound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The relations that the run waits to lock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub relations: Vec<String>,
    /// The lock that the run asks for: AccessExclusiveLock. Of what is no relation, it says what it is: ShareLock
    /// (transactionid).
    pub lock: String,
    /// Since when its transaction is open. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The name under which a transaction was prepared: COMMIT PREPARED or ROLLBACK PREPARED ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    /// What Belay's login lacks to see more of it, or to end it: a GRANT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What stopped a run, in the server's own words where it said some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub reason: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_state: Option<String>,
    /// The script's file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<i64>,
    /// From 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<i64>,
    /// The number of the statement in its script, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<i64>,
    /// What kind of statement it was: ALTER TABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The server's hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How often it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
}

/// One run that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    pub id: String,
    /// The version before; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The version after, as the ledger has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub completed_at: String,
    /// A reason: Succeeded, ScriptFailed, …
    pub outcome: String,
    /// The PostgresBackup below the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
