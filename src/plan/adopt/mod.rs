//! Another tool's ledger × history → the scripts that are in the database already, or a refusal.

mod checksum;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::foreign::{ForeignLedger, ForeignRow, Tool};
use super::ledger::Ledger;
use super::refusal::Refusal;
use crate::api::Layout;
use crate::script::{History, Script, Version};

/// What is taken over: whose ledger it is, and the scripts that it says are applied, in the order of their versions.
#[derive(Clone, Debug)]
pub(super) struct Adoption {
    pub ledger: ForeignLedger,
    pub scripts: Vec<Arc<Script>>,
}

/// What the tools' ledgers that were found say of this history. None: there is none that says anything.
///
/// # Errors
/// When one cannot be read or taken at its word, or two say something; or when none does, and there is one outside of the
/// search path, or only those of other tools than the source's.
pub(super) fn adopt(history: &History, found: &Ledger) -> Result<Option<Adoption>, Refusal> {
    let layout = history.layout();
    let mut adopted: Option<Adoption> = None;
    for ledger in fitting(layout, &found.foreign) {
        let rows = ledger.rows.as_deref().ok_or_else(|| Refusal::ForeignUnreadable { ledger: ledger.to_string() })?;
        let scripts = applied(history, ledger, rows)?;
        let is_baseline = |row: &ForeignRow| matches!(word(ledger.tool, row), Word::AppliedUpTo);
        match &adopted {
            // A baseline says something, also where the source begins behind it.
            _ if scripts.is_empty() && !rows.iter().any(is_baseline) => {}
            Some(other) => {
                return Err(Refusal::TwoForeign { one: told(&other.ledger), other: told(ledger) });
            }
            None => adopted = Some(Adoption { ledger: ledger.clone(), scripts }),
        }
    }
    if adopted.is_some() {
        return Ok(adopted);
    }
    if let Some(ledger) = fitting(layout, &found.foreign_elsewhere).next() {
        return Err(Refusal::ForeignElsewhere { ledger: told(ledger), schema: ledger.schema.clone() });
    }
    match (fitting(layout, &found.foreign).next(), found.foreign.first()) {
        (None, Some(other)) => Err(Refusal::ForeignLayout { ledger: told(other), own: other.tool.layout(), layout }),
        _ => Ok(None),
    }
}

/// Those that can be about files of this layout: its tool's. Files of Belay's own may be any tool's, renamed.
pub(super) fn fitting(layout: Layout, found: &[ForeignLedger]) -> impl Iterator<Item = &ForeignLedger> {
    found.iter().filter(move |ledger| matches!(layout, Layout::Belay | Layout::Auto) || ledger.tool.layout() == layout)
}

/// The ledger and whose it is.
pub(super) fn told(ledger: &ForeignLedger) -> String {
    format!("{ledger} ({})", ledger.tool.name())
}

/// What a row says.
enum Word {
    Applied,
    /// Everything up to this version is.
    AppliedUpTo,
    /// It was, and is no longer.
    Undone,
    /// It ended in between: nobody knows what of it is there.
    Failed,
    /// Nothing of a script's.
    Nothing,
}

fn word(tool: Tool, row: &ForeignRow) -> Word {
    let kind = row.kind.as_deref().unwrap_or_default();
    match (tool, kind) {
        // Rolled back by hand, and said so: Prisma applies it again.
        (Tool::Prisma, "rolled back") => Word::Undone,
        _ if !row.ok => Word::Failed,
        (Tool::Flyway, "DELETE") => Word::Undone,
        (Tool::Flyway, kind) if kind.starts_with("UNDO_") => Word::Undone,
        (Tool::Flyway, "BASELINE") => Word::AppliedUpTo,
        // A state script is what older ones called the script of a baseline.
        (Tool::Flyway, kind) if kind.ends_with("_BASELINE") || kind.ends_with("_STATE_SCRIPT") => Word::AppliedUpTo,
        // A repeatable script, or the schema that Flyway made.
        (Tool::Flyway, _) if row.version.is_none() => Word::Nothing,
        (Tool::Goose, "false") => Word::Undone,
        // goose writes it when it makes its table.
        (Tool::Goose, _) if row.version.as_deref() == Some("0") => Word::Nothing,
        (Tool::GolangMigrate, _) => Word::AppliedUpTo,
        _ => Word::Applied,
    }
}

