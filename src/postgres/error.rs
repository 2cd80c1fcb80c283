//! What can go wrong between Belay and one database: what it is called, whether it passes, and what to do.

use super::server_error::ServerError;
use super::session::Fault;
use super::sqlstate::{self, Retry};
use super::target::{Address, TargetError};
use crate::api::{Failure, Reason};
use crate::script::Reread;

/// What went wrong with a database; never the fault of a script, which is an [`ApplyError`].
///
/// Each names the database as host:port/dbname, and ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("The connection cannot be made: {0}.")]
    Target(#[from] TargetError),
    #[error("{0}. Nothing of it is applied. Run it again.")]
    Source(#[from] Reread),
    #[error("{address} cannot be reached: {why}. Check host, port and network policies.")]
    Unreachable { address: Address, why: String },
    #[error("{address} does not take connections now: {error}. Belay tries again.")]
    Unavailable { address: Address, error: Box<ServerError> },
    #[error("The database of {address} does not exist. Create it, or correct dbname.")]
    NoDatabase { address: Address },
    #[error("{address} refused the login: {error}. {remedy}.")]
    Authentication { address: Address, error: Box<ServerError>, remedy: &'static str },
    #[error(
        "{address} refused the client certificate: {why}. Show one (clientCertSecretRef, sslcert) that is valid, and signed by \
         an authority of the server's ssl_ca_file."
    )]
    ClientCertificate { address: Address, why: &'static str },
    #[error(
        "{address} asks for an authentication method that Belay does not speak. Allow scram-sha-256 for the login."
    )]
    AuthenticationMethod { address: Address },
    #[error("TLS with {address} failed: {why}. {remedy}.")]
    Tls { address: Address, why: String, remedy: &'static str },
    #[error("On {address}, {what} is not allowed. Run: {grant}")]
    Permission { address: Address, what: String, grant: String },
    #[error("On {address}, the role {role:?} does not exist. Create it, or correct the role (spec.role, --role).")]
    NoRole { address: Address, role: String },
    #[error(
        "A pooler in transaction mode is between Belay and {address}: {evidence}. Locks do not hold through it. Connect \
         to PostgreSQL itself, or to a pool in session mode."
    )]
    Pooler { address: Address, evidence: String },
    #[error("{address} is read-only: {why}.")]
    ReadOnly { address: Address, why: &'static str },
    #[error("{address} is PostgreSQL {version}; Belay needs 14 or newer. Upgrade the server.")]
    TooOld { address: Address, version: String },
    #[error("The ledger of {address} has format {found}; this Belay knows up to {known}. Upgrade Belay.")]
    NewerLedger { address: Address, found: String, known: u32 },
    #[error("The ledger of {address} cannot be read: {why}. Restore the schema {schema:?} as Belay left it.")]
    DamagedLedger { address: Address, schema: String, why: String },
    #[error(
        "The ledger of {address} is kept by {claimant}. Delete one of the two, or use another historySchema; if the other \
         is gone for good, run belay repair --release-claim --yes."
    )]
    InUse { address: Address, claimant: String },
    #[error("Another session holds the lock of {address}. Wait until it is done.")]
    LockHeld { address: Address },
    #[error(
        "The lock of {address} was lost: {} released it. {left} Take pg_advisory_unlock_all and DISCARD out of it.",
        .script.as_deref().unwrap_or("a script")
    )]
    LockLost {
        address: Address,
        script: Option<String>,
        /// A sentence: what is applied of that script.
        left: String,
    },
    #[error("The connection to {address} was lost: {why}. Belay connects again and reads the ledger.")]
    Lost { address: Address, why: String },
    #[error(
        "{address} is another server or database than the one where this run began. Nothing was done there. Find out \
         which is the right one, then start again."
    )]
    IdentityChanged { address: Address },
    #[error(
        "While the connection to {address} was lost, another run wrote to the ledger. Belay reads it again before it goes on."
    )]
    LedgerMoved { address: Address },
    #[error(
        "On {address}, {tool} is at work: it holds its own lock, or writes to {table}. Nothing was recorded. Wait until it \
         is done, and start it no more: Belay applies scripts from now on."
    )]
    ForeignBusy { address: Address, tool: &'static str, table: String },
    #[error("On {address}, {table} changed while it was taken over. Nothing was recorded. Belay reads it again.")]
    ForeignMoved { address: Address, table: String },
    #[error(
        "While the connection to {address} was lost, its ledger lost scripts that were applied: another server took over that \
         did not have them yet, or this one had not flushed them. Nothing more was done there. Belay reads the ledger again before it \
         goes on."
    )]
    LedgerShrank { address: Address },
    #[error("On {address}, {doing} failed: {error}.")]
    Server { address: Address, doing: &'static str, error: Box<ServerError> },
    #[error(
        "The ledger of {address} knows of no statement of which it could be said that {what}. See the message of the run that \
         stopped for the version and the number."
    )]
    NotInDoubt { address: Address, what: String },
    #[error("The check's query is not usable: {why}.")]
    Check { why: String },
}

