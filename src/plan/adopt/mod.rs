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
        match &adopted {
            _ if scripts.is_empty() => {}
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
        (Tool::Flyway, "UNDO_SQL" | "UNDO_JDBC" | "UNDO_SCRIPT" | "DELETE") => Word::Undone,
        (Tool::Flyway, "BASELINE" | "SQL_BASELINE" | "JDBC_BASELINE") => Word::AppliedUpTo,
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
        // What is undone need not be in the source any more.
        let Some(script) = find(history, ledger.tool, row) else {
            match word {
                Word::Undone | Word::Nothing => continue,
                _ => return Err(Refusal::ForeignMissing { ledger: told(ledger), version: row.shown() }),
            }
        };
        let same = |(other, _): &(Arc<Script>, _)| other.version == script.version;
        match word {
            Word::Applied if scripts.iter().any(same) => {}
            Word::Applied => scripts.push((script.clone(), Some(row))),
            Word::AppliedUpTo => {
                for earlier in history.scripts().filter(|earlier| earlier.version <= script.version) {
                    if !scripts.iter().any(|(other, _)| other.version == earlier.version) {
                        scripts.push((earlier.clone(), None));
                    }
                }
            }
            Word::Undone => scripts.retain(|entry| !same(entry)),
            Word::Failed | Word::Nothing => {}
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
    let named = script.file_name.strip_prefix('V').and_then(|name| name.split_once("__"));
    let named = named.and_then(|(version, _)| parts(version));
    named.or_else(|| parts(script.version.as_written())).unwrap_or_default()
}