fn applied(history: &History, ledger: &ForeignLedger, rows: &[ForeignRow]) -> Result<Vec<Arc<Script>>, Refusal> {
    let failed = rows.iter().find(|row| matches!(word(ledger.tool, row), Word::Failed));
    if let Some(row) = failed {
        return Err(Refusal::ForeignFailed { ledger: told(ledger), version: row.shown(), tool: ledger.tool.name() });
    }
    let mut scripts = BTreeMap::new();
    for row in last_words(ledger.tool, rows) {
        let missing = || Refusal::ForeignMissing { ledger: told(ledger), version: row.shown() };
        match word(ledger.tool, row) {
            Word::Applied => {
                let script = find(history, ledger.tool, row).or_else(|| renamed(history, ledger.tool, row));
                let script = script.ok_or_else(missing)?;
                if !agrees(ledger.tool, row, script) {
                    return Err(Refusal::ForeignChecksum { script: script.file_name.clone(), ledger: told(ledger) });
                }
                scripts.insert(&script.version, script);
            }
            Word::AppliedUpTo => {
                let up_to = up_to(history, ledger.tool, row).ok_or_else(missing)?;
                scripts.extend(up_to.into_iter().map(|script| (&script.version, script)));
            }
            // It need not be in the source any more; where it is, a baseline may have counted it in.
            Word::Undone => {
                find(history, ledger.tool, row).and_then(|script| scripts.remove(&script.version));
            }
            Word::Failed | Word::Nothing => {}
        }
    }
    Ok(scripts.into_values().cloned().collect())
}

/// Whether the script is what the tool applied.
fn agrees(tool: Tool, row: &ForeignRow, script: &Arc<Script>) -> bool {
    checksum::agrees(tool, row, &script.whole().unwrap_or_else(|_| script.clone()))
}

/// Of the rows about one version the last, in their order; and every baseline, which is about more than its own.
fn last_words(tool: Tool, rows: &[ForeignRow]) -> Vec<&ForeignRow> {
    let mut told = BTreeSet::new();
    let last =
        rows.iter().rev().filter(|row| matches!(word(tool, row), Word::AppliedUpTo) || told.insert(subject(row)));
    let mut last: Vec<_> = last.collect();
    last.reverse();
    last
}

/// What a row is about: a version, however it is written; or a name, by which alone Prisma knows its migrations.
fn subject(row: &ForeignRow) -> (Option<Vec<Version>>, Option<&str>) {
    match row.version.as_deref().and_then(parts) {
        Some(parts) => (Some(parts), None),
        None => (None, row.version.as_deref().or(row.name.as_deref())),
    }
}

/// The scripts up to the version of a row.
fn up_to<'a>(history: &'a History, tool: Tool, row: &ForeignRow) -> Option<Vec<&'a Arc<Script>>> {
    // Flyway's baseline has no script as a rule, and is compared by parts; of renamed files only its own script tells.
    if tool == Tool::Flyway && history.scripts().all(|script| named_parts(script).is_some()) {
        let last = parts(row.version.as_deref()?)?;
        return Some(history.scripts().filter(|script| flyway_parts(script) <= last).collect());
    }
    let last = find(history, tool, row)?;
    Some(history.scripts().filter(|script| script.version <= last.version).collect())
}

/// The script that a row is about.
fn find<'a>(history: &'a History, tool: Tool, row: &ForeignRow) -> Option<&'a Arc<Script>> {
    match tool {
        Tool::Flyway => {
            let parts = parts(row.version.as_deref()?)?;
            history.scripts().find(|script| flyway_parts(script) == parts)
        }
        Tool::Prisma => {
            // As Prisma calls it, and as it is called where it was renamed for Belay.
            let name = row.name.as_deref()?;
            let names = [format!("{name}/migration.sql"), format!("{name}.sql")];
            history.scripts().find(|script| names.contains(&script.file_name))
        }
        _ => history.get(&row.version.as_deref()?.parse().ok()?),
    }
}

/// The script that Prisma applied under another name: by its digits, and what is in it. Other names with the same digits may be
/// other migrations.
fn renamed<'a>(history: &'a History, tool: Tool, row: &ForeignRow) -> Option<&'a Arc<Script>> {
    let name = row.name.as_deref().filter(|_| tool == Tool::Prisma)?;
    let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
    history.get(&digits.parse().ok()?).filter(|script| agrees(tool, row, script))
}

/// Flyway's version by its parts; those at the end that are 0 make no difference.
fn parts(version: &str) -> Option<Vec<Version>> {
    let mut parts = version.split(['.', '_']).map(|part| part.parse().ok()).collect::<Option<Vec<Version>>>()?;
    while parts.last().is_some_and(|part| part.number() == "0") {
        parts.pop();
    }
    Some(parts)
}

/// The version as Flyway reads it from the file's name; of a file that was renamed, Belay's.
fn flyway_parts(script: &Script) -> Vec<Version> {
    named_parts(script).or_else(|| parts(script.version.as_written())).unwrap_or_default()
}

fn named_parts(script: &Script) -> Option<Vec<Version>> {
    let (version, _) = script.file_name.strip_prefix('V')?.split_once("__")?;
    parts(version)
}
