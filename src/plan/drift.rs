use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{Applied, Begun, Ledger, Refusal, edited};
use crate::script::{History, Script, Version};

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
    /// A script that is begun has another version, and begins with what is done of it.
    RenumberedBegun { begun: Begun, script: Arc<Script> },
}

impl Drift {
    /// The version that the ledger has.
    pub fn version(&self) -> &Version {
        match self {
            Self::Edited { row, .. }
            | Self::Renamed { row, .. }
            | Self::Renumbered { row, .. }
            | Self::Lost { row } => &row.version,
            Self::RenumberedBegun { begun, .. } => &begun.version,
        }
    }

    /// The file's name, as the ledger has it.
    pub fn file(&self) -> &str {
        match self {
            Self::Edited { row, .. }
            | Self::Renamed { row, .. }
            | Self::Renumbered { row, .. }
            | Self::Lost { row } => &row.file_name,
            Self::RenumberedBegun { begun, .. } => &begun.file,
        }
    }

    /// What the history has in its place.
    pub fn script(&self) -> Option<&Arc<Script>> {
        match self {
            Self::Edited { script, .. }
            | Self::Renamed { script, .. }
            | Self::Renumbered { script, .. }
            | Self::RenumberedBegun { script, .. } => Some(script),
            Self::Lost { .. } => None,
        }
    }
}

/// All differences, in the order of the ledger's versions.
pub fn drift(history: &History, ledger: &Ledger) -> Vec<Drift> {
    let mut rows: Vec<_> = ledger.rows.iter().collect();
    rows.sort_by(|a, b| a.version.cmp(&b.version));
    let renumbered = renumbered(history, ledger);
    let taken = renumbered.values().map(|script| &script.version).collect();
    let of_row = |row: &Applied| match renumbered.get(&row.version) {
        Some(script) => Some(Drift::Renumbered { row: row.clone(), script: (*script).clone() }),
        None => in_place(history, row, &taken),
    };
    let begun = ledger.begun.iter().filter_map(|begun| {
        let script = renumbered_begun(history, ledger, begun)?.clone();
        Some(Drift::RenumberedBegun { begun: begun.clone(), script })
    });
    let mut all: Vec<_> = rows.into_iter().filter_map(of_row).chain(begun).collect();
    all.sort_by(|a, b| a.version().cmp(b.version()));
    all
}

/// The script of another version that a begun one is now: of the same name and not applied, it begins with what is done of it,
/// and the one that has its version, if any, does not.
fn renumbered_begun<'a>(history: &'a History, ledger: &Ledger, begun: &Begun) -> Option<&'a Arc<Script>> {
    let goes_on = |script: &&Arc<Script>| edited(script, &begun.statements).is_none();
    if history.get(&begun.version).filter(goes_on).is_some() {
        return None;
    }
    let name = |file: &str| file.split_once('_').map(|(_, name)| name.to_owned());
    let applied = |script: &Script| ledger.row(&script.version).is_some_and(|row| row.checksum == script.checksum);
    let is_it = |script: &&Arc<Script>| name(&script.file_name) == name(&begun.file) && !applied(script);
    let mut same = history.scripts().filter(is_it).filter(goes_on);
    same.next().filter(|_| same.next().is_none())
}

/// The scripts whose content rows of another version have. Looked for first: where scripts have moved on by one, each has the
/// number of another, and would pass for an edit of it. Content of which there is more than one is not guessed at.
fn renumbered<'a>(history: &'a History, ledger: &'a Ledger) -> BTreeMap<&'a Version, &'a Arc<Script>> {
    let rows: BTreeMap<_, _> = ledger.rows.iter().map(|row| (&row.version, row)).collect();
    let fits = |script: &Script| rows.get(&script.version).is_some_and(|row| row.checksum == script.checksum);
    let mut same: BTreeMap<_, (Vec<_>, Vec<_>)> = BTreeMap::new();
    for row in ledger.rows.iter().filter(|row| !row.retired) {
        if !history.get(&row.version).is_some_and(|script| fits(script)) {
            same.entry(row.checksum.to_string()).or_default().0.push(&row.version);
        }
    }
    for script in history.scripts().filter(|script| !fits(script)) {
        same.entry(script.checksum.to_string()).or_default().1.push(script);
    }
    let one_each = |(rows, scripts): (Vec<_>, Vec<_>)| match (&*rows, &*scripts) {
        ([row], [script]) => Some((*row, *script)),
        _ => None,
    };
    same.into_values().filter_map(one_each).collect()
}

