use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{ForeignLedger, PlanHash};
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
    /// The last hold that was not lifted.
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

/// A script that is run statement by statement, and is not applied as a whole yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Begun {
    /// As a number: the ledger does not know how it was written.
    #[serde(skip)]
    pub version: Version,
    pub file: String,
    /// How many of its statements are done. Those that only set up the session do not count.
    pub done: usize,
    /// The statement (from 1) that was begun, and of which nothing more is known: it runs, or its answer was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<usize>,
}

/// `005_x.sql, 2 statements done`
impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statements = if self.done == 1 { "statement" } else { "statements" };
        write!(f, "{}, {} {statements} done", self.file, self.done)?;
        match self.unsettled {
            Some(number) => write!(f, "; statement {number} runs, or what became of it is not known"),
            None => Ok(()),
        }
    }
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

    /// The versions that have a row: for those who ask for many, each of which would go through all rows.
    pub fn versions(&self) -> BTreeSet<&Version> {
        self.rows.iter().map(|row| &row.version).collect()
    }

    /// The row of this version.
    pub fn row(&self, version: &Version) -> Option<&Applied> {
        self.rows.iter().find(|row| row.version == *version)
    }
}
