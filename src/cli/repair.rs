use clap::Args;
use serde::Serialize;

use super::error::CliError;
use super::exit::{self, Exit};
use super::output::{self, Format, capital, count};
use super::source::Folder;
use super::target::{Database, LockOptions};
use super::{changes, interrupt, session};
use crate::plan::{Begun, Drift, Ledger, begun_apart, drift, taken};
use crate::postgres::{Engine, Locks, Repair as Row, Word};
use crate::script::{History, Version};

/// Make the ledger agree with the folder about what is applied, when the folder is right.
///
/// For a script that was edited without effect, renamed, given another version, or lost on purpose. Only the ledger is
/// changed: no script is run. Shows what it would do; does it with --yes, each change with an event that says who did it.
/// For a claim or a word on statements the folder need not be there: nothing else is changed then, but what --version names.
#[derive(Args, Debug)]
#[command(after_help = exit::HELP)]
pub struct Repair {
    #[command(flatten)]
    folder: Folder,
    /// Only this version of the ledger; may be given several times
    #[arg(long = "version", value_name = "VERSION")]
    versions: Vec<Version>,
    /// Give the ledger up, so that another object may keep it: when the one that keeps it is gone for good
    #[arg(long)]
    release_claim: bool,
    /// What a person found out of a statement whose outcome Belay could not tell: `005:2=done`, or `=undone`
    #[arg(long = "statement", value_name = "VERSION:NUMBER=done|undone", value_parser = word)]
    statements: Vec<Word>,
    /// Forget which statements were run of a script that stopped halfway outside a transaction: it is run anew
    #[arg(long, value_name = "VERSION")]
    forget_statements: Vec<Version>,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    locks: LockOptions,
}

/// What `belay repair` found, and whether it was done.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    database: String,
    changes: Vec<Change>,
    /// Whose claim is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    released_claim: Option<String>,
    /// What is said of statements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statements: Vec<String>,
    /// Scripts that are begun and that the folder does not have, or not as they were begun: left as they are, and no plan is
    /// made over them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    begun_apart: Vec<Begun>,
    /// What else is left as it is, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    /// Whether it was done; else it was only shown.
    done: bool,
}

/// One script that differs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    /// edited, renamed, renumbered or lost.
    kind: &'static str,
    version: String,
    file: String,
    /// Of a script that is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Now>,
    /// Of an edited script: whether its statements differ, or only comments and blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    statements_differ: Option<bool>,
    #[serde(skip)]
    lines: String,
}

/// What the folder has in its place.
#[derive(Serialize)]
struct Now {
    version: String,
    file: String,
    checksum: String,
}

impl Repair {
    pub async fn run(self) -> Result<Exit, CliError> {
        let history = self.folder.read_if(self.compares())?;
        let cancel = interrupt::listen();
        let locks = Locks::from(self.locks);
        let mut engine = tokio::select! {
            engine = session::connect(&self.database, locks) => engine?,
            () = cancel.cancelled() => return Err(CliError::Interrupted),
        };
        let answer = async {
            if self.yes {
                session::lock(&mut engine, locks.retry_for, &cancel).await?;
            }
            self.on(&mut engine, history.as_ref()).await
        }
        .await;
        engine.close().await;
        answer
    }

    /// Whether ledger and folder are compared. Who speaks of a claim or of statements alone means nothing else.
    fn compares(&self) -> bool {
        let other = self.release_claim || !self.statements.is_empty() || !self.forget_statements.is_empty();
        !self.versions.is_empty() || !other
    }

    async fn on(&self, engine: &mut Engine, history: Option<&History>) -> Result<Exit, CliError> {
        let ledger = engine.ledger().await?;
        let words = self.words();
        engine.check_words(&words).await?;
        let wanted = |version: &Version| self.versions.is_empty() || self.versions.contains(version);
        let found = history.map(|history| drift(history, &ledger)).unwrap_or_default();
        let spoken_of = |version: &Version| words.iter().any(|word| word.version() == version);
        let mut found: Vec<_> =
            found.into_iter().filter(|drift| wanted(drift.version()) && !spoken_of(drift.version())).collect();
        let taken = taken(&found, &ledger);
        let apart: Vec<_> = history
            .into_iter()
            .flat_map(|history| begun_apart(history, &ledger))
            .filter(|(begun, _)| wanted(&begun.version) && !self.forget_statements.contains(&begun.version))
            .filter(|(begun, _)| !found.iter().any(|drift| *drift.version() == begun.version))
            .collect();
        found.retain(|drift| !taken.iter().any(|taken| taken.was == *drift.version()));
        let mut changes = Vec::new();
        for drift in &found {
            let before = match drift {
                Drift::Edited { row, .. } => engine.script_text(&row.version).await?,
                _ => None,
            };
            changes.push(Change::new(drift, before.as_deref()));
        }
        let claim = ledger.claimant.clone().filter(|_| self.release_claim);
        let nothing = changes.is_empty() && claim.is_none() && words.is_empty();
        if self.yes && !nothing {
            let person = session::person();
            let rows: Vec<_> = found.iter().map(row).collect();
            engine.repair(&person, &rows).await?;
            engine.take_word(&person, &words).await?;
            if claim.is_some() {
                engine.release_claim(&person).await?;
            }
        }
        let left: Vec<_> = taken.iter().map(ToString::to_string).collect();
        let all_left: Vec<_> = left.iter().cloned().chain(apart.iter().map(|(_, why)| why.to_string())).collect();
        let exit = if (nothing || self.yes) && all_left.is_empty() { Exit::Done } else { Exit::Pending };
        let text = match self.output {
            Format::Table => self.table(engine, &ledger, &changes, claim.as_deref(), &words, &all_left),
            format => {
                let done = self.yes && !nothing;
                let database = engine.identity().database.clone();
                let statements = words.iter().map(ToString::to_string).collect();
                let begun_apart = apart.iter().map(|(begun, _)| (*begun).clone()).collect();
                let document =
                    Document { database, changes, released_claim: claim, statements, begun_apart, left, done };
                output::document(format, &document)
            }
        };
        output::print(&text)?;
        Ok(exit)
    }

