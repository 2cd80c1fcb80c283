//! One folder of scripts on fresh databases: by `belay apply`, and by psql in two ways.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::history::Files;
use crate::support::postgres::{Postgres, TestDatabase, binaries};

/// The scripts as files, and one that includes each of them between BEGIN and COMMIT. It goes when it is dropped.
pub struct Folder {
    path: PathBuf,
    names: Vec<String>,
}

impl Folder {
    pub fn new(files: &Files) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("engine-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(path.join("scripts")).expect("a folder");
        let mut all = String::new();
        for (name, text) in files {
            std::fs::write(path.join("scripts").join(name), text).expect("a script");
            all.push_str(&format!("BEGIN;\n\\ir scripts/{name}\nCOMMIT;\n"));
        }
        std::fs::write(path.join("all.psql"), all).expect("a script of scripts");
        Self { path, names: files.iter().map(|(name, _)| name.clone()).collect() }
    }

    /// `belay apply`, from its start to its end.
    pub fn belay(&self, database: &TestDatabase) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
        command.arg("apply").arg(self.path.join("scripts")).env_clear().env("DATABASE_URL", &database.url);
        quiet(&mut command);
        command
    }

    /// One psql for all of them.
    pub fn psql(&self, database: &TestDatabase) -> Command {
        psql(database, &["--file".as_ref(), self.path.join("all.psql").as_path()])
    }

    /// A psql for each of them.
    pub fn psql_per_file(&self, database: &TestDatabase) -> Duration {
        let files: Vec<_> = self.names.iter().map(|name| self.path.join("scripts").join(name)).collect();
        files.iter().map(|file| time(&mut psql(database, &["-1".as_ref(), "--file".as_ref(), file]))).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn psql(database: &TestDatabase, arguments: &[&Path]) -> Command {
    // The program itself: Debian's /usr/bin/psql is a script that looks for it first.
    let mut command = Command::new(binaries().join("psql"));
    command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", &database.url]).args(arguments);
    command.env_clear();
    quiet(&mut command);
    command
}

fn quiet(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
}

/// How long a process takes.
///
/// # Panics
/// When it fails.
pub fn time(command: &mut Command) -> Duration {
    let started = Instant::now();
    let status = command.status().expect("it starts");
    let took = started.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

/// A fresh database, gone after `work`.
pub async fn on_fresh<T>(server: &Postgres, work: impl AsyncFnOnce(&TestDatabase) -> T) -> T {
    let database = server.database().await;
    let done = work(&database).await;
    let mut admin = server.superuser("postgres").await;
    let drop = format!("DROP DATABASE {} WITH (FORCE)", database.name);
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await.expect("it is dropped");
    done
}
