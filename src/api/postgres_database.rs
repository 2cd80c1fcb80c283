use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, LocalRef, PodTemplate};

/// One PostgreSQL database, and the rules that hold for it.
///
/// Owned by the platform team, so that RBAC can let an application's team write Migrations without
/// touching credentials or policy.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "belay.dev",
    version = "v1alpha1",
    kind = "PostgresDatabase",
    plural = "postgresdatabases",
    shortname = "pgdb",
    category = "belay",
    namespaced,
    status = "PostgresDatabaseStatus",
    derive = "PartialEq",
    doc = "One PostgreSQL database, and the rules that hold for it.",
    validation = Rule::new("size(self.metadata.name) <= 50").message("metadata.name may be at most 50 characters, so that names derived from it stay valid"),
    printcolumn(name = "Server", type_ = "string", json_path = ".status.serverVersion"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.historySchema == oldSelf.historySchema").message("spec.historySchema cannot be changed: the ledger lives there"))]
#[serde(rename_all = "camelCase")]
pub struct PostgresDatabaseSpec {
    /// Where the server is, and as whom to connect.
    pub connection: Connection,
    /// SET ROLE after connecting, so that objects have one owner. No security boundary: RESET ROLE exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub role: Option<String>,
    /// search_path while scripts run: SET ROLE does not take the role's own setting along. Absent: the login's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 63)))]
    pub search_path: Vec<String>,
    /// The schema in which the ledger lives.
    #[serde(default = "default_history_schema")]
    #[schemars(length(min = 1, max = 63))]
    pub history_schema: String,
    /// What is backed up before scripts run, and how.
    #[serde(default)]
    pub backup: BackupPolicy,
    /// How long scripts may wait, and make others wait.
    #[serde(default)]
    pub locks: LockPolicy,
    /// Refuse any other server, from the first contact on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// Identity and ledger are read again this often.
    #[serde(default = "default_interval")]
    pub interval: Duration,
}

/// What the server must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expect {
    /// As `SELECT system_identifier FROM pg_control_system()` has it.
    #[schemars(length(min = 1, max = 20), regex(pattern = "^[0-9]+$"))]
    pub system_identifier: String,
}

/// Where the server is, and as whom to connect.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// A Secret with uri (or url), or with host, port, dbname, user (or username) and password. Secrets of
    /// CloudNativePG, Crunchy and Zalando work as they are.
    pub secret_ref: LocalRef,
    /// Overrides the Secret's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
    /// Overrides the Secret's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Overrides the Secret's database name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub dbname: Option<String>,
    /// How TLS is used, as libpq has it. Absent: the uri's own, else verify-full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_mode: Option<SslMode>,
    /// The certificate authority that signed the server's certificate. Absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// A Secret of type kubernetes.io/tls (tls.crt and tls.key, in PEM): the certificate that the server is shown. Needs
    /// TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<LocalRef>,
}

/// libpq's sslmode, without those that silently fall back to plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    Disable,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Where a certificate authority's certificate is, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaRef {
    /// The kind of the object that holds it.
    pub kind: CaKind,
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the object.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What can hold a certificate authority's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaKind {
    Secret,
    ConfigMap,
}

/// What is backed up before scripts run, and how.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicy {
    /// Whether a run that applies scripts is preceded by a backup.
    #[serde(default)]
    pub when: BackupWhen,
    /// How backups are made. Absent, and when is not Never: Migrations stall, reason BackupNotConfigured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Box<BackupMethod>>,
    /// pg_dump waits this long for each of its own locks, which queue others behind them.
    #[serde(default = "default_lock_wait")]
    pub lock_wait: Duration,
    /// A Backup at the same ledger version, no older than this, is used again.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// The newest that Migrations of this Database made are kept; older ones go, with their data.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: u32,
}

/// Whether a run that applies scripts is preceded by a backup. The later of two is the safer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BackupWhen {
    /// No backup.
    Never,
    /// Before a run with a script after which data that was there could be gone, or not be what it was: DROP TABLE,
    /// TRUNCATE, DELETE or UPDATE without WHERE, a column dropped or of another type, DO, CALL, and functions that are
    /// not known. What triggers and views reach is not looked at.
    BeforeDestructive,
    /// Before every run that applies scripts.
    #[default]
    Always,
}

/// How backups are made: exactly one of the fields.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.pgDump) != has(self.job)").message("exactly one of pgDump and job must be set"))]
#[serde(rename_all = "camelCase")]
pub struct BackupMethod {
    /// pg_dump of the server's own major version, streamed to a store and read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pg_dump: Option<PgDump>,
    /// The team's own script, in a Job.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::pod_template::object")]
    pub job: Option<JobMethod>,
}

