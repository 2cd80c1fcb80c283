//! A person's word that ledger and source differ for a good reason, written into the ledger. No script is run.

use std::sync::Arc;

use super::engine::Engine;
use super::error::PostgresError;
use super::message::script_values;
use super::quote::Literal;
use super::session::text;
use crate::script::{Checksum, Script, Version};

/// One script of the ledger that is made to agree with the source.
#[derive(Clone, Copy, Debug)]
pub enum Repair<'a> {
    /// The row of `version`, whose checksum was `was`, is about this script as it is now.
    Adopt { version: &'a Version, was: Checksum, script: &'a Arc<Script> },
    /// The statements of `version`, which is begun as `file`, are this script's.
    GoOn { version: &'a Version, file: &'a str, script: &'a Arc<Script> },
    /// The source no longer has the script, and that is right.
    Retire { version: &'a Version, was: Checksum },
}

/// A number that no script has, and each of them another one.
const ASIDE: &str = "-1 - number";

fn aside(version: &Version) -> String {
    ASIDE.replace("number", version.number())
}

impl<'a> Repair<'a> {
    /// The version that is another one now.
    fn leaves(&self) -> Option<&'a Version> {
        match self {
            Self::Adopt { version, script, .. } | Self::GoOn { version, script, .. } => {
                Some(*version).filter(|version| **version != script.version)
            }
            Self::Retire { .. } => None,
        }
    }
}

/// What a person says of the statements of a script that is not run in a transaction, and is not done yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// The one that is in doubt (from 1) was done, or was not.
    Settled { version: Version, statement: usize, done: bool },
    /// None of them counts: the script is to be run anew.
    Forgotten { version: Version },
}

impl Word {
    /// The version of the script that it is about.
    pub fn version(&self) -> &Version {
        match self {
            Self::Settled { version, .. } | Self::Forgotten { version } => version,
        }
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Settled { version, statement, done: true } => {
                write!(f, "statement {statement} of {version} counts as done")
            }
            Self::Settled { version, statement, done: false } => {
                write!(f, "statement {statement} of {version} counts as not done, and is run again")
            }
            Self::Forgotten { version } => {
                write!(f, "what was done of {version} is forgotten, and all its statements are run again")
            }
        }
    }
}

impl Engine {
    /// Whether the ledger that was read last has all that is spoken of: what [`Engine::take_word`] would find out later. Needs
    /// no lock, and changes nothing.
    ///
    /// # Errors
    /// [`PostgresError::NotInDoubt`], as there.
    pub async fn check_words(&mut self, words: &[Word]) -> Result<(), PostgresError> {
        let has_statements = self.has_statements();
        for word in words {
            let sql = format!("SELECT FROM {} s WHERE {} LIMIT 1", self.table("statement"), self.spoken_of(word));
            if !has_statements || self.query("reading the ledger", sql).await?.is_empty() {
                return Err(self.not_in_doubt(word));
            }
        }
        Ok(())
    }

    /// Writes down what a person says of statements, each with an event; all of it or nothing. Needs the lock.
    ///
    /// # Errors
    /// [`PostgresError::NotInDoubt`] when the ledger has no such statement, or knows of it.
    pub async fn take_word(&mut self, actor: &str, words: &[Word]) -> Result<(), PostgresError> {
        self.require_lock()?;
        for word in words {
            let sql = self.word_sql(actor, word);
            let began = if word == &words[0] { "BEGIN;" } else { "" };
            let written = self.write("repairing the ledger", format!("{began}{sql}")).await?;
            if written.is_empty() {
                self.rollback().await?;
                return Err(self.not_in_doubt(word));
            }
        }
        match words.is_empty() {
            true => Ok(()),
            false => self.write("repairing the ledger", "COMMIT".to_owned()).await.map(|_| ()),
        }
    }

    fn not_in_doubt(&self, word: &Word) -> PostgresError {
        PostgresError::NotInDoubt { address: self.target.address.clone(), what: word.to_string() }
    }

