//! A folder as the volume, a Secret's folder, and a request for a backup of a test's database.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use belay::backup::{Clients, Connection, Origin, Request};
use belay::postgres::Overrides;

use crate::support::postgres::{TestDatabase, binaries};

/// A folder of a test's own. It goes when the test does.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("belay-backup-test-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Every file below it, relative to it, in order.
    pub fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    files.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.0, &self.0, &mut files);
        files.sort();
        files
    }

    /// A Secret as a Pod mounts it.
    pub fn secret(&self, database: &TestDatabase) -> PathBuf {
        let folder = self.0.join("secret");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("uri"), &database.url).unwrap();
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The programs of the server that the tests run: `<root>/<major>/bin`.
pub fn clients() -> PathBuf {
    binaries().parent().and_then(Path::parent).unwrap().to_owned()
}

/// The same programs, below the folder, but for pg_restore: what this shell script does in its place, or no such program.
pub fn clients_without_pg_restore(folder: &Folder, instead: Option<&str>) -> PathBuf {
    let major = binaries().parent().and_then(Path::file_name).unwrap().to_owned();
    let bin = folder.path().join("clients").join(major).join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(binaries().join("pg_dump"), bin.join("pg_dump")).unwrap();
    if let Some(script) = instead {
        let program = bin.join("pg_restore");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder.path().join("clients")
}

/// A backup of the database into the folder, at `shop/b.dump`, that is tried once.
pub fn request(database: &TestDatabase, store: &Folder) -> Request {
    Request {
        connection: Connection {
            secret: None,
            url: Some(database.url.clone()),
            ca: None,
            client_certificate: None,
            overrides: Overrides::default(),
            role: None,
            history_schema: "belay".to_owned(),
        },
        store: store.path().to_owned(),
        location: "shop/b.dump".to_owned(),
        origin: Origin { name: "b".to_owned(), uid: Some("uid-1".to_owned()), ..Origin::default() },
        compression: "gzip:1".parse().unwrap(),
        lock_wait: Duration::from_secs(60),
        retry_for: Duration::ZERO,
        clients: Clients::new(clients()),
        scratch: None,
    }
}

/// `belay`, with nothing of this test's own connection in its environment.
pub fn belay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
    for variable in ["DATABASE_URL", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "BELAY_LOG"] {
        command.env_remove(variable);
    }
    command
}

/// A ledger with these versions, and a table that scripts made.
pub async fn with_ledger(database: &TestDatabase, versions: &[&str]) {
    let role = &database.role;
    let rows: Vec<String> = versions.iter().map(|version| format!("('{version}')")).collect();
    let rows = rows.join(", ");
    database
        .admin(&format!(
            "set role {role}; create schema belay;
             create table belay.history (version text, number numeric generated always as (version::numeric) stored primary key);
             insert into belay.history values {rows};
             create table orders (id int primary key, note text);
             insert into orders select n, repeat(md5(n::text), 4) from generate_series(1, 20000) n;"
        ))
        .await;
}