    fn words(&self) -> Vec<Word> {
        let forgotten = self.forget_statements.iter().map(|version| Word::Forgotten { version: version.clone() });
        self.statements.iter().cloned().chain(forgotten).collect()
    }

    fn table(
        &self,
        engine: &Engine,
        ledger: &Ledger,
        changes: &[Change],
        claim: Option<&str>,
        words: &[Word],
        left: &[String],
    ) -> String {
        let sentence = |why: &String| output::printable(&format!("{}.\n", capital(why)));
        let told: String = left.iter().map(sentence).collect();
        let place = session::place(engine, ledger);
        if changes.is_empty() && claim.is_none() && words.is_empty() {
            let why = match (self.compares(), left) {
                (true, []) => "the ledger agrees with the folder, and nothing is to be repaired",
                (true, _) => "the ledger does not agree with the folder, and cannot be made to",
                (false, _) => "nobody has claimed the ledger, and nothing is to be repaired",
            };
            return format!("{place}; {why}\n{told}");
        }
        let rows = changes.len() + words.len();
        let mut text = format!("{place}; {} of the ledger to be changed\n", count(rows, "row"));
        for change in changes {
            text.push_str(&change.lines);
        }
        if let Some(claimant) = claim {
            text.push_str(&output::printable(&format!("  the claim of {claimant} is given up\n")));
        }
        for word in words {
            text.push_str(&output::printable(&format!("  {word}\n")));
        }
        let right = if self.compares() { "the folder" } else { "that" };
        text.push_str(&match self.yes {
            true => "Done; no script was run.\n".to_owned(),
            false => format!(
                "Nothing is changed yet. If {right} is right, run this again with --yes; no script is run then either.\n"
            ),
        });
        text + &told
    }
}

/// `005:2=done`
fn word(text: &str) -> Result<Word, String> {
    let read = || {
        let (place, said) = text.split_once('=')?;
        let (version, statement) = place.split_once(':')?;
        let done = ["undone", "done"].iter().position(|word| *word == said)? == 1;
        Some(Word::Settled { version: version.parse().ok()?, statement: statement.parse().ok()?, done })
    };
    read().ok_or_else(|| "write <version>:<statement's number>=done, or =undone: 005:2=done".to_owned())
}

fn row(drift: &Drift) -> Row<'_> {
    let version = drift.version();
    match drift {
        Drift::Edited { row, script } | Drift::Renamed { row, script } | Drift::Renumbered { row, script } => {
            Row::Adopt { version, was: row.checksum, script }
        }
        Drift::Lost { row } => Row::Retire { version, was: row.checksum },
        Drift::RenumberedBegun { begun, script } => Row::GoOn { version, file: &begun.file, script },
    }
}

impl Change {
    fn new(drift: &Drift, before: Option<&str>) -> Self {
        let (version, file) = (drift.version(), drift.file());
        let now = drift.script().map(|script| Now {
            version: script.version.to_string(),
            file: script.file_name.clone(),
            checksum: script.checksum.to_string(),
        });
        let checksum = match row(drift) {
            Row::Adopt { was, .. } | Row::Retire { was, .. } => Some(was.to_string()),
            Row::GoOn { .. } => None,
        };
        let name = now.as_ref().map(|now| now.file.as_str()).unwrap_or_default();
        let (kind, what) = match drift {
            Drift::Edited { .. } => {
                ("edited", format!("{name} was edited after it was applied: its text and checksum are taken over"))
            }
            Drift::Renamed { .. } => ("renamed", format!("{file} is now called {name}: the name is taken over")),
            Drift::Renumbered { .. } => {
                ("renumbered", format!("{file} is now {name}: version and name are taken over"))
            }
            Drift::RenumberedBegun { .. } => {
                ("renumbered", format!("{file} is begun, and is now {name}: what is done of it is taken over"))
            }
            Drift::Lost { .. } => (
                "lost",
                format!("{file} is no longer in the folder: it is marked as retired, and stays in the database"),
            ),
        };
        let mut lines = format!("  {version}  {what}\n");
        let mut statements_differ = None;
        if let (Drift::Edited { script, .. }, Some(before)) = (drift, before) {
            let edit = changes::compare(before, script);
            lines.push_str(&edit.lines);
            statements_differ = Some(edit.statements_differ);
        }
        Self { kind, version: version.to_string(), file: file.to_owned(), checksum, now, statements_differ, lines }
    }
}