    /// The rows `s` of statements that a word is about, as WHERE takes them.
    fn spoken_of(&self, word: &Word) -> String {
        match word {
            Word::Settled { version, statement, .. } => {
                format!("s.number = {} AND s.statement = {statement} AND s.done_at IS NULL", version.number())
            }
            Word::Forgotten { version } => format!(
                "s.number = {} AND NOT EXISTS (SELECT FROM {} h WHERE h.number = s.number)",
                version.number(),
                self.table("history")
            ),
        }
    }

    fn word_sql(&self, actor: &str, word: &Word) -> String {
        let table = self.table("statement");
        let (change, detail) = match word {
            Word::Settled { version, statement, done } => (
                match done {
                    true => format!("UPDATE {table} s SET done_at = pg_catalog.clock_timestamp()"),
                    false => format!("DELETE FROM {table} s"),
                },
                serde_json::json!({"version": version.as_written(), "statement": statement, "done": done}),
            ),
            Word::Forgotten { version } => (
                format!("DELETE FROM {table} s"),
                serde_json::json!({"version": version.as_written(), "statementsForgotten": true}),
            ),
        };
        // A hold that is about this script waits for just this word.
        format!(
            "WITH changed AS ({change} WHERE {spoken_of} AND {locked} RETURNING file_name), \
             last AS (SELECT kind, detail FROM {event} WHERE kind IN ('held', 'released') ORDER BY id DESC LIMIT 1), \
             lifted AS (INSERT INTO {event} (kind, actor, detail) SELECT 'released', {actor}, \
             pg_catalog.jsonb_build_object('plan', detail->'plan') FROM last WHERE kind = 'held' AND \
             detail->'failure'->>'script' IN (SELECT file_name FROM changed)) \
             INSERT INTO {event} (kind, actor, detail) SELECT 'repaired', {actor}, \
             {detail}::pg_catalog.jsonb || pg_catalog.jsonb_build_object('file', max(file_name)) FROM changed \
             HAVING count(*) > 0 RETURNING 'written'",
            spoken_of = self.spoken_of(word),
            locked = self.lock_is_held(),
            event = self.table("event"),
            actor = Literal(actor),
            detail = Literal(&detail.to_string()),
        )
    }

