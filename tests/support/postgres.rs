//! A real PostgreSQL server that lives no longer than the test process.
//!
//! PostgreSQL refuses to run as root: then it runs as `postgres`. Whatever becomes of the test process, a watchdog
//! that holds the other end of a pipe stops the server and removes its files.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use belay::postgres::{Engine, Target};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};

/// A server of its own. Stopped, and its files removed, when it is dropped.
pub struct Postgres {
    bin: PathBuf,
    /// Holds `data` and the socket.
    directory: PathBuf,
    pub port: u16,
    watchdog: Child,
    _alive: ChildStdin,
}

/// A fresh database, owned by a fresh role that is no superuser.
pub struct TestDatabase {
    pub name: String,
    pub role: String,
    pub password: String,
    /// Over TCP, as the role.
    pub url: String,
    socket: PathBuf,
    port: u16,
}

impl Postgres {
    /// The server that the tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server of its own, for tests that stop it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with lines of postgresql.conf.
    pub fn start_with(configuration: &[&str]) -> Self {
        Self::start_from(binaries(), configuration)
    }

    /// A server of this major version, one of [`MAJORS`].
    pub fn start_major(major: u32) -> Self {
        Self::start_from(binaries_of(major), &["max_prepared_transactions = 5"])
    }

    /// The server of this major version that the tests of this process share.
    pub fn shared_major(major: u32) -> &'static Self {
        static SHARED: [OnceLock<Postgres>; MAJORS.len()] = [const { OnceLock::new() }; MAJORS.len()];
        let n = MAJORS.iter().position(|one| *one == major).expect("a supported major");
        SHARED[n].get_or_init(|| Self::start_major(major))
    }

    fn start_from(bin: PathBuf, configuration: &[&str]) -> Self {
        let server = Self::place(bin);
        run(server
            .tool("initdb")
            .args(["--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(server.data()));
        server.write("postgresql.conf", &server.configuration(configuration));
        server.write("pg_hba.conf", HBA);
        server.start_again();
        server
    }

    /// A standby that follows another server.
    pub fn standby_of(primary: &Self) -> Self {
        let server = Self::place(binaries());
        let source = format!("host={} port={} user=postgres", primary.directory.display(), primary.port);
        run(server
            .tool("pg_basebackup")
            .args([
                "--no-sync",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--write-recovery-conf",
                "--dbname",
                &source,
                "-D",
            ])
            .arg(server.data()));
        server.write("postgresql.conf", &server.configuration(&[]));
        server.start_again();
        server
    }

    /// Makes a standby the primary, and waits until it is.
    pub fn promote(&self) {
        run(self.tool("pg_ctl").args(["promote", "-w", "-D"]).arg(self.data()));
    }

    /// A place for a server's files, and what removes them.
    fn place(bin: PathBuf) -> Self {
        let directory = unprivileged("mktemp").args(["-d", "-t", "belay-postgres.XXXXXX"]).output().expect("mktemp");
        let directory = PathBuf::from(String::from_utf8(directory.stdout).expect("a path").trim());
        assert!(directory.is_absolute(), "mktemp gave no directory");

        // Before there is anything to stop.
        let mut watchdog = unprivileged("sh")
            .args(["-c", WATCHDOG, "sh"])
            .args([&bin, &directory])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the watchdog");
        let alive = watchdog.stdin.take().expect("the watchdog's stdin");
        Self { bin, directory, port: free_port(), watchdog, _alive: alive }
    }

    fn configuration(&self, more: &[&str]) -> String {
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n\
             max_connections = 200\nshared_buffers = 32MB\nlogging_collector = off\nlog_min_messages = fatal\n",
            self.port,
            self.directory.display()
        );
        for line in more {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The directory of its files and of its Unix socket.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// One of PostgreSQL's programs, as the user that the server runs as.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = unprivileged(self.bin.join(name));
        command.current_dir("/").env("LC_ALL", "C").env("PGTZ", "UTC");
        command
    }

    /// Writes a file into the data directory, as the user that the server runs as.
    pub fn write(&self, name: &str, text: &str) {
        write_unprivileged(&self.data().join(name), text);
    }

    /// Stops it as a power failure would, but for the disk.
    pub fn stop_immediately(&self) {
        run(self.tool("pg_ctl").args(["stop", "-w", "-m", "immediate", "-D"]).arg(self.data()));
    }

    /// Stops it, letting nobody finish.
    pub fn stop_fast(&self) {
        run(self.tool("pg_ctl").args(["stop", "-w", "-m", "fast", "-D"]).arg(self.data()));
    }

    pub fn start_again(&self) {
        let log = self.directory.join("log");
        run(self.tool("pg_ctl").args(["start", "-w", "-s", "-t", "60", "-l"]).arg(log).arg("-D").arg(self.data()));
    }

    /// As the superuser, over the socket.
    pub async fn superuser(&self, database: &str) -> PgConnection {
        superuser(&self.directory, self.port, database).await
    }

    /// A fresh database, owned by a fresh role.
    pub async fn database(&self) -> TestDatabase {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::SeqCst);
        let (name, role, password) = (format!("db{n}"), format!("owner{n}"), format!("sesame{n}"));
        let mut admin = self.superuser("postgres").await;
        for sql in
            [format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'"), format!("CREATE DATABASE {name} OWNER {role}")]
        {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.expect("a database");
        }
        let url = format!("postgres://{role}:{password}@127.0.0.1:{}/{name}?sslmode=disable", self.port);
        TestDatabase { name, role, password, url, socket: self.directory.clone(), port: self.port }
    }

    /// The same, but its owner is a superuser.
    pub async fn superuser_database(&self) -> TestDatabase {
        let database = self.database().await;
        database.admin(&format!("ALTER ROLE {} SUPERUSER", database.role)).await;
        database
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The pipe closes only after this, so the watchdog's work is done by hand.
        let _ = self.tool("pg_ctl").args(["stop", "-w", "-s", "-m", "immediate", "-D"]).arg(self.data()).status();
        let _ = unprivileged("rm").arg("-rf").arg(&self.directory).status();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

impl TestDatabase {
    /// As the superuser.
    pub async fn superuser(&self) -> PgConnection {
        superuser(&self.socket, self.port, &self.name).await
    }

    /// The same database on a server that took over.
    pub fn at(self, server: &Postgres) -> Self {
        let url = self.url.replace(&self.port.to_string(), &server.port.to_string());
        Self { url, socket: server.directory.clone(), port: server.port, ..self }
    }

    /// Another fresh database of the same owner's, in this encoding.
    pub async fn encoded(self, encoding: &str) -> Self {
        let name = format!("{}_{}", self.name, encoding.to_lowercase());
        let options = format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        self.admin(&format!("CREATE DATABASE {name} OWNER {} {options}", self.role)).await;
        Self { url: self.url.replace(&format!("/{}?", self.name), &format!("/{name}?")), name, ..self }
    }

    /// As the owner.
    pub async fn owner(&self) -> PgConnection {
        let options: PgConnectOptions = self.url.parse().expect("a URL");
        options.connect().await.expect("the owner may connect")
    }

    /// What Belay is given.
    pub fn target(&self) -> Target {
        Target::from_url(&self.url).expect("a target")
    }

    /// A role that the owner may take, and that may do as much here.
    pub async fn application_role(&self) -> String {
        let (role, login, name) = (format!("{}_app", self.name), &self.role, &self.name);
        self.admin(&format!(
            "CREATE ROLE {role}; GRANT {role} TO {login}; GRANT CREATE ON DATABASE {name} TO {role}; \
             GRANT ALL ON SCHEMA public TO {role}"
        ))
        .await;
        role
    }

    /// Belay's connection, without the lock.
    pub async fn engine(&self) -> Engine {
        Engine::connect(self.target(), "belay/test").await.expect("an engine")
    }

    /// Runs SQL as the superuser.
    pub async fn admin(&self, sql: &str) {
        let mut connection = self.superuser().await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One of PostgreSQL's clients, as the superuser of this database.
    fn client(&self, name: &str) -> Command {
        let mut command = unprivileged(binaries().join(name));
        command.current_dir("/").args(["-U", "postgres", "-p", &self.port.to_string(), "-d", &self.name, "-h"]);
        command.arg(&self.socket);
        command
    }

    /// What pg_dump writes of it, with these arguments besides.
    pub fn dump_as_written(&self, arguments: &[&str]) -> String {
        let dump = self.client("pg_dump").args(arguments).output().expect("pg_dump runs");
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        String::from_utf8(dump.stdout).expect("a dump is UTF-8")
    }

    /// Has psql run a script, which must not fail.
    pub fn psql(&self, script: &[u8]) {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut psql = psql.spawn().expect("psql runs");
        psql.stdin.take().expect("stdin").write_all(script).expect("it reads all of it");
        assert!(psql.wait().expect("psql ends").success(), "{}", String::from_utf8_lossy(script));
    }

    /// The same without pg_dump's random marks, to be compared.
    pub fn dump(&self, arguments: &[&str]) -> String {
        let text = self.dump_as_written(arguments);
        let marks = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        text.lines().filter(marks).collect::<Vec<_>>().join("\n")
    }

    /// One value, read by the superuser. The query casts it to text.
    pub async fn value(&self, sql: &str) -> Option<String> {
        let mut connection = self.superuser().await;
        let read = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(&mut connection).await;
        read.unwrap_or_else(|error| panic!("{sql}: {error}")).flatten()
    }
}

async fn superuser(socket: &Path, port: u16, database: &str) -> PgConnection {
    PgConnectOptions::new_without_pgpass()
        .socket(socket)
        .port(port)
        .username("postgres")
        .password("")
        .database(database)
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
        .expect("the superuser may connect")
}

/// Waits until the pipe closes, which it does when the test process ends in any way.
const WATCHDOG: &str = r#"trap '' INT TERM HUP
cat > /dev/null
"$1/pg_ctl" stop -w -s -m immediate -D "$2/data"
rm -rf "$2""#;

/// The superuser over the socket; everybody else with a password.
const HBA: &str =
    "local all,replication postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A port on which nobody listens now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// A command that does not run as root.
pub fn unprivileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

/// Writes a file that only the unprivileged user reads.
pub fn write_unprivileged(path: &Path, text: &str) {
    let mut child =
        unprivileged("sh").args(["-c", "umask 077; cat > \"$0\""]).arg(path).stdin(Stdio::piped()).spawn().expect("sh");
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("the file is written");
    assert!(child.wait().expect("sh").success());
}

/// The directory of initdb and its like: BELAY_TEST_PG_BIN, or the newest of Debian's.
pub fn binaries() -> PathBuf {
    if let Some(bin) = std::env::var_os("BELAY_TEST_PG_BIN") {
        return bin.into();
    }
    let newest = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max();
    if let Some(newest) = newest {
        return PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"));
    }
    let output = Command::new("pg_config").arg("--bindir").output().expect("PostgreSQL's server is installed");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// Every major version of PostgreSQL that Belay supports.
pub const MAJORS: [u32; 5] = [14, 15, 16, 17, 18];

/// The same of one major version: Debian's, or what tests/cluster/postgres-majors brings.
fn binaries_of(major: u32) -> PathBuf {
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    if debian.join("initdb").exists() {
        return debian;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/postgres-majors");
    let output =
        Command::new(script).arg(major.to_string()).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(output.status.success(), "no PostgreSQL {major}");
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// Sends a signal to a server process.
pub fn signal(name: &str, pid: &str) {
    run(Command::new("kill").args(["-s", name, pid]));
}

/// Runs a command to its end; panics with what it said if it failed.
pub fn run(command: &mut Command) {
    // pg_ctl's server would keep a pipe of ours open.
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let status = child.wait().expect("it ends");
    if !status.success() {
        let mut said = String::new();
        let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        panic!("{command:?}: {status}: {said}");
    }
}
