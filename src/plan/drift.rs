use std::sync::Arc;

use super::{Applied, Begun, Ledger, Refusal, edited};
use crate::script::{History, Script};

/// Where ledger and history differ about what is applied: what keeps a plan from being made, and what a person may say
/// is right as it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Drift {
    /// The script was edited after it was applied; its name may differ too.
    Edited { row: Applied, script: Arc<Script> },
    /// The file has another name, and the same content.
    Renamed { row: Applied, script: Arc<Script> },
    /// The file has another version, and the same content.
    Renumbered { row: Applied, script: Arc<Script> },
    /// The script is no longer in the history.
    Lost { row: Applied },
}

impl Drift {
    /// What the ledger has.
    pub fn row(&self) -> &Applied {
        match self {
            Self::Edited { row, .. }
            | Self::Renamed { row, .. }
            | Self::Renumbered { row, .. }
            | Self::Lost { row } => row,
        }
    }

    /// What the history has in its place.
    pub fn script(&self) -> Option<&Arc<Script>> {
        match self {
            Self::Edited { script, .. } | Self::Renamed { script, .. } | Self::Renumbered { script, .. } => {
                Some(script)
            }
            Self::Lost { .. } => None,
        }
    }
}

/// All differences, in the order of the ledger's versions.
pub fn drift(history: &History, ledger: &Ledger) -> Vec<Drift> {
    let mut rows: Vec<_> = ledger.rows.iter().collect();
    rows.sort_by(|a, b| a.version.cmp(&b.version));
    rows.into_iter().filter_map(|row| of_row(history, ledger, row)).collect()
}

/// The scripts that are begun, and cannot be gone on with as the history has them, each with the refusal that says why: one that
/// is gone, for what is done of it would be done again under another version; one that was edited in what is done.
pub fn begun_apart<'a>(history: &'a History, ledger: &'a Ledger) -> impl Iterator<Item = (&'a Begun, Refusal)> {
    ledger.begun.iter().filter_map(|begun| {
        let refusal = match history.get(&begun.version) {
            None => Refusal::MissingBegun { begun: begun.clone() },
            Some(script) => Refusal::edited_halfway(script, edited(script, &begun.statements)?),
        };
        Some((begun, refusal))
    })
}

fn of_row(history: &History, ledger: &Ledger, row: &Applied) -> Option<Drift> {
    let owned = || row.clone();
    match history.get(&row.version) {
        Some(script) if script.checksum != row.checksum => Some(Drift::Edited { row: owned(), script: script.clone() }),
        Some(script) if script.file_name != row.file_name => {
            Some(Drift::Renamed { row: owned(), script: script.clone() })
        }
        Some(_) => None,
        None if row.retired => None,
        None => {
            // The same content under a version that the ledger does not know, and only once.
            let mut same = history
                .scripts()
                .filter(|script| script.checksum == row.checksum && ledger.row(&script.version).is_none());
            match (same.next(), same.next()) {
                (Some(script), None) => Some(Drift::Renumbered { row: owned(), script: script.clone() }),
                _ => Some(Drift::Lost { row: owned() }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn history(files: &[(&str, &str)]) -> History {
        History::from_files(files.iter().map(|(name, sql)| ((*name).to_owned(), sql.as_bytes().to_vec()))).unwrap()
    }

    fn ledger(files: &[(&str, &str)]) -> Ledger {
        let rows = history(files).scripts().map(|script| row(script)).collect();
        Ledger { exists: true, rows, ..Ledger::default() }
    }

    fn row(script: &Script) -> Applied {
        Applied {
            version: script.version.clone(),
            file_name: script.file_name.clone(),
            description: script.description.clone(),
            author: None,
            date: None,
            checksum: script.checksum,
            mode: "transaction".into(),
            applied_at: Timestamp::UNIX_EPOCH,
            applied_by: "test".into(),
            run_id: Uuid::nil(),
            duration_ms: 1,
            retired: false,
        }
    }

    const APPLIED: &[(&str, &str)] = &[("1_a.sql", "select 1"), ("2_b.sql", "select 2")];

    fn kinds(files: &[(&str, &str)]) -> Vec<&'static str> {
        let kind = |drift: &Drift| match drift {
            Drift::Edited { .. } => "edited",
            Drift::Renamed { .. } => "renamed",
            Drift::Renumbered { .. } => "renumbered",
            Drift::Lost { .. } => "lost",
        };
        drift(&history(files), &ledger(APPLIED)).iter().map(kind).collect()
    }

    #[test]
    fn a_history_that_fits_has_no_drift() {
        assert!(kinds(APPLIED).is_empty());
        assert!(kinds(&[("1_a.sql", "select 1"), ("2_b.sql", "select 2"), ("3_c.sql", "select 3")]).is_empty());
    }

    #[test]
    fn each_difference_is_told_by_its_kind() {
        assert_eq!(kinds(&[("1_a.sql", "select 1"), ("2_b.sql", "select 3")]), ["edited"]);
        assert_eq!(kinds(&[("1_a.sql", "select 1"), ("2_c.sql", "select 2")]), ["renamed"]);
        assert_eq!(kinds(&[("1_a.sql", "select 1"), ("3_b.sql", "select 2")]), ["renumbered"]);
        assert_eq!(kinds(&[("2_b.sql", "select 2")]), ["lost"]);
        assert_eq!(kinds(&[]), ["lost", "lost"]);
    }

    #[test]
    fn content_that_is_there_twice_is_not_guessed_at() {
        assert_eq!(kinds(&[("1_a.sql", "select 1"), ("3_b.sql", "select 2"), ("4_b.sql", "select 2")]), ["lost"]);
    }

    #[test]
    fn what_was_retired_is_no_drift() {
        let mut ledger = ledger(APPLIED);
        ledger.rows[1].retired = true;
        assert!(drift(&history(&[("1_a.sql", "select 1")]), &ledger).is_empty());
    }
}
