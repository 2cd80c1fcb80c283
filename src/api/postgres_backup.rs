use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackupMethod, LocalRef, Store};

/// One backup, taken and verified.
///
/// A Migration makes its own; a person may too. It outlives its Migration and its Database: nobody
/// owns it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "belay.dev",
    version = "v1alpha1",
    kind = "PostgresBackup",
    plural = "postgresbackups",
    shortname = "pgbk",
    category = "belay",
    namespaced,
    status = "PostgresBackupStatus",
    derive = "PartialEq",
    doc = "One backup of a PostgreSQL database, taken and verified.",
    validation = Rule::new("size(self.metadata.name) <= 50").message("metadata.name may be at most 50 characters, so that names derived from it stay valid"),
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.databaseRef.name"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.ledgerVersion"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.bytes"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.verified"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.databaseRef == oldSelf.databaseRef && has(self.method) == has(oldSelf.method) && (!has(self.method) || self.method == oldSelf.method)").message("a backup's databaseRef and method cannot be changed: make another one"))]
#[serde(rename_all = "camelCase")]
pub struct PostgresBackupSpec {
    /// The PostgresDatabase that is backed up.
    pub database_ref: LocalRef,
    /// How. Absent: the Database's own method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<BackupMethod>,
    /// Whether deleting this object deletes its data.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// Whether deleting a Backup deletes its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The data stays in the store.
    #[default]
    Retain,
    /// The data goes with the object.
    Delete,
}

/// What the backup's Job found and did.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostgresBackupStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
    /// The Job that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// A copy of the store, so that the backup can be found when the Database is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// The dump's path in the store; the result is also written beside it, as `<location>.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The size of the dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// SHA-256 of the dump, taken from the stream before it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The server's version: `15.18`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// pg_dump's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_version: Option<String>,
    /// The moment whose data it holds: what a restore loses is counted from here. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_at: Option<String>,
    /// The ledger's version in that snapshot; absent: no script was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_version: Option<String>,
    /// The server's own identity, from pg_control_system().
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// The database's OID on that server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_oid: Option<u32>,
    /// When the Job was done. RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// How far the dump was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
}

/// How far a backup was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verified {
    /// The team's own Job said that it succeeded; Belay read nothing.
    None,
    /// The written bytes were read back, their hash was the stream's, and pg_restore read the archive to its end.
    Read,
}
