use jiff::Timestamp;

use super::{Begun, Edited};
use crate::api::{Layout, Reason};
use crate::script::{Checksum, Script, Unsupported, Version};

/// Why there is no plan. Each says what is wrong and where, and what to do; nothing was run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the source holds no script: no file is named <version>_<description>.sql. Add one, such as 001_initial_schema.sql"
    )]
    EmptySource,
    #[error(
        "target {target} is not in the source, whose latest version is {latest}. Add the script, or correct the target"
    )]
    UnknownTarget { target: Version, latest: Version },
    #[error(
        "target {target} is below {current}, which is applied. Belay does not roll back by target: write a new script that undoes the change, or set the target to {current}"
    )]
    TargetBelowCurrent { target: Version, current: Version },
    #[error(
        "target {target} is below {version}, which is begun ({begun}). Set the target to {version}, which goes on with it; or, if the database is as if it had never been begun, run belay repair --forget-statements {version} --yes",
        version = .begun.version
    )]
    TargetBelowBegun { target: Version, begun: Begun },
    #[error(
        "baseline {baseline} would record {version} as present, which is begun ({begun}). Leave the baseline out, which goes on with it; or say what the database has: belay repair --forget-statements {version} --yes",
        version = .begun.version
    )]
    BaselineOverBegun { baseline: Version, begun: Begun },
    #[error("baseline {baseline} is not in the source. Correct it, or write \"0\" for before the first script")]
    UnknownBaseline { baseline: Version },
    #[error(
        "the ledger is empty, but the database already has tables ({table}). If this is the right database, {}set baseline to the version that it is at (\"0\": before the first script)",
        .known.as_ref().map(|(ledger, layout)| taking_over(ledger, *layout)).unwrap_or_default()
    )]
    BaselineRequired {
        table: String,
        /// A ledger of another tool's, and the layout of that tool's files.
        known: Option<(String, Layout)>,
    },
    #[error(
        "the ledger {ledger} says that version {version} failed: nobody knows what of it is in the database. Find out, mend it with {tool} itself, and let Belay go on; or set baseline to the version that the database is at"
    )]
    ForeignFailed { ledger: String, version: String, tool: &'static str },
    #[error(
        "the ledger {ledger} says that version {version} is applied, but the source does not have it. Add its script, or set baseline to the version that the database is at"
    )]
    ForeignMissing { ledger: String, version: String },
    #[error(
        "{script} is not what was applied: {ledger} has another checksum. Put it back as it was and write the change as a new script; if the edit changes nothing, set baseline to the version that the database is at"
    )]
    ForeignChecksum { script: String, ledger: String },
    #[error(
        "the ledgers {one} and {other} both say what was applied. Remove the one that is not kept any more, or set baseline to the version that the database is at"
    )]
    TwoForeign { one: String, other: String },
    #[error(
        "the ledger {ledger} is not one of the layout {layout}, in which the source is read. If it is this source's, name the layout of its files (spec.source.layout: {own}, --layout {own}; belay for files that were renamed); if it is another application's, set baseline to the version that this source is at (\"0\": before the first script)",
        own = .own.as_str(),
        layout = .layout.as_str()
    )]
    ForeignLayout {
        ledger: String,
        /// That of the ledger's tool.
        own: Layout,
        /// That of the source.
        layout: Layout,
    },
    #[error(
        "the ledger {ledger} is outside of the search path, and is not taken over. If it is this source's, put {schema} into the search path (spec.searchPath of the PostgresDatabase, --search-path {schema}); if it is another application's, do not ask for a takeover (spec.adopt: None, --adopt none)"
    )]
    ForeignElsewhere { ledger: String, schema: String },
    #[error(
        "the ledger {ledger} says what was applied, but may not be read. Grant SELECT on it to the login or the role"
    )]
    ForeignUnreadable { ledger: String },
    #[error(
        "{script} was edited after it was applied at {applied_at} (checksum {}, was {}). Put it back as it was and write the change as a new script; if the edit changes nothing, run belay repair",
        short(is),
        short(was)
    )]
    ChecksumMismatch { script: String, was: Checksum, is: Checksum, applied_at: Timestamp },
    #[error(
        "{script} is applied, but is no longer in the source. Put it back; if it left on purpose, run belay repair"
    )]
    MissingScript { script: String, version: Version },
    #[error(
        "version {version} is begun, but is no longer in the source ({begun}). Put it back; or, if the database is as if it had never been begun, run belay repair --forget-statements {version} --yes",
        version = .begun.version
    )]
    MissingBegun { begun: Begun },
    #[error(
        "version {version} is begun ({begun}), but the source now calls it {is}. Give it its number back; if it was renumbered on purpose, run belay repair",
        version = .begun.version
    )]
    RenumberedBegun { begun: Begun, is: String },
    #[error(
        "version {version} is begun ({begun}), but in the source this is {script}, which begins otherwise. Put {was} back as it was; or, if the database is as if it had never been begun, run belay repair --forget-statements {version} --yes",
        version = .begun.version,
        was = .begun.file
    )]
    OtherBegun { begun: Begun, script: String },
    #[error(
        "{script}{place}: the script was edited after its statement {number} was run outside a transaction. Put the statements that are applied back as they were, and correct only those behind them; or, if the database is as the script wants it to be run anew, forget what was done: belay repair --forget-statements {version} --yes",
        place = at(*.line)
    )]
    EditedHalfway {
        script: String,
        version: Version,
        /// The statement, from 1.
        number: usize,
        /// None: the script has no such statement any more.
        line: Option<u32>,
    },
    #[error(
        "{script}{place}: the script was edited at its statement {number}, which was begun outside a transaction, and is not settled. Put it back as it was, and the next run settles it, or asks what became of it; or, if it is to be run as it is now, whatever it has left, say so: belay repair --statement {version}:{number}=undone --yes",
        place = at(*.line)
    )]
    EditedInDoubt {
        script: String,
        version: Version,
        /// As above.
        number: usize,
        /// As above.
        line: Option<u32>,
    },
    #[error(
        "{was} is applied, but the source now calls it {is}. Name it {was} again; if it was renamed on purpose, run belay repair"
    )]
    Renamed { was: String, is: String },
    #[error(
        "{script} is to be applied after {applied}, which has a higher version. Give it a version above, or allow it (spec.outOfOrder: Allow, --out-of-order)"
    )]
    OutOfOrder { script: String, applied: String },
    #[error("{script}, {what}")]
    UnsupportedScript { script: String, what: Unsupported },
    #[error(
        "{script} is not run in a transaction, and all pending scripts are to share one. Set spec.transaction to PerScript (--transaction per-script)"
    )]
    NotInOneTransaction { script: String },
}