/// A row beside the script that has its version, unless that script is another row's.
fn in_place(history: &History, row: &Applied, taken: &BTreeSet<&Version>) -> Option<Drift> {
    let owned = || row.clone();
    match history.get(&row.version).filter(|script| !taken.contains(&script.version)) {
        Some(script) if script.checksum != row.checksum => Some(Drift::Edited { row: owned(), script: script.clone() }),
        Some(script) if script.file_name != row.file_name => {
            Some(Drift::Renamed { row: owned(), script: script.clone() })
        }
        Some(_) => None,
        None if row.retired => None,
        None => Some(Drift::Lost { row: owned() }),
    }
}

/// A renumbered script that cannot have its new number in the ledger: another one keeps it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub was: Version,
    /// As the ledger and the history call it.
    file: (String, String),
    /// Who keeps the number.
    by: String,
    /// It is not applied as a whole yet: under a row of another script, what is done of it would be forgotten.
    begun: bool,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file: (was, is), by, .. } = self;
        write!(f, "{was} is now {is}, but in the ledger this number is that of {by}, which ")?;
        match self.begun {
            true => write!(
                f,
                "is begun. Give both their numbers back, and renumber them when {by} is applied; or, if {by} was renumbered too, repair both at once"
            ),
            false => write!(
                f,
                "keeps it. Give {was} its number back, or one that is free in the ledger; or, if {by} was renumbered too, repair both at once"
            ),
        }
    }
}

/// Those of the renumbered that cannot have their number, if only these differences are repaired.
pub fn taken(found: &[Drift], ledger: &Ledger) -> Vec<Taken> {
    let is_renumbered = |drift: &&Drift| matches!(drift, Drift::Renumbered { .. } | Drift::RenumberedBegun { .. });
    let mut renumbered: Vec<_> =
        found.iter().filter(is_renumbered).filter_map(|drift| Some((drift, drift.script()?))).collect();
    let leaves: BTreeSet<_> = renumbered.iter().map(|(drift, _)| drift.version()).collect();
    let rows = ledger.rows.iter().map(|row| (&row.version, (&*row.file_name, false)));
    let begun = ledger.begun.iter().map(|begun| (&begun.version, (&*begun.file, true)));
    let mut kept: BTreeMap<_, _> = rows.chain(begun).filter(|(version, _)| !leaves.contains(version)).collect();
    let mut taken = Vec::new();
    // Who cannot leave keeps the number from the next one.
    while let Some(at) = renumbered.iter().position(|(_, script)| kept.contains_key(&script.version)) {
        let (drift, script) = renumbered.remove(at);
        let (by, begun) = kept[&script.version];
        let file = (drift.file().to_owned(), script.file_name.clone());
        taken.push(Taken { was: drift.version().clone(), file, by: by.to_owned(), begun });
        kept.insert(drift.version(), (drift.file(), matches!(drift, Drift::RenumberedBegun { .. })));
    }
    taken
}

/// The scripts that are begun, and cannot be gone on with as the history has them, each with the refusal that says why: one that
/// is gone, or has another version, for what is done of it would be done again; one that was edited in what is done.
pub fn begun_apart<'a>(history: &'a History, ledger: &'a Ledger) -> impl Iterator<Item = (&'a Begun, Refusal)> {
    ledger.begun.iter().filter_map(|begun| Some((begun, apart(history, ledger, begun)?)))
}

