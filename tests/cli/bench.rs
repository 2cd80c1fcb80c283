//! What a test of the command line stands on: a database, a folder, and the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::postgres::{Postgres, TestDatabase};

/// A folder of scripts and a database of its own.
pub struct Bench {
    pub database: TestDatabase,
    pub folder: Folder,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Bench {
    /// A fresh database, and a folder with these files.
    pub async fn new(files: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        for (name, text) in files {
            folder.write(name, text);
        }
        Self { database: Postgres::shared().database().await, folder }
    }

    /// The same, with the first `applied` files applied.
    pub async fn after(files: &[(&str, &str)], applied: usize) -> Self {
        let bench = Self::new(&files[..applied]).await;
        bench.run(&["apply"]).is(0);
        for (name, text) in &files[applied..] {
            bench.folder.write(name, text);
        }
        bench
    }

    /// The program with a subcommand, on this folder and this database.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = belay(arguments);
        command.env("DATABASE_URL", &self.database.url).current_dir(&self.folder.0);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().expect("belay runs"))
    }

    /// Everything in the database, as pg_dump has it.
    pub fn dump(&self) -> String {
        let server = Postgres::shared();
        let dump = server
            .tool("pg_dump")
            .args(["-U", "postgres", "-p", &server.port.to_string(), "-d", &self.database.name, "-h"])
            .arg(server.directory())
            .output()
            .expect("pg_dump runs");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        // Their argument is random.
        let lines = String::from_utf8(dump.stdout).expect("a dump is UTF-8");
        lines
            .lines()
            .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The versions in the ledger, in order, as the superuser reads them.
    pub async fn versions(&self) -> String {
        self.value("SELECT string_agg(version, ' ' ORDER BY number) FROM belay.history").await
    }

    /// One value; empty when it is NULL.
    pub async fn value(&self, sql: &str) -> String {
        self.database.value(sql).await.unwrap_or_default()
    }

    /// Runs the command, which must be refused with this reason, say these words, and leave the database as it was.
    pub fn refuses(&self, arguments: &[&str], reason: &str, words: &[&str]) -> Said {
        let before = self.dump();
        let said = self.run(arguments);
        assert_eq!(said.code, Some(1), "{said:?}");
        for word in words {
            assert!(said.err.contains(word), "{word:?} is missing in: {}", said.err);
        }
        assert!(said.out.is_empty(), "an error belongs on standard error: {said:?}");
        assert_eq!(self.dump(), before, "the database was changed");

        let arguments: Vec<_> = arguments.iter().copied().chain(["-o", "json"]).collect();
        let document = self.run(&arguments).document();
        assert_eq!(document["failure"]["reason"], reason, "{document}");
        said
    }
}

impl Said {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// It ended with this code.
    #[track_caller]
    pub fn is(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program, with nothing of this process's environment that could change what it does.
pub fn belay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
    command.args(arguments).env_clear().env("USER", "anna").env("HOME", "/nonexistent").env("NO_COLOR", "1");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A folder with a folder `migrations` in it. It goes when the test ends.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::SeqCst);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{n}", std::process::id()));
        std::fs::create_dir_all(path.join("migrations")).expect("a folder");
        Self(path)
    }

    pub fn script(&self, name: &str) -> PathBuf {
        self.0.join("migrations").join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.script(name), text).expect("a file");
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.script(name)).expect("the file is there");
    }

    pub fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.script(from), self.script(to)).expect("the file is there");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A shop of three scripts.
pub const SHOP: &[(&str, &str)] = &[
    (
        "001_initial_schema.sql",
        "-- Migration: 001_initial_schema\n-- Description: Initial schema\n-- Author: DBA Team\n-- Date: 2025-12-15\n\
         BEGIN;\nCREATE TABLE users (id bigint PRIMARY KEY, name text);\nINSERT INTO users VALUES (1, 'a');\nCOMMIT;\n",
    ),
    (
        "002_add_user_preferences.sql",
        "-- Description: Add user preferences\n-- Author: Ada\n-- Date: 2026-01-07\n\
         ALTER TABLE users ADD COLUMN theme text;\nUPDATE users SET id = id + 1;\n\
         -- ROLLBACK: ALTER TABLE users DROP COLUMN theme;\n",
    ),
    ("003_ticket_escalation.sql", "CREATE TABLE tickets (id bigint);\nUPDATE users SET id = id + 1;\n"),
];
