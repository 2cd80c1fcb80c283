//! One PostgreSQL database: connect to it, hold its lock, read and write its ledger, apply scripts, and tell
//! what went wrong in words that say what to do.
//!
//! Everything goes over one dedicated connection ([`Engine`]), because the lock, the settings and the
//! transaction live in its session. What to apply is decided in [`crate::plan`]; when, by the caller.
//!
//! # Rules kept here
//! - Never two writers: [`LOCK_KEY`] is held from the ledger's first read to its last write, polled and never
//!   waited for (a blocking `pg_advisory_lock` deadlocks with `CREATE INDEX CONCURRENTLY`), and every ledger row
//!   is inserted only if this very backend holds it.
//! - Never half a script: script and ledger row share one transaction.
//! - Never a guess after a lost connection: reconnect, lock, see the old backend gone, read the row.
//! - Never a credential, nor a row's values, in an error.

mod adopt;
mod apply;
mod attempt;
mod blocker;
mod cancel;
mod check;
mod claim;
mod client_certificate;
mod connect;
mod dates;
mod engine;
mod error;
mod failpoint;
mod failure;
mod journal;
mod ledger;
mod ledger_text;
mod libpq;
mod marked;
mod message;
mod nodelay;
mod notice;
mod outside;
mod pooler;
mod prepared;
mod progress;
mod quote;
mod repair;
mod retry;
mod secret;
mod server_error;
mod session;
mod settle;
mod sqlstate;
mod statement_row;
mod target;
mod tls;
mod uri;
mod watch;

pub use apply::{Progress, RunContext};
pub use blocker::Blocker;
pub use check::Answer;
pub use client_certificate::{ClientCertificate, ClientCertificateError};
pub use connect::Identity;
pub use engine::{Engine, Holder, LOCK_KEY};
pub use error::{ApplyError, PostgresError};
pub use failpoint::FAILPOINTS;
pub use journal::RunIntent;
pub use ledger::FailedRun;
pub use ledger_text::{is_whole, kept_text, part_without_passwords, without_passwords};
pub use libpq::{LibpqFiles, TlsFiles, system_roots};
pub use notice::Notice;
pub(crate) use notice::layer as hear_notices;
pub use repair::{Repair, Word};
pub use secret::Overrides;
pub use server_error::ServerError;
pub use target::{Address, Blockers, Locks, SslMode, Target, TargetError};