    /// Writes all of these to the ledger, each with an event, or none of them. Needs the lock.
    ///
    /// # Errors
    /// [`PostgresError::LedgerMoved`] when a row is not there any more, or not as it was.
    pub async fn repair(&mut self, actor: &str, repairs: &[Repair<'_>]) -> Result<(), PostgresError> {
        self.require_lock()?;
        if repairs.is_empty() {
            return Ok(());
        }
        let mut sql = format!("BEGIN{}", self.set_aside(repairs));
        for repair in repairs {
            sql.push_str(&format!(";{}", self.repair_sql(actor, repair)?));
        }
        let written = self.write("repairing the ledger", sql).await?;
        if written.len() != repairs.len() {
            self.rollback().await?;
            return Err(PostgresError::LedgerMoved { address: self.target.address.clone() });
        }
        self.write("repairing the ledger", "COMMIT".to_owned()).await.map(|_| ())
    }

    /// What takes the rows that get another number away from theirs, for one may get that of another.
    fn set_aside(&self, repairs: &[Repair<'_>]) -> String {
        let numbers: Vec<_> = repairs.iter().filter_map(Repair::leaves).map(Version::number).collect();
        if numbers.is_empty() {
            return String::new();
        }
        let of = format!("WHERE number IN ({}) AND {}", numbers.join(", "), self.lock_is_held());
        let mut sql = format!(";UPDATE {} SET version = {ASIDE} {of}", self.table("history"));
        if self.has_statements() {
            sql.push_str(&format!(";UPDATE {} SET number = {ASIDE} {of}", self.table("statement")));
        }
        sql
    }

    /// The row and its event in one statement, which answers one row if both were written.
    fn repair_sql(&self, actor: &str, repair: &Repair<'_>) -> Result<String, PostgresError> {
        let moved = match repair {
            Repair::Adopt { script, .. } if repair.leaves().is_some() => self.moved(script),
            _ => String::new(),
        };
        let (version, was, change, detail) = match repair {
            Repair::GoOn { version, file, script } => return Ok(self.go_on_sql(actor, version, file, script)),
            Repair::Adopt { version, was, script } => (
                version,
                was,
                format!(
                    "(version, file_name, description, author, date, checksum, script, rollback, retired) = ROW ({}, false)",
                    script_values(&*script.whole()?)
                ),
                serde_json::json!({
                    "version": version.as_written(),
                    "checksum": was.to_string(),
                    "now": {
                        "version": script.version.as_written(),
                        "file": script.file_name,
                        "checksum": script.checksum.to_string(),
                    },
                }),
            ),
            Repair::Retire { version, was } => (
                version,
                was,
                "retired = true".to_owned(),
                serde_json::json!({"version": version.as_written(), "checksum": was.to_string(), "retired": true}),
            ),
        };
        Ok(format!(
            "WITH before AS (SELECT number, file_name FROM {history} WHERE number = {number} AND checksum = {was}), \
             changed AS (UPDATE {history} h SET {change} FROM before b WHERE h.number = b.number AND {locked} \
             RETURNING b.file_name){moved} \
             INSERT INTO {event} (kind, actor, detail) SELECT 'repaired', {actor}, \
             {detail}::pg_catalog.jsonb || pg_catalog.jsonb_build_object('file', c.file_name) FROM changed c \
             RETURNING 'written'",
            history = self.table("history"),
            event = self.table("event"),
            number = match repair.leaves() {
                Some(version) => aside(version),
                None => version.number().to_owned(),
            },
            was = Literal(&was.to_string()),
            locked = self.lock_is_held(),
            actor = Literal(actor),
            detail = Literal(&detail.to_string()),
        ))
    }

    /// The same, of a script that has no row yet, but those of its statements.
    fn go_on_sql(&self, actor: &str, version: &Version, file: &str, script: &Script) -> String {
        let detail = serde_json::json!({
            "version": version.as_written(),
            "file": file,
            "now": {"version": script.version.as_written(), "file": script.file_name},
        });
        format!(
            "WITH changed AS ({renumbered} WHERE s.number = {aside} AND {locked} RETURNING 1) INSERT INTO {event} (kind, actor, detail) SELECT 'repaired', {actor}, {detail}::pg_catalog.jsonb \
             FROM changed HAVING count(*) > 0 RETURNING 'written'",
            renumbered = self.renumbered(script),
            aside = aside(version),
            locked = self.lock_is_held(),
            event = self.table("event"),
            actor = Literal(actor),
            detail = Literal(&detail.to_string()),
        )
    }

    /// Whether the ledger that was read last has the table of statements, which came with format 2.
    fn has_statements(&self) -> bool {
        self.ledger.as_ref().is_some_and(|head| head.format >= 2)
    }

    /// What takes a script's statements, if it was run one by one, to its new version in the same step: under the old one they
    /// would be those of a script that is begun.
    fn moved(&self, script: &Script) -> String {
        if !self.has_statements() {
            return String::new();
        }
        format!(", moved AS ({} FROM before b WHERE s.number = b.number)", self.renumbered(script))
    }

    /// What gives statements `s` the number and the name of this script, up to the condition that says which.
    fn renumbered(&self, script: &Script) -> String {
        format!(
            "UPDATE {} s SET number = {}, file_name = {}",
            self.table("statement"),
            script.version.number(),
            Literal(&script.file_name),
        )
    }

    /// The text of an applied script as the ledger keeps it: without COPY's data, and without passwords.
    pub async fn script_text(&mut self, version: &Version) -> Result<Option<String>, PostgresError> {
        let sql = format!("SELECT script FROM {} WHERE number = {}", self.table("history"), version.number());
        let rows = self.query("reading a script from the ledger", sql).await?;
        Ok(rows.first().map(|row| text(row, 0).to_owned()))
    }
}
