//! A PgBouncer before a test's database; ends when it is dropped.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::postgres::{Postgres, TestDatabase, free_port, unprivileged, write_unprivileged};

pub struct PgBouncer {
    child: Child,
    directory: PathBuf,
    pub url: String,
}

impl PgBouncer {
    /// `mode` is transaction or session; `more` are further lines of its configuration.
    pub async fn start(server: &Postgres, database: &TestDatabase, mode: &str, more: &str) -> Self {
        let port = free_port();
        let directory = server.directory().join(format!("pgbouncer-{port}"));
        assert!(unprivileged("mkdir").arg(&directory).status().expect("mkdir").success());
        let users = directory.join("users");
        write_unprivileged(&users, &format!("\"{}\" \"{}\"\n", database.role, database.password));
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\n{more}\n",
            server.port,
            users.display(),
        );
        let ini = directory.join("pgbouncer.ini");
        write_unprivileged(&ini, &configuration);
        // As the server's own watchdog: it ends with the pipe.
        let child = unprivileged("sh")
            .args(["-c", "pgbouncer -q \"$0\" >/dev/null 2>&1 & cat >/dev/null; kill $!; wait"])
            .arg(&ini)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh");
        let url = format!(
            "postgres://{}:{}@127.0.0.1:{port}/{}?sslmode=disable",
            database.role, database.password, database.name
        );
        super::eventually("PgBouncer listens", super::SOON, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { child, directory, url }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let _ = unprivileged("rm").arg("-rf").arg(&self.directory).status();
    }
}