impl PostgresError {
    /// What conditions call it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Target(TargetError::Missing { .. }) => Reason::SecretNotFound,
            Self::Target(TargetError::Authority | TargetError::ClientCertificate(_)) => Reason::TlsFailed,
            Self::Target(_) => Reason::InvalidSpec,
            Self::Source(_) => Reason::InvalidSource,
            Self::Unreachable { .. } | Self::Unavailable { .. } | Self::NoDatabase { .. } => Reason::ConnectionFailed,
            Self::Authentication { .. } | Self::ClientCertificate { .. } | Self::AuthenticationMethod { .. } => {
                Reason::AuthenticationFailed
            }
            Self::Tls { .. } => Reason::TlsFailed,
            Self::Permission { .. } | Self::NoRole { .. } => Reason::PermissionDenied,
            Self::Pooler { .. } => Reason::PoolerDetected,
            Self::ReadOnly { .. } => Reason::ReadOnlyServer,
            Self::TooOld { .. } | Self::NewerLedger { .. } | Self::DamagedLedger { .. } => Reason::UnsupportedServer,
            Self::InUse { .. } => Reason::DatabaseInUse,
            Self::LockHeld { .. } | Self::ForeignBusy { .. } | Self::ForeignMoved { .. } => Reason::LockHeld,
            Self::LockLost { .. } => Reason::LockLost,
            Self::Lost { .. } | Self::LedgerMoved { .. } | Self::LedgerShrank { .. } => Reason::ConnectionLost,
            Self::IdentityChanged { .. } => Reason::IdentityChanged,
            Self::Server { error, .. } if error.sql_state == "42501" => Reason::PermissionDenied,
            Self::Server { .. } => Reason::ConnectionFailed,
            Self::NotInDoubt { .. } => Reason::InDoubt,
            Self::Check { .. } => Reason::CheckRefused,
        }
    }

    /// Whether it may pass by itself: the same thing is worth another try.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::ReadOnly { .. }
            | Self::LockHeld { .. }
            | Self::ForeignBusy { .. }
            | Self::ForeignMoved { .. }
            | Self::Lost { .. }
            | Self::LedgerMoved { .. }
            | Self::LedgerShrank { .. } => true,
            Self::Server { error, .. } => sqlstate::retry(&error.sql_state) != Retry::No,
            _ => false,
        }
    }

    pub(super) fn from_fault(address: &Address, doing: &'static str, fault: Fault) -> Self {
        match fault {
            Fault::Server(error) => Self::Server { address: address.clone(), doing, error },
            Fault::Lost { why } => Self::Lost { address: address.clone(), why },
        }
    }
}

/// Why scripts were not, or not all, applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A script's own error. It is never tried again by itself.
    #[error("{}", .0.message)]
    Script(Box<Failure>),
    /// The locks that a script needs were not to be had in time.
    #[error("{}", .0.message)]
    Locks(Box<Failure>),
    /// It was asked to stop. `script` is the one that was stopped, and `left` a sentence: what is applied of it.
    #[error("The run was cancelled in {}. {left}", script.as_deref().unwrap_or("its last script"))]
    Cancelled { script: Option<String>, left: String },
    /// Not a script's fault.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

impl ApplyError {
    /// What conditions call it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Script(failure) => failure.reason.parse().unwrap_or(Reason::ScriptFailed),
            Self::Locks(_) => Reason::LockTimeout,
            Self::Cancelled { .. } => Reason::Cancelled,
            Self::Postgres(error) => error.reason(),
        }
    }

    /// Whether the same plan is not worth another try until a person or a new source says so.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Script(_) | Self::Locks(_) | Self::Postgres(PostgresError::LockLost { .. }))
    }

    /// As status and ledger have it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Script(failure) | Self::Locks(failure) => (**failure).clone(),
            Self::Cancelled { script, .. } => Failure {
                reason: self.reason().as_str().to_owned(),
                message: self.to_string(),
                script: script.clone(),
                ..Failure::default()
            },
            Self::Postgres(error) => Failure {
                reason: error.reason().as_str().to_owned(),
                message: error.to_string(),
                sql_state: match error {
                    PostgresError::Server { error, .. }
                    | PostgresError::Unavailable { error, .. }
                    | PostgresError::Authentication { error, .. } => Some(error.sql_state.clone()),
                    _ => None,
                },
                script: match error {
                    PostgresError::LockLost { script, .. } => script.clone(),
                    _ => None,
                },
                ..Failure::default()
            },
        }
    }
}
