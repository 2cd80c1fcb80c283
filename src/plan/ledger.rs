use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Begun, ForeignLedger, PlanHash};
use crate::api::Failure;
use crate::script::{Checksum, Version};

/// What the ledger says of a database, as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// Whether the ledger's schema and tables are there at all.
    pub exists: bool,
    /// The applied scripts, by version.
    pub rows: Vec<Applied>,
    /// The scripts that are applied in part, by version.
    pub begun: Vec<Begun>,
    /// Asked only when there are no rows: a table, not an extension's, in a schema of the search path.
    pub first_foreign_table: Option<String>,
    /// Asked only when there are no rows: the ledgers of other tools, in the schemas of the search path.
    pub foreign: Vec<ForeignLedger>,
    /// Asked only when there are no rows: those in other schemas that the login may use, without what they say.
    pub foreign_elsewhere: Vec<ForeignLedger>,
    /// Whose ledger it is: `<cluster>/<namespace>/<name>`.
    pub claimant: Option<String>,
    /// The last hold that was not lifted, unless its script was applied since, by whomever.
    pub hold: Option<Hold>,
}

/// One row of the ledger: a script that is in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub version: Version,
    pub file_name: String,
    pub description: String,
    pub author: Option<String>,
    /// As the script's header has it.
    pub date: Option<String>,
    pub checksum: Checksum,
    /// `transaction`, `shared-transaction`, `no-transaction`; or `baseline`, or `adopted`: recorded, not run.
    pub mode: String,
    pub applied_at: Timestamp,
    /// Object and role.
    pub applied_by: String,
    pub run_id: Uuid,
    pub duration_ms: i64,
    /// By repair: the source no longer has this script, and that is right.
    pub retired: bool,
}

/// A plan that ended in an error of its own, and is not tried again by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    pub plan: PlanHash,
    pub failure: Failure,
    pub at: Timestamp,
    /// The run that ended so.
    pub run_id: Uuid,
}

impl Ledger {
    /// The highest version that is applied.
    pub fn current(&self) -> Option<&Applied> {
        self.rows.iter().max_by(|a, b| a.version.cmp(&b.version))
    }

    /// The hold of this plan: until a person asks, it is not tried again.
    pub fn hold_of(&self, plan: &PlanHash) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| hold.plan == *plan)
    }

    /// The versions that have a row: for those who ask for many, each of which would go through all rows.
    pub fn versions(&self) -> BTreeSet<&Version> {
        self.rows.iter().map(|row| &row.version).collect()
    }

    /// The row of this version.
    pub fn row(&self, version: &Version) -> Option<&Applied> {
        self.rows.iter().find(|row| row.version == *version)
    }
}
