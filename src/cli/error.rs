use std::io;

use serde::Serialize;

use super::exit::Exit;
use super::output::capital;
use crate::api::{Failure, Reason};
use crate::plan::{Begun, Refusal};
use crate::postgres::{Address, Holder, PostgresError};
use crate::script::InvalidFile;
use crate::source::SourceError;

/// Why a command did not do what it was asked to. Every message says what to do next; none holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}.")]
    Source(#[from] SourceError),
    #[error("{}", invalid_source(place, faults))]
    InvalidSource { place: String, faults: Vec<InvalidFile> },
    #[error(
        "{path} cannot be read as ConfigMaps: {why}. Give a folder of scripts, or what `kubectl get configmap -o yaml` prints."
    )]
    NotConfigMaps { path: String, why: String },
    #[error(
        "FOLDER looks like a URL or a connection string. Give the database as a URL, by the variable DATABASE_URL or with --database-url."
    )]
    UrlAsFolder,
    #[error("{0}")]
    NoName(String),
    #[error("{path} cannot be written: {error}. {}", write_remedy(error))]
    Write { path: String, error: io::Error },
    #[error("{}. Nothing was run: {place}.", capital(&refusal.to_string()))]
    Refused { refusal: Box<Refusal>, place: String, excerpt: Option<String> },
    #[error(
        "The ledger of {address} is kept by {claimant}, which applies scripts by itself. Nothing was run: {place}. Give the \
         scripts to its source and let it go on; or, when that must not wait, run this again with --despite-claim, which \
         leaves the claim as it is."
    )]
    Claimed { address: Address, claimant: String, place: String },
    #[error(
        "Another session holds the advisory lock of {address}{}. Nothing was run. Wait until it is done, and run this \
         again; a longer --retry-for waits here.",
        .holder.as_ref().map(|holder| format!(": {}", describe(holder))).unwrap_or_default()
    )]
    LockHeld { address: Address, holder: Option<Box<Holder>> },
    #[error(transparent)]
    Postgres(Box<PostgresError>),
    #[error("Interrupted. Nothing was run. Run the same command again when it may go on.")]
    Interrupted,
    #[error("The CustomResourceDefinitions cannot be written as YAML: {0}.")]
    Crds(serde_yaml::Error),
    #[error("The operator stopped: {0}.")]
    Controller(crate::controller::Error),
    #[error("The answer cannot be written to standard output: {0}. What was done stands.")]
    Output(io::Error),
    #[error("Belay cannot start: {0}. See that this user may use more memory and processes.")]
    Start(io::Error),
}

impl CliError {
    /// How the command ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::UrlAsFolder | Self::NoName(_) => Exit::Usage,
            Self::Interrupted => Exit::Interrupted,
            Self::LockHeld { .. } => Exit::NotNow,
            Self::Postgres(error) => of_database(error),
            _ => Exit::Failed,
        }
    }

    /// The line of a script that it is about, for a terminal.
    pub fn excerpt(&self) -> Option<&str> {
        match self {
            Self::Refused { excerpt, .. } => excerpt.as_deref(),
            _ => None,
        }
    }

    /// As documents have it, and as the status of a Migration would.
    pub fn failure(&self) -> Failure {
        if let Self::Refused { refusal, .. } = self {
            return of_refusal(refusal, self.to_string());
        }
        let (reason, script) = match self {
            Self::Source(_) => (Reason::SourceNotFound, None),
            Self::InvalidSource { faults, .. } => {
                (Reason::InvalidSource, faults.first().map(|fault| fault.file_name().to_owned()))
            }
            Self::Claimed { .. } => (Reason::DatabaseInUse, None),
            Self::LockHeld { .. } => (Reason::LockHeld, None),
            Self::Postgres(error) => (error.reason(), None),
            Self::Interrupted => (Reason::Cancelled, None),
            _ => (Reason::InvalidSource, None),
        };
        Failure { reason: reason.as_str().to_owned(), message: self.to_string(), script, ..Failure::default() }
    }
}

impl From<PostgresError> for CliError {
    fn from(error: PostgresError) -> Self {
        Self::Postgres(Box::new(error))
    }
}

/// A refusal as a document has it: with the script and the place that it is about.
fn of_refusal(refusal: &Refusal, message: String) -> Failure {
    let mut failure = Failure { reason: refusal.reason().as_str().to_owned(), message, ..Failure::default() };
    match refusal {
        Refusal::UnsupportedScript { script, what } => {
            failure.script = Some(script.clone());
            failure.line = Some(what.position.line.into());
            failure.column = Some(what.position.column.into());
        }
        Refusal::EditedHalfway { script, number, line, .. } | Refusal::EditedInDoubt { script, number, line, .. } => {
            failure.script = Some(script.clone());
            failure.line = line.map(i64::from);
            failure.statement = Some(*number as i64);
        }
        Refusal::ChecksumMismatch { script, .. }
        | Refusal::MissingScript { script, .. }
        | Refusal::OutOfOrder { script, .. }
        | Refusal::ForeignChecksum { script, .. }
        | Refusal::MissingBegun { begun: Begun { file: script, .. } }
        | Refusal::RenumberedBegun { begun: Begun { file: script, .. }, .. }
        | Refusal::OtherBegun { begun: Begun { file: script, .. }, .. }
        | Refusal::TargetBelowBegun { begun: Begun { file: script, .. }, .. }
        | Refusal::BaselineOverBegun { begun: Begun { file: script, .. }, .. }
        | Refusal::Renamed { is: script, .. } => failure.script = Some(script.clone()),
        _ => {}
    }
    failure
}

/// How a command ends that a database stopped.
pub fn of_database(error: &PostgresError) -> Exit {
    if error.is_transient() { Exit::NotNow } else { Exit::Failed }
}

/// A session, as people on call look for it.
pub fn describe(holder: &Holder) -> String {
    let mut text = format!("pid {}", holder.pid);
    if !holder.user.is_empty() {
        text.push_str(&format!(", user {}", holder.user));
    }
    if !holder.application.is_empty() {
        text.push_str(&format!(", application {}", holder.application));
    }
    if let Some(since) = holder.since {
        text.push_str(&format!(", connected since {}", super::output::moment(since)));
    }
    text
}

/// The document that a command prints in place of its answer.
#[derive(Serialize)]
pub struct FailureDocument {
    pub failure: Failure,
}

fn write_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "Nothing was overwritten: run the command again.",
        _ => "See that this user may write there, and that there is room.",
    }
}

fn invalid_source(place: &str, faults: &[InvalidFile]) -> String {
    match faults {
        [fault] => format!("In {place}, {fault}. Nothing was run."),
        faults => {
            let lines: Vec<_> = faults.iter().map(|fault| format!("\n  - {fault}")).collect();
            format!("In {place}, {} things keep it from being read. Nothing was run.{}", faults.len(), lines.concat())
        }
    }
}
