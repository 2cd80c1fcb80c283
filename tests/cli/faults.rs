//! Fault injection: at every named place of a run, `belay apply` is killed, its connection is cut, or the server is
//! stopped as by a power failure. Then the same command is run until it says that it is done, and each script's effects
//! are there exactly once, with exactly one row of the ledger.
//!
//! The places are those of [`FAILPOINTS`]: one that no run comes by fails this test.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use belay::postgres::FAILPOINTS;

use crate::bench::{Bench, Folder, Said};
use crate::support::postgres::Postgres;
use crate::support::{SOON, eventually};

/// How many faults are injected in all.
const RUNS: usize = 200;

/// Servers, each with one run at a time.
const LANES: usize = 3;

/// The first is there already, and is recorded as the baseline. What ran twice shows as a second row; what ran half, as a
/// table without its row.
const SCRIPTS: &[(&str, &str)] = &[
    ("001_here.sql", "INSERT INTO effect VALUES ('001');\n"),
    ("002_one.sql", "INSERT INTO effect VALUES ('002');\nCREATE TABLE two ();\n"),
    ("003_two.sql", "CREATE TABLE three ();\nINSERT INTO effect VALUES ('003');\n"),
    ("004_three.sql", "INSERT INTO effect VALUES ('004');\nCREATE TABLE four ();\n"),
];

/// One more where scripts need not share a transaction: statement by statement.
const OUTSIDE: (&str, &str) = (
    "005_outside.sql",
    "-- belay: no-transaction\nINSERT INTO effect VALUES ('005');\nCREATE UNIQUE INDEX CONCURRENTLY once ON effect (script);\n\
     VACUUM effect;\n",
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL for the process.
    Kill,
    /// The server ends the session.
    Cut,
    /// The server stops, and is not there when the run goes on.
    Stop,
    /// The server stops, and has recovered when the run goes on.
    Restart,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    place: &'static str,
    /// Which time the place is passed, from 1.
    nth: u32,
    transaction: &'static str,
    fault: Fault,
}

#[test]
fn whatever_dies_wherever_each_scripts_effects_are_there_exactly_once() {
    let servers: Vec<_> = (0..LANES).map(|_| Postgres::start()).collect();
    // First every place, as often as a run passes it.
    let hits = Mutex::new(Vec::new());
    let places: Vec<_> = ["per-script", "all-pending"]
        .into_iter()
        .flat_map(|mode| FAILPOINTS.iter().map(move |at| (mode, *at)))
        .collect();
    in_lanes(&servers, places.len(), |lane, n| {
        let (transaction, place) = places[n];
        let job = |nth| Job { place, nth, transaction, fault: Fault::Kill };
        let passed = (1..).map(job).take_while(|job| lane.inject(*job));
        let passed: Vec<_> = passed.collect();
        hits.lock().unwrap().extend(passed);
    });
    let hits = hits.into_inner().unwrap();
    for place in FAILPOINTS {
        assert!(hits.iter().any(|job| job.place == *place), "no run came by {place}");
    }

    // Then the other faults at each of them, and round again.
    let rounds = [Fault::Cut, Fault::Stop, Fault::Restart, Fault::Kill].into_iter().cycle();
    let jobs: Vec<_> = rounds
        .flat_map(|fault| hits.iter().map(move |job| Job { fault, ..*job }))
        .take(RUNS.saturating_sub(hits.len()))
        .collect();
    in_lanes(&servers, jobs.len(), |lane, n| assert!(lane.inject(jobs[n]), "{:?}: it was passed before", jobs[n]));
    for fault in [Fault::Kill, Fault::Cut, Fault::Stop, Fault::Restart] {
        let done = hits.iter().chain(&jobs).filter(|job| job.fault == fault).count();
        eprintln!("{fault:?}: {done} times");
        assert!(done >= FAILPOINTS.len(), "too few of {fault:?}: {done}");
    }
}

/// Does `work` for each number up to `count`, on all servers at once.
fn in_lanes(servers: &[Postgres], count: usize, work: impl Fn(&Lane<'_>, usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for server in servers {
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let lane = Lane { server, runtime };
                while let Some(n) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|n| *n < count) {
                    work(&lane, n);
                }
            });
        }
    });
}

struct Lane<'a> {
    server: &'a Postgres,
    runtime: tokio::runtime::Runtime,
}

