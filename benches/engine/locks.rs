//! What a script that waits for locks costs the sessions beside it, and how soon they are told of whom it waits for.

use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use belay::api::TransactionMode;
use belay::plan::{Ledger, PlannedScript, Policy, plan};
use belay::postgres::{Engine, Locks, Progress, RunContext};
use belay::script::History;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use crate::peer::on_fresh;
use crate::support::postgres::{Postgres, TestDatabase, binaries, write_unprivileged};

/// Seconds that pgbench works for, each time.
const SECONDS: u64 = 20;

/// Three busy tables: each of pgbench's transactions reads and writes all of them.
const BUSY: &str = "\\set n random(1, 1000)\nBEGIN;\nUPDATE one SET v = v + 1 WHERE id = :n;\nSELECT v FROM two WHERE id = :n;\n\
                    UPDATE three SET v = v + 1 WHERE id = :n;\nEND;\n";

const ALTER: &str =
    "ALTER TABLE one ADD COLUMN a int;\nALTER TABLE two ADD COLUMN a int;\nALTER TABLE three ADD COLUMN a int;\n";

pub async fn measure(server: &Postgres) -> String {
    on_fresh(server, async |database| {
        for table in ["one", "two", "three"] {
            let sql = format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, v int); INSERT INTO {table} SELECT n, 0 FROM generate_series(1, 1000) AS n; \
                 ALTER TABLE {table} OWNER TO {}",
                database.role
            );
            database.admin(&sql).await;
        }
        let alone = pgbench(server, database).await;
        // Somebody reads the third table, and stays: the script gets two locks, and waits for the third.
        let mut reader = database.owner().await;
        for sql in ["BEGIN", "SELECT count(*) FROM three"] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut reader).await.expect("it reads");
        }
        let (beside, shown) = tokio::join!(pgbench(server, database), apply(database));
        let limit = Locks::default().lock_timeout;
        format!(
            "| a script alters three busy tables, one of which is being read for {SECONDS} s | |\n| --- | ---: |\n\
             | worst latency of pgbench's transactions, without the script | {:.0} ms |\n\
             | the same, beside the script, which waits and is tried again meanwhile | **{:.0} ms** |\n\
             | lockTimeout; aimed at: no more than 500 ms above it | {} ms |\n\
             | tries within that time | {} |\n\
             | from the script's start, until who blocks it is told; aimed at: 2 s | {:.0} ms |\n",
            ms(alone),
            ms(beside),
            limit.as_millis(),
            shown.tries,
            ms(shown.after),
        )
    })
    .await
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

struct Shown {
    after: Duration,
    tries: u32,
}

/// Applies the script until pgbench is done.
async fn apply(database: &TestDatabase) -> Shown {
    let mut target = database.target();
    target.locks = Locks { retry_for: Duration::from_secs(SECONDS - 4), ..Locks::default() };
    let mut engine = Engine::connect(target, "belay/bench").await.expect("it connects");
    assert!(engine.try_lock().await.expect("it asks for the lock"), "nobody else has the lock");
    engine.create_ledger().await.expect("the ledger is made");
    let run = RunContext::new(uuid::Uuid::new_v4(), "bench");
    let started = Instant::now();
    let seen = Mutex::new((None, 0));
    let tell = |at: Progress<'_>| {
        let mut seen = seen.lock().expect("nobody panicked");
        seen.1 = at.attempt;
        if !at.waiting_on.is_empty() {
            seen.0.get_or_insert(started.elapsed());
        }
    };
    let never = CancellationToken::new();
    let error = engine.apply(&planned(), TransactionMode::PerScript, &run, &tell, &never).await;
    assert!(error.is_err(), "the reader stays");
    engine.close().await;
    let (after, tries) = *seen.lock().expect("nobody panicked");
    Shown { after: after.expect("the reader is told of"), tries }
}

fn planned() -> Vec<PlannedScript> {
    let history = History::from_files([("1_alter.sql".to_owned(), ALTER.as_bytes().to_vec())]).expect("a history");
    plan(&history, &Ledger::default(), &Policy::default()).expect("a plan").pending
}

/// The greatest latency of a transaction, of eight clients.
async fn pgbench(server: &Postgres, database: &TestDatabase) -> Duration {
    let script = server.directory().join("busy.sql");
    let log = server.directory().join("latency");
    write_unprivileged(&script, BUSY);
    let mut command = tokio::process::Command::from(server.tool("pgbench"));
    command.current_dir(server.directory()).env("PGPASSWORD", &database.password);
    command.args(["--no-vacuum", "--client=8", "--jobs=1", "--rate=400", "--log", &format!("--time={SECONDS}")]);
    command.arg(format!("--file={}", script.display())).arg(format!("--log-prefix={}", log.display()));
    command.args([
        "--host=127.0.0.1",
        &format!("--port={}", server.port),
        &format!("--username={}", database.role),
        &database.name,
    ]);
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().await.expect("pgbench starts");
    assert!(output.status.success(), "{}: {}", binaries().display(), String::from_utf8_lossy(&output.stderr));
    let mut most = 0;
    for entry in std::fs::read_dir(server.directory()).expect("the directory").flatten() {
        if !entry.file_name().to_string_lossy().starts_with("latency.") {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).expect("the log");
        // client, number, latency in microseconds, script, seconds, microseconds, lag.
        let latencies = text.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let latency: u64 = fields.next()?.parse().ok()?;
            let lag: u64 = fields.nth(3)?.parse().ok()?;
            Some(latency.saturating_sub(lag))
        });
        most = most.max(latencies.max().unwrap_or_default());
        std::fs::remove_file(entry.path()).expect("the log goes");
    }
    Duration::from_micros(most)
}