fn apart(history: &History, ledger: &Ledger, begun: &Begun) -> Option<Refusal> {
    let owned = || begun.clone();
    if let Some(script) = renumbered_begun(history, ledger, begun) {
        return Some(Refusal::RenumberedBegun { begun: owned(), is: script.file_name.clone() });
    }
    let Some(script) = history.get(&begun.version) else {
        return Some(Refusal::MissingBegun { begun: owned() });
    };
    let edited = edited(script, &begun.statements)?;
    Some(match script.file_name == begun.file {
        true => Refusal::edited_halfway(script, edited),
        false => Refusal::OtherBegun { begun: owned(), script: script.file_name.clone() },
    })
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
            Drift::RenumberedBegun { .. } => "begun",
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

    /// Which version each row has in the history: its own, another, or none.
    fn places(applied: &[(&str, &str)], files: &[(&str, &str)]) -> Vec<String> {
        let place = |drift: &Drift| {
            let now = drift.script().map_or("none", |script| script.version.as_written());
            format!("{}->{now}", drift.version())
        };
        drift(&history(files), &ledger(applied)).iter().map(place).collect()
    }

    #[test]
    fn a_script_that_took_anothers_number_is_no_edit_of_it() {
        let three = [("1_a.sql", "select 1"), ("2_b.sql", "select 2"), ("3_c.sql", "select 3")];
        let moved = |numbers: [&str; 3]| {
            let names: Vec<_> = numbers.iter().map(|number| format!("{number}_x.sql")).collect();
            let files: Vec<_> = names.iter().zip(three).map(|(name, (_, text))| (name.as_str(), text)).collect();
            places(&three, &files)
        };
        assert_eq!(moved(["2", "3", "4"]), ["1->2", "2->3", "3->4"]);
        assert_eq!(moved(["2", "1", "4"]), ["1->2", "2->1", "3->4"]);
        let files = [("1_b.sql", "select 2"), ("2_c.sql", "select 3")];
        assert_eq!(places(&three, &files), ["1->none", "2->1", "3->2"]);
        let files =
            [("1_a.sql", "select 1"), ("2_new.sql", "select 4"), ("3_b.sql", "select 2"), ("4_c.sql", "select 30")];
        assert_eq!(places(&three, &files), ["2->3", "3->none"]);
    }

    #[test]
    fn content_that_is_applied_twice_is_told_apart_by_what_stays() {
        let twice = [("1_a.sql", "select 1"), ("2_b.sql", "select 1")];
        assert_eq!(places(&twice, &[("2_b.sql", "select 1"), ("3_a.sql", "select 1")]), ["1->3"]);
        assert_eq!(places(&twice, &[("3_a.sql", "select 1")]), ["1->none", "2->none"]);
    }

    #[test]
    fn who_cannot_leave_a_number_keeps_it_from_the_next_one() {
        let history = history(&[("2_a.sql", "select 1"), ("3_b.sql", "select 2")]);
        let mut ledger = ledger(APPLIED);
        let found = drift(&history, &ledger);
        assert!(taken(&found, &ledger).is_empty());
        assert_eq!(taken(&found[..1], &ledger).len(), 1);

        ledger.begun.push(Begun { version: "3".parse().unwrap(), file: "3_pay.sql".into(), statements: Vec::new() });
        let said: Vec<_> = taken(&found, &ledger).iter().map(ToString::to_string).collect();
        assert!(
            said[0].starts_with(
                "2_b.sql is now 3_b.sql, but in the ledger this number is that of 3_pay.sql, which is begun"
            )
        );
        assert!(said[1].starts_with("1_a.sql is now 2_a.sql, but in the ledger this number is that of 2_b.sql"));
    }

    #[test]
    fn what_was_retired_is_no_drift() {
        let mut ledger = ledger(APPLIED);
        ledger.rows[1].retired = true;
        assert!(drift(&history(&[("1_a.sql", "select 1")]), &ledger).is_empty());
    }
}