impl Lane<'_> {
    /// Injects a fault on a fresh database, and sees the run through. False: the run did not come by.
    fn inject(&self, job: Job) -> bool {
        self.runtime.block_on(async {
            let folder = Folder::new();
            for (name, text) in SCRIPTS.iter().chain(job.is_per_script().then_some(&OUTSIDE)) {
                folder.write(name, text);
            }
            let bench = Bench { database: self.server.database().await, folder };
            let owner = &bench.database.role;
            bench
                .database
                .admin(&format!("CREATE TABLE effect (script text); ALTER TABLE effect OWNER TO {owner}"))
                .await;

            let (hit, mut ended) = self.fail(&bench, job).await;
            for _ in 0..3 {
                match ended.status.code() {
                    Some(0) => break,
                    // Not now: the same command may succeed later.
                    None | Some(4) => ended = bench.command(&job.arguments()).output().expect("belay runs"),
                    Some(_) => break,
                }
            }
            let ended = Said::of(ended);
            assert_eq!(ended.code, Some(0), "{job:?}: {ended:?}");
            exactly_once(&bench, job).await;
            hit
        })
    }

    /// Starts a run, and does the fault when it is at the place.
    async fn fail(&self, bench: &Bench, job: Job) -> (bool, Output) {
        let mut command = bench.command(&job.arguments());
        let at = format!("{}:{}", job.place, job.nth);
        if job.fault == Fault::Kill {
            let output = command.env("BELAY_FAILPOINT", at).output().expect("belay runs");
            return (output.status.signal() == Some(9), output);
        }
        let held = bench.folder.0.join("held");
        let mut child = command
            .env("BELAY_FAILPOINT", format!("{at}:hold={}", held.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("belay runs");
        let hit = eventually("it is at the place, or ends", SOON, async || {
            held.exists().then_some(true).or_else(|| child.try_wait().unwrap().map(|_| false))
        })
        .await;
        let release = || std::fs::remove_file(&held).expect("it is held");
        match job.fault {
            _ if !hit => {}
            Fault::Kill => unreachable!("done before"),
            Fault::Cut => {
                let name = &bench.database.name;
                let cut = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
                    bench.database.role
                );
                bench.database.admin(&cut).await;
                let left = format!(
                    "SELECT count(*)::text FROM pg_stat_activity WHERE datname = '{name}' AND usename = '{}'",
                    bench.database.role
                );
                eventually("the session is gone", SOON, async || (bench.value(&left).await == "0").then_some(())).await;
                release();
            }
            Fault::Stop => {
                self.server.stop_immediately();
                release();
                self.server.start_again();
            }
            Fault::Restart => {
                self.server.stop_immediately();
                self.server.start_again();
                release();
            }
        }
        (hit, child.wait_with_output().expect("belay ends"))
    }
}

impl Job {
    fn is_per_script(self) -> bool {
        self.transaction == "per-script"
    }

    fn arguments(self) -> [&'static str; 5] {
        ["apply", "--baseline", "001", "--transaction", self.transaction]
    }
}

async fn exactly_once(bench: &Bench, job: Job) {
    let (effects, versions, indexes) = match job.is_per_script() {
        true => ("002 003 004 005", "001 002 003 004 005", "once valid"),
        false => ("002 003 004", "001 002 003 004", ""),
    };
    let looks = [
        ("SELECT string_agg(script, ' ' ORDER BY script) FROM effect", effects),
        (
            "SELECT string_agg(indexrelid::regclass::text || CASE WHEN indisvalid THEN ' valid' ELSE '' END, ' ') \
             FROM pg_index WHERE indrelid = 'effect'::regclass",
            indexes,
        ),
        (
            "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'",
            "effect four three two",
        ),
        ("SELECT string_agg(version, ' ' ORDER BY number) FROM belay.history", versions),
        ("SELECT string_agg(version, ' ') FROM belay.history WHERE mode = 'baseline'", "001"),
        ("SELECT count(*)::text FROM belay.event WHERE kind = 'baselined'", "1"),
        ("SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 2030043137", "0"),
    ];
    for (sql, expected) in looks {
        let seen = eventually_is(bench, sql, expected).await;
        assert_eq!(seen, expected, "{job:?}: {sql}");
    }
}

/// What a query answers, given a moment to become what is expected: a session that was closed takes one to be gone.
async fn eventually_is(bench: &Bench, sql: &str, expected: &str) -> String {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let seen = bench.value(sql).await;
        if seen == expected || std::time::Instant::now() > end {
            return seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