/// pg_dump in the custom format, streamed to a store and read back.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PgDump {
    /// Where dumps are written.
    pub store: Store,
    /// As pg_dump --compress takes it; methods other than gzip need pg_dump 16.
    #[serde(default = "default_compression")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]|none|(gzip|lz4|zstd)(:[0-9]{1,2})?)$"))]
    pub compression: String,
    /// Merged into the Job's Pod template: resources, tolerations, pull secrets, image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// Where dumps are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// A PersistentVolumeClaim of the same namespace.
    pub persistent_volume_claim: ClaimStore,
}

/// A folder of a PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStore {
    /// The claim's name.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// A folder in the volume, relative to its root. Absent: the root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(max = 253),
        regex(pattern = "^([A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)?$")
    )]
    pub path: String,
}

/// The team's own backup script, in a Job. An init container of Belay's writes PGSERVICEFILE and PGPASSFILE
/// to a memory volume; BELAY_* variables tell the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobMethod {
    /// The Pod template of the Job, with its containers.
    #[schemars(schema_with = "super::pod_template::of_a_pod")]
    pub template: PodTemplate,
}

/// How long scripts may wait, and make others wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockPolicy {
    /// The most that any one try may make others wait.
    #[serde(default = "default_lock_timeout")]
    pub lock_timeout: Duration,
    /// statement_timeout of the scripts; 0s: none.
    #[serde(default = "default_statement_timeout")]
    pub statement_timeout: Duration,
    /// How long to keep trying for locks, or for a lost server, before the run fails.
    #[serde(default = "default_retry_for")]
    pub retry_for: Duration,
    /// What is done to sessions that keep a script waiting for locks. Absent: they are shown in status.run.waitingOn, and
    /// waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blockers: Option<BlockerPolicy>,
}

/// What is done to sessions that keep a script waiting for locks: exactly one of the fields. Never anything to another
/// Belay's session, nor to an autovacuum: the server itself sends those away that may go.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.terminateIdleInTransaction) != has(self.cancelApplications)").message("exactly one of terminateIdleInTransaction and cancelApplications must be set"))]
#[serde(rename_all = "camelCase")]
pub struct BlockerPolicy {
    /// Sessions that sit idle in a transaction are ended, by pg_terminate_backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_idle_in_transaction: Option<TerminateIdle>,
    /// What sessions of these applications run is cancelled, by pg_cancel_backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_applications: Option<CancelApplications>,
}

/// Which sessions that sit idle in a transaction are ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TerminateIdle {
    /// Those that are idle for longer than this.
    pub older_than: Duration,
}

/// The applications whose statements are cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelApplications {
    /// As pg_stat_activity's application_name has them.
    #[schemars(length(min = 1, max = 20), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
}

/// What Belay saw of the database.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostgresDatabaseStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
    /// As the server says it: `15.18`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The server's own identity, from pg_control_system().
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// The database's OID on that server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_oid: Option<u32>,
    /// The database's size, in bytes, when it was last looked at, to within a twentieth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// The version that the ledger shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The newest completed backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
}

/// The newest completed backup of a database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// The PostgresBackup's name.
    pub name: String,
    /// The moment whose data it holds.
    pub snapshot_at: String,
    /// The ledger's version at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Default for BackupPolicy {
    fn default() -> Self {
        Self {
            when: BackupWhen::default(),
            method: None,
            lock_wait: default_lock_wait(),
            max_age: default_max_age(),
            keep: default_keep(),
        }
    }
}

impl Default for LockPolicy {
    fn default() -> Self {
        Self {
            lock_timeout: default_lock_timeout(),
            statement_timeout: default_statement_timeout(),
            retry_for: default_retry_for(),
            blockers: None,
        }
    }
}

fn default_history_schema() -> String {
    "belay".to_owned()
}

fn default_compression() -> String {
    "gzip:1".to_owned()
}

const fn default_interval() -> Duration {
    Duration::from_secs(600)
}

const fn default_lock_wait() -> Duration {
    Duration::from_secs(60)
}

const fn default_max_age() -> Duration {
    Duration::from_secs(3600)
}

const fn default_keep() -> u32 {
    5
}

const fn default_lock_timeout() -> Duration {
    Duration::from_secs(3)
}

const fn default_statement_timeout() -> Duration {
    Duration::from_secs(0)
}

const fn default_retry_for() -> Duration {
    Duration::from_secs(900)
}