impl Refusal {
    /// Of a script that is begun, and was edited there.
    pub fn edited_halfway(script: &Script, edited: Edited) -> Self {
        let (version, number, line) = (script.version.clone(), edited.number + 1, edited.line);
        let script = script.file_name.clone();
        match edited.done {
            true => Self::EditedHalfway { script, version, number, line },
            false => Self::EditedInDoubt { script, version, number, line },
        }
    }

    /// The reason that conditions have for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::EmptySource => Reason::InvalidSource,
            Self::UnknownTarget { .. }
            | Self::TargetBelowCurrent { .. }
            | Self::TargetBelowBegun { .. }
            | Self::UnknownBaseline { .. }
            | Self::BaselineOverBegun { .. } => Reason::UnknownTarget,
            Self::BaselineRequired { .. } => Reason::BaselineRequired,
            Self::ForeignFailed { .. }
            | Self::TwoForeign { .. }
            | Self::ForeignLayout { .. }
            | Self::ForeignElsewhere { .. } => Reason::AdoptionRefused,
            Self::ForeignUnreadable { .. } => Reason::PermissionDenied,
            Self::ChecksumMismatch { .. } | Self::ForeignChecksum { .. } => Reason::ChecksumMismatch,
            Self::MissingScript { .. }
            | Self::MissingBegun { .. }
            | Self::RenumberedBegun { .. }
            | Self::OtherBegun { .. }
            | Self::Renamed { .. }
            | Self::ForeignMissing { .. } => Reason::MissingScript,
            Self::EditedHalfway { .. } | Self::EditedInDoubt { .. } => Reason::InDoubt,
            Self::OutOfOrder { .. } => Reason::OutOfOrder,
            Self::UnsupportedScript { .. } | Self::NotInOneTransaction { .. } => Reason::UnsupportedScript,
        }
    }
}

/// What else there is to do where another tool's ledger was found.
fn taking_over(ledger: &str, layout: Layout) -> String {
    let layout = layout.as_str();
    format!(
        "let Belay take {ledger} over (spec.adopt: Auto, --adopt auto; for {layout}'s own files also spec.source.layout: \
         {layout}, --layout {layout}), or "
    )
}

/// `, line 3`
fn at(line: Option<u32>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}

/// Enough of a checksum to tell two apart.
fn short(checksum: &Checksum) -> String {
    checksum.to_string().chars().take(12).collect()
}
