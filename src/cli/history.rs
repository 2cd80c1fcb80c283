use clap::{Args, ValueEnum};
use serde::Serialize;

use super::error::CliError;
use super::exit::{self, Exit};
use super::output::{self, Format, capital, moment};
use super::session;
use super::source::OptionalFolder;
use super::target::Database;
use crate::plan::{Applied, Ledger};
use crate::postgres::Locks;
use crate::script::{Script, Version};

/// Print the history of a database: version, description, date, author, status.
#[derive(Args, Debug)]
#[command(after_help = exit::HELP)]
pub struct History {
    #[command(flatten)]
    folder: OptionalFolder,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Style,
    #[command(flatten)]
    database: Database,
}

/// What the history looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Style {
    /// For people
    Table,
    /// A table for a README
    Markdown,
    /// One JSON document, also when the command fails
    Json,
    /// One YAML document, also when the command fails
    Yaml,
}

/// One version, in the ledger or only in the folder.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    version: String,
    description: String,
    file: String,
    /// As the script's header has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    /// applied, baseline, adopted, retired, pending or failed.
    status: &'static str,
    checksum: String,
    #[serde(flatten)]
    applied: Option<AppliedEntry>,
    #[serde(skip)]
    at: Option<jiff::Timestamp>,
}

/// What only the ledger knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AppliedEntry {
    applied_at: String,
    applied_by: String,
    mode: String,
    duration_ms: i64,
    run_id: String,
}

#[derive(Serialize)]
struct Document {
    database: String,
    history: Vec<Entry>,
}

const HEADER: [&str; 5] = ["Version", "Description", "Date", "Author", "Status"];

impl History {
    /// How a failure is printed.
    pub fn format(&self) -> Format {
        match self.output {
            Style::Table | Style::Markdown => Format::Table,
            Style::Json => Format::Json,
            Style::Yaml => Format::Yaml,
        }
    }

    pub async fn run(self) -> Result<Exit, CliError> {
        let source = self.folder.read()?;
        let mut engine = session::connect(&self.database, Locks::default()).await?;
        let ledger = engine.ledger().await?;
        let entries = entries(&ledger, source.iter().flat_map(|history| history.scripts()).map(AsRef::as_ref));
        let database = engine.identity().database.clone();
        engine.close().await;
        output::print(&match self.output {
            Style::Table => table(&entries, &ledger),
            Style::Markdown => markdown(&entries),
            Style::Json | Style::Yaml => output::document(self.format(), &Document { database, history: entries }),
        })?;
        Ok(Exit::Done)
    }
}

/// What the ledger has and what the folder adds, in the order of their versions.
fn entries<'a>(ledger: &Ledger, scripts: impl Iterator<Item = &'a Script>) -> Vec<Entry> {
    let failed = ledger.hold.as_ref().and_then(|hold| hold.failure.script.as_deref());
    let mut entries: Vec<(Version, Entry)> =
        ledger.rows.iter().map(|row| (row.version.clone(), applied(row))).collect();
    let there = ledger.versions();
    let pending = scripts.filter(|script| !there.contains(&script.version));
    entries.extend(pending.map(|script| {
        let status = if failed == Some(script.file_name.as_str()) { "failed" } else { "pending" };
        (script.version.clone(), only_in_folder(script, status))
    }));
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

fn applied(row: &Applied) -> Entry {
    Entry {
        version: row.version.to_string(),
        description: row.description.clone(),
        file: row.file_name.clone(),
        date: row.date.clone(),
        author: row.author.clone(),
        status: match row.mode.as_str() {
            _ if row.retired => "retired",
            "baseline" => "baseline",
            "adopted" => "adopted",
            _ => "applied",
        },
        checksum: row.checksum.to_string(),
        applied: Some(AppliedEntry {
            applied_at: row.applied_at.to_string(),
            applied_by: row.applied_by.clone(),
            mode: row.mode.clone(),
            duration_ms: row.duration_ms,
            run_id: row.run_id.to_string(),
        }),
        at: Some(row.applied_at),
    }
}

fn only_in_folder(script: &Script, status: &'static str) -> Entry {
    Entry {
        version: script.version.to_string(),
        description: script.title().to_owned(),
        file: script.file_name.clone(),
        date: script.header.date.clone(),
        author: script.header.author.clone(),
        status,
        checksum: script.checksum.to_string(),
        applied: None,
        at: None,
    }
}

impl Entry {
    /// The header's date; where it has none, the day on which the script was applied.
    fn day(&self) -> String {
        self.date.clone().or_else(|| Some(self.at?.strftime("%Y-%m-%d").to_string())).unwrap_or_default()
    }

    fn cells(&self) -> Vec<String> {
        let author = self.author.clone().unwrap_or_default();
        vec![self.version.clone(), capital(&self.description), self.day(), author, self.status.to_owned()]
    }
}

fn table(entries: &[Entry], ledger: &Ledger) -> String {
    let header: Vec<String> = HEADER.iter().chain(&["Applied at"]).map(|name| name.to_uppercase()).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = |entry: &Entry| {
        let mut cells = entry.cells();
        cells.push(entry.at.map(moment).unwrap_or_default());
        cells
    };
    let mut text = output::table(Some(&header), &entries.iter().map(row).collect::<Vec<_>>(), "");
    if let Some(hold) = &ledger.hold {
        let line = format!("Held since {}, {}: {}\n", moment(hold.at), hold.failure.reason, hold.failure.message);
        text.push_str(&output::printable(&line));
    }
    text
}

fn markdown(entries: &[Entry]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&HEADER.map(str::to_owned));
    text.push_str(&format!("|{}\n", "---|".repeat(HEADER.len())));
    text.extend(entries.iter().map(|entry| line(&entry.cells())));
    text
}

/// Text in a cell of a Markdown table, as text.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in output::printable(text).chars() {
        match c {
            '\n' => out.push(' '),
            '|' | '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_a_markdown_table() {
        assert_eq!(escaped("a|b\n<script>"), "a\\|b \\<script\\>");
    }
}
