//! Which database, as whom, and by which rules: arguments that several commands share.

use std::fmt;

use clap::{Args, ValueEnum};

use crate::api::{Duration, TransactionMode};
use crate::plan::Policy;
use crate::postgres::{Locks, Target, TargetError};
use crate::script::Version;

/// Where the database is, and as whom to connect.
#[derive(Args, Debug)]
#[command(next_help_heading = "Database")]
pub struct Database {
    /// postgres://user:password@host:port/dbname?sslmode=verify-full. Give it by the environment: arguments can be read
    /// by others in the process list. What it leaves out comes from PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD,
    /// PGPASSFILE and PGSSLMODE, as psql has them
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<Url>,
    /// SET ROLE to this role after connecting, so that objects have one owner
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// search_path while scripts run, schemas separated by commas; absent: the login's own
    #[arg(long, value_name = "SCHEMAS", value_delimiter = ',')]
    search_path: Vec<String>,
    /// The schema in which the ledger lives
    #[arg(long, value_name = "SCHEMA", default_value = "belay")]
    history_schema: String,
}

/// A connection URL, which may hold a password: shown nowhere.
#[derive(Clone)]
pub struct Url(String);

impl From<String> for Url {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<URL>")
    }
}

impl Database {
    /// The schemas, as people write lists: with blanks behind the commas.
    fn search_path(&self) -> Vec<String> {
        self.search_path.iter().map(|schema| schema.trim().to_owned()).filter(|schema| !schema.is_empty()).collect()
    }

    /// What to connect to.
    ///
    /// # Errors
    /// Names what cannot be used of the URL or the variables, never its value.
    pub fn target(&self, locks: Locks) -> Result<Target, TargetError> {
        let url = self.database_url.as_ref().map(|url| url.0.trim()).filter(|url| !url.is_empty());
        let mut target = Target::from_environment(url)?;
        target.role.clone_from(&self.role);
        target.search_path = self.search_path();
        target.history_schema.clone_from(&self.history_schema);
        target.locks = locks;
        Ok(target)
    }
}

/// How long to wait, and to make others wait.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Locks")]
pub struct LockOptions {
    /// The most that any one try may make other sessions wait for a lock
    #[arg(long, value_name = "TIME", default_value = "3s")]
    lock_timeout: Duration,
    /// How long to keep trying for locks, or for a lost server
    #[arg(long, value_name = "TIME", default_value = "15m")]
    retry_for: Duration,
    /// statement_timeout of the scripts; 0s: none
    #[arg(long, value_name = "TIME", default_value = "0s")]
    statement_timeout: Duration,
}

impl From<LockOptions> for Locks {
    fn from(options: LockOptions) -> Self {
        Self {
            lock_timeout: options.lock_timeout.get(),
            statement_timeout: options.statement_timeout.get(),
            retry_for: options.retry_for.get(),
        }
    }
}

/// What is to be applied, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Plan")]
pub struct PlanOptions {
    /// Up to this version; absent: the latest
    #[arg(long, value_name = "VERSION")]
    target: Option<Version>,
    /// How scripts share transactions
    #[arg(long, value_name = "MODE", default_value = "per-script")]
    transaction: Transaction,
    /// Allow a script with a lower version than one that is applied
    #[arg(long)]
    out_of_order: bool,
    /// With an empty ledger: record scripts up to this version as present, and do not run them. 0: none; the database is
    /// known not to be empty
    #[arg(long, value_name = "VERSION")]
    baseline: Option<Version>,
    /// With an empty ledger and no baseline: whether what another tool's ledger says was applied is recorded, and not run
    #[arg(long, value_name = "WHOSE", default_value = "none")]
    adopt: Adopt,
}

/// Whether the ledger of another tool is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Adopt {
    /// It is not looked at
    None,
    /// The one that is there is: of Flyway, golang-migrate, goose, dbmate, Rails, sqlx, refinery, diesel or Prisma
    Auto,
}

/// How scripts share transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transaction {
    /// Each script in a transaction of its own
    PerScript,
    /// All pending scripts in one transaction
    AllPending,
}

impl PlanOptions {
    /// The policy that a Migration with the same fields has.
    pub fn policy(&self, database: &Database) -> Policy {
        Policy {
            target: self.target.clone(),
            transaction: match self.transaction {
                Transaction::PerScript => TransactionMode::PerScript,
                Transaction::AllPending => TransactionMode::AllPending,
            },
            out_of_order: self.out_of_order,
            baseline: self.baseline.clone(),
            adopt: self.adopt == Adopt::Auto,
            role: database.role.clone(),
            search_path: database.search_path(),
        }
    }
}
