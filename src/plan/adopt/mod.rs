//! Another tool's ledger × history → the scripts that are in the database already, or a refusal.

mod checksum;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::foreign::{ForeignLedger, ForeignRow, Tool};
use super::refusal::Refusal;
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
/// When one cannot be read or taken at its word, or two say something.
pub(super) fn adopt(history: &History, found: &[ForeignLedger]) -> Result<Option<Adoption>, Refusal> {
    let mut adopted: Option<Adoption> = None;
    for ledger in found {
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
    Ok(adopted)
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
    let mut scripts: Vec<(Arc<Script>, Option<&ForeignRow>)> = Vec::new();
    for row in rows {
        let word = word(ledger.tool, row);
        let about = match word {
            Word::AppliedUpTo => up_to(history, ledger.tool, row),
            _ => find(history, ledger.tool, row).map(|script| vec![script]),
        };
        // What is undone need not be in the source any more.
        let Some(about) = about else {
            match word {
                Word::Undone | Word::Nothing => continue,
                _ => return Err(Refusal::ForeignMissing { ledger: told(ledger), version: row.shown() }),
            }
        };
        for script in about {
            let same = |(other, _): &(Arc<Script>, _)| other.version == script.version;
            match word {
                Word::Applied | Word::AppliedUpTo if scripts.iter().any(same) => {}
                Word::Applied => scripts.push((script.clone(), Some(row))),
                Word::AppliedUpTo => scripts.push((script.clone(), None)),
                Word::Undone => scripts.retain(|entry| !same(entry)),
                Word::Failed | Word::Nothing => {}
            }
        }
    }
    for (script, row) in &scripts {
        if row
            .is_some_and(|row| !checksum::agrees(ledger.tool, row, &script.whole().unwrap_or_else(|_| script.clone())))
        {
            return Err(Refusal::ForeignChecksum { script: script.file_name.clone(), ledger: told(ledger) });
        }
    }
    let mut scripts: Vec<_> = scripts.into_iter().map(|(script, _)| script).collect();
    scripts.sort_by(|a, b| a.version.cmp(&b.version));
    Ok(scripts)
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
            let name = row.name.as_deref()?;
            let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
            let file = format!("{name}/migration.sql");
            let by_name = history.scripts().find(|script| script.file_name == file);
            by_name.or_else(|| history.get(&digits.parse().ok()?))
        }
        _ => history.get(&row.version.as_deref()?.parse().ok()?),
    }
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
