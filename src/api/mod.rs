//! What users write and read: the kinds of the group [`GROUP`], their conditions and reasons.
//!
//! No clients and no I/O here; what the kinds *do* is in [`crate::controller`]. The CRDs in `crds/`
//! and in the chart are generated from these types by `belay crds` and compared in the tests.

pub mod conditions;
mod crd;
mod duration;
mod migration;
mod pod_template;
mod postgres_backup;
mod postgres_database;
mod reason;

pub use crd::crds;
pub use duration::Duration;
pub use migration::*;
pub use pod_template::PodTemplate;
pub use postgres_backup::*;
pub use postgres_database::*;
pub use reason::{Reason, State};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group of every kind, and the prefix of Belay's labels, annotations and finalizers.
pub const GROUP: &str = "belay.dev";

/// On a Migration, an RFC 3339 time: asks for another try of a plan that was held before that time.
pub const REQUESTED_AT: &str = "belay.dev/requestedAt";

/// On a PostgresDatabase, `<systemIdentifier>/<oid>/<version>`: accepts just this server, database and ledger where another
/// one was known, and nothing else does.
pub const ACCEPT: &str = "belay.dev/accept";

/// Held by a Migration while a run is in progress, so that a deletion cancels the run first.
pub const RUN_FINALIZER: &str = "belay.dev/run";

/// On Backups and Jobs that a Migration made: that Migration's name.
pub const MIGRATION_LABEL: &str = "belay.dev/migration";

/// On Backups, and on the Jobs and checks that belong to a Database: that Database's name.
pub const DATABASE_LABEL: &str = "belay.dev/database";

/// On a backup's Jobs: the PostgresBackup's name.
pub const BACKUP_LABEL: &str = "belay.dev/backup";

/// Held by a Backup whose data is to go with it.
pub const BACKUP_FINALIZER: &str = "belay.dev/data";

/// On a Backup that a Migration made: the hash of the plan that it is below.
pub const BACKUP_PLAN: &str = "belay.dev/plan";

/// On a Backup that a Migration made: the generation of the PostgresDatabase by whose policy it is taken.
pub const BACKUP_DATABASE_GENERATION: &str = "belay.dev/database-generation";

/// On a Backup that a Migration made: the id of the run that it is below.
pub const BACKUP_RUN: &str = "belay.dev/run";

/// The name of an object in the same namespace: references never cross one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
