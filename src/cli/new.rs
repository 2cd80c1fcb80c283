use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::error::CliError;
use super::exit::Exit;
use super::{numbering, output, session, source};
use crate::api::Layout;
use crate::script::History;

/// Write the next script of a folder, with its header to fill in.
///
/// The number goes on as the folder's own do: 004 after 003, a date and time where they are used. Nothing is
/// ever overwritten.
#[derive(Args, Debug)]
pub struct New {
    /// What the script does, in a few words: "add user preferences"
    #[arg(value_name = "DESCRIPTION", required = true, num_args = 1..)]
    description: Vec<String>,
    /// The folder of scripts; made when it is not there
    #[arg(long, value_name = "FOLDER", default_value = "migrations")]
    folder: PathBuf,
    /// Who writes it; absent: git's user.name, else the login
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
}

/// ConfigMap keys have at most 253 characters, and `.down.sql` must fit too.
const LONGEST: usize = 200;

impl New {
    pub fn run(self) -> Result<Exit, CliError> {
        let description = one_line(&self.description.join(" "));
        let slug = slug(&description)?;
        let history = names(&self.folder)?;
        let now = jiff::Timestamp::now();
        let version = numbering::next(history.latest().map(|script| &script.version), now);
        let stem = format!("{version}_{slug}");
        let today = jiff::Zoned::now().date().to_string();
        let author = self.author.or_else(|| git_user(&self.folder)).or_else(session::login).map(|name| one_line(&name));
        let text = template(&stem, &description, author.as_deref().unwrap_or(""), &today);

        let path = self.folder.join(format!("{stem}.sql"));
        let shown = path.display().to_string();
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(text.as_bytes())
        };
        write().map_err(|error| CliError::Write { path: shown.clone(), error })?;
        output::print(&format!("{shown}\n"))?;
        Ok(Exit::Done)
    }
}

/// What the folder's files are called. What they hold does not matter here.
fn names(folder: &Path) -> Result<History, CliError> {
    if !folder.exists() {
        return Ok(History::from_files(Vec::<(String, Vec<u8>)>::new())
            .unwrap_or_else(|_| unreachable!("no file is no faulty file")));
    }
    let files = source::files(folder, Layout::Belay)?.into_iter().map(|(name, _)| (name, b"SELECT 1".to_vec()));
    History::from_files(files).map_err(|faults| CliError::InvalidSource { place: folder.display().to_string(), faults })
}

/// Control characters and line ends would end the comment that the text stands in.
fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `add user preferences` → `add_user_preferences`.
fn slug(description: &str) -> Result<String, CliError> {
    let refuse = |why: String| Err(CliError::NoName(why));
    if description.to_ascii_lowercase().ends_with(".sql") {
        return refuse("Give a description, not a file name: the version and .sql come by themselves.".into());
    }
    if let Some(letter) = description.chars().find(|c| c.is_alphanumeric() && !c.is_ascii()) {
        return refuse(format!(
            "{letter:?} cannot stand in a script's name: describe it with the letters A to Z and a to z, digits, _ and -. \
             The file's own Description line may hold any."
        ));
    }
    let mut slug = String::new();
    for c in description.chars() {
        if c.is_ascii_alphanumeric() || c == '-' && !slug.is_empty() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
    }
    let slug = slug.trim_end_matches(['_', '-']);
    match slug.len() {
        0 => refuse(
            "The description has no letter and no digit to name a file by: say in a few words what the script does."
                .into(),
        ),
        1..=LONGEST => Ok(slug.to_owned()),
        _ => refuse(format!("The description makes a name of more than {LONGEST} characters: say it in a few words.")),
    }
}

fn git_user(folder: &Path) -> Option<String> {
    let place = if folder.is_dir() { folder } else { Path::new(".") };
    let answer = Command::new("git").args(["config", "user.name"]).current_dir(place).output().ok()?;
    let name = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    (answer.status.success() && !name.is_empty()).then_some(name)
}

/// The rollback line is prose on purpose: a template's SQL that nobody edited must never run.
fn template(stem: &str, description: &str, author: &str, date: &str) -> String {
    format!(
        "\
-- Migration: {stem}
-- Description: {description}
-- Author: {author}
-- Date: {date}

-- Your changes here. Belay puts a transaction around them: BEGIN and COMMIT are welcome, and not needed.


-- How to undo it, as SQL: a ROLLBACK line for each line of it, run in this order.
-- ROLLBACK: (replace this by the SQL that undoes the above)
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Rollback, UnsupportedKind};

    #[test]
    fn a_description_becomes_a_name() {
        for (given, name) in [
            ("add user preferences", "add_user_preferences"),
            ("Add  User-Preferences!", "add_user-preferences"),
            ("  -- drop: x / y", "drop_x_y"),
            ("2fa", "2fa"),
        ] {
            assert_eq!(slug(given).unwrap(), name);
        }
    }

    #[test]
    fn a_description_that_gives_no_legal_name_is_refused() {
        for bad in ["", "///", "größe", "002_add_user.sql", &"x".repeat(201)] {
            assert!(matches!(slug(bad), Err(CliError::NoName(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_template_that_nobody_edited_runs_nothing_and_rolls_back_nothing() {
        let text = template("001_x", "x", "me", "2026-01-02");
        let history = History::from_files([("001_x.sql".to_owned(), text.into_bytes())]).unwrap();
        let script = history.latest().unwrap();
        assert!(matches!(script.rollback, Rollback::NotSql(_)));
        assert_eq!(script.unsupported.as_ref().unwrap().kind, UnsupportedKind::Empty);
        assert_eq!(script.header.author.as_deref(), Some("me"));
        assert_eq!(script.header.date.as_deref(), Some("2026-01-02"));
        assert_eq!(script.header.migration.as_deref(), Some("001_x"));
    }

    #[test]
    fn a_description_stays_in_its_comment() {
        assert_eq!(one_line("a\nDROP TABLE x;\r\u{2028}b"), "a DROP TABLE x; b");
    }
}
