//! Bad input: 10,000 scripts made from tests/corpus by flipping, cutting, splicing and doubling. Each is read without a
//! panic, and of those that Belay takes, none is applied by half, none is recorded without its effects, and none hangs.
//!
//! What proves it: the server keeps the time of every commit, so that after each script it is known how many transactions
//! were committed meanwhile: exactly one where there is a row in the ledger, none where there is not. A mark before
//! and one behind the script tell that it is the same transaction. And what the first ones made is compared with what
//! the server makes of the same texts, each in a transaction of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use belay::api::{Reason, TransactionMode};
use belay::plan::{Ledger, PlannedScript, Policy, plan};
use belay::postgres::{Engine, Locks};
use belay::script::{Class, History, Script};
use tokio_util::sync::CancellationToken;

use super::corpus::corpus;
use super::reading::{answers, run_pieces};
use super::scripts::{claimed, run};
use crate::support::invariants;
use crate::support::postgres::{Postgres, TestDatabase};

const SEED: u64 = 20_261_125;
const MUTANTS: usize = 10_000;
/// A database holds the effects of so many; of the first database they are compared.
const BATCH: usize = 1_000;
const COMPARED: usize = 300;

/// As long as any of them may take.
const NEVER: Duration = Duration::from_secs(30);

/// Numbers that come out the same every time: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to one below `end`; 0 if there is nothing below.
    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A part of something this long, no longer than `most`.
    fn part(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..(start + self.below(most + 1)).min(length)
    }
}

/// What opens, closes, ends, or looks as if it did.
const TOKENS: &[&str] = &[
    "COMMIT;",
    ";COMMIT;",
    ";END;",
    "ROLLBACK;",
    "BEGIN;",
    "BEGIN ATOMIC ",
    " END ",
    " case",
    " end",
    "CASE ",
    "$$",
    "$a$",
    "'",
    "''",
    "E'",
    "\\'",
    "\\",
    "\"",
    "U&'",
    "--",
    "-- ",
    "/*",
    "*/",
    ";",
    ";;",
    "(",
    ")",
    "\n",
    "\r\n",
    "\r",
    "\u{feff}",
    "\u{a0}",
    "1e",
    "1e$$",
    "\n\\.\n",
    "SAVEPOINT a;",
    "RESET ALL;",
    "DISCARD TEMP;",
    "CREATE TEMP TABLE tmp (a int);",
    "SET standard_conforming_strings = off;",
    "SELECT set_config('standard_conforming_strings', 'off', false);",
    "SET search_path = '';",
    "SET LOCAL belay.attempt = 'x';",
    "DO $x$ BEGIN COMMIT; END $x$;",
    "SELECT 1/0;",
];

fn mutate(dice: &mut Dice, all: &[Vec<u8>]) -> Vec<u8> {
    let mut text = dice.of(all).clone();
    // One, more often than more.
    for _ in 0..=dice.below(5).saturating_sub(2) {
        let at = dice.below(text.len());
        match dice.below(10) {
            0 if !text.is_empty() => text[at] ^= 1 << dice.below(8),
            1 if !text.is_empty() => text[at] = *dice.of(b";'\"$\\()-*/EeU&: \n\r,.01"),
            2 => drop(text.drain(dice.part(text.len(), 40))),
            3 => text.truncate(at),
            4 => {
                let other = dice.of(all);
                let part = dice.part(other.len(), 200);
                drop(text.splice(at..at, other[part].iter().copied()));
            }
            5 => {
                let part = dice.part(text.len(), 200);
                let twice = text[part.clone()].to_vec();
                drop(text.splice(part.end..part.end, twice));
            }
            6 => {
                let other = dice.of(all);
                text.truncate(at);
                text.extend_from_slice(&other[dice.below(other.len())..]);
            }
            7 => drop(text.splice(at..at, dice.of(TOKENS).bytes())),
            // Whole statements, as far as semicolons tell: such a text is more often one that the server takes.
            _ => {
                let other = dice.of(all);
                let statements: Vec<_> = other.split_inclusive(|byte| *byte == b';').collect();
                let end = text[at..].iter().position(|byte| *byte == b';').map_or(text.len(), |behind| at + behind + 1);
                drop(text.splice(end..end, dice.of(&statements).iter().copied()));
            }
        }
    }
    text
}

/// A script between two marks, in a schema of its own. Where it does not bear anything before it, the script alone.
fn marked(number: usize, text: &str) -> Option<(Arc<Script>, bool)> {
    let mut text = text.to_owned();
    for schema in ["elements", "dumped", "preambled"] {
        text = text.replace(schema, &format!("{schema}{number}"));
    }
    let marked = format!(
        "CREATE SCHEMA m{number}; SET search_path = m{number}, public; INSERT INTO public.marks VALUES ({number}, 'first');\n\
         {text}\n;INSERT INTO public.marks VALUES ({number}, 'last');"
    );
    let read = |text: &str| {
        let history = History::from_files([(format!("{number}_mutant.sql"), text.as_bytes().to_vec())]).ok()?;
        let in_transaction = |script: &Script| script.statements.iter().all(|one| one.class == Class::InTransaction);
        let mut scripts = history.scripts().filter(|script| script.unsupported.is_none() && in_transaction(script));
        scripts.next().cloned()
    };
    read(&marked).map(|script| (script, true)).or_else(|| Some((read(&text)?, false)))
}

fn planned(script: &Script) -> Vec<PlannedScript> {
    let files = [(script.file_name.clone(), script.text.clone().into_bytes())];
    let history = History::from_files(files).expect("it was read before");
    plan(&history, &Ledger::default(), &Policy::default()).unwrap_or_else(|refusal| panic!("{refusal}")).pending
}

/// One script that was tried, and the transactions that the server began meanwhile.
struct Tried {
    number: usize,
    script: Arc<Script>,
    marked: bool,
    applied: bool,
    from: u64,
    to: u64,
}

/// The database that mutants are applied to, and who looks on.
struct Bench {
    database: TestDatabase,
    engine: Engine,
    tried: Vec<Tried>,
}

impl Bench {
    async fn new(server: &Postgres) -> Self {
        let database = server.database().await;
        database.admin("CREATE TABLE marks (script int, place text); GRANT ALL ON marks TO PUBLIC").await;
        let mut target = database.target();
        let (statement_timeout, retry_for) = (Duration::from_secs(5), Duration::from_secs(5));
        target.locks = Locks { statement_timeout, retry_for, ..Locks::default() };
        let engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
        Self { database, engine, tried: Vec::new() }
    }

    /// The next transaction's number.
    async fn next(admin: &mut sqlx::PgConnection) -> u64 {
        let next: String =
            sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetch_one(admin).await.unwrap();
        next.parse().unwrap()
    }

    async fn apply(&mut self, admin: &mut sqlx::PgConnection, number: usize, script: Arc<Script>, marked: bool) {
        let from = match self.tried.last() {
            Some(last) => last.to,
            None => Self::next(admin).await,
        };
        let (planned, run, never) = (planned(&script), run(), CancellationToken::new());
        let applying = self.engine.apply(&planned, TransactionMode::PerScript, &run, &|_| {}, &never);
        let text = &script.text;
        let applied = tokio::time::timeout(NEVER, applying).await.unwrap_or_else(|_| panic!("{number} hangs: {text}"));
        let applied = match applied {
            Ok(()) => true,
            Err(error) => {
                // Not that it ended its transaction, nor that its statements were counted wrong.
                let server_said_no = error.reason() == Reason::ScriptFailed && error.failure().sql_state.is_some();
                assert!(server_said_no, "seed {SEED}, {number}: {error}: {text}");
                false
            }
        };
        let to = Self::next(admin).await;
        self.tried.push(Tried { number, script, marked, applied, from, to });
    }

    /// All of what the ledger says is there, and nothing else.
    async fn prove(&self) {
        let numbers = |rows: String| rows.split_whitespace().map(|row| row.to_owned()).collect::<BTreeSet<_>>();
        let query = "SELECT coalesce(string_agg(version, ' '), '') FROM belay.history";
        let recorded = numbers(self.database.value(query).await.unwrap());
        let query = "SELECT coalesce(string_agg(m.script || m.place, ' '), '') FROM marks m \
                     JOIN belay.history h ON h.number = m.script \
                     AND pg_xact_commit_timestamp(h.xmin) = pg_xact_commit_timestamp(m.xmin)";
        let marks_of_the_row = numbers(self.database.value(query).await.unwrap());
        let marks: usize = self.database.value("SELECT count(*)::text FROM marks").await.unwrap().parse().unwrap();
        let list = |of: &dyn Fn(&Tried) -> u64| {
            self.tried.iter().map(|tried| of(tried).to_string()).collect::<Vec<_>>().join(",")
        };
        let query = format!(
            "SELECT string_agg(committed::text, ' ' ORDER BY n) FROM (SELECT n, count(DISTINCT \
             pg_xact_commit_timestamp(x::text::xid)) AS committed FROM unnest('{{{}}}'::bigint[], '{{{}}}'::bigint[]) \
             WITH ORDINALITY AS t (a, b, n) LEFT JOIN LATERAL generate_series(a, b - 1) x ON true GROUP BY n) t",
            list(&|tried| tried.from),
            list(&|tried| tried.to),
        );
        let committed = self.database.value(&query).await.unwrap();
        let committed: Vec<_> = committed.split_whitespace().collect();
        assert_eq!(committed.len(), self.tried.len());

        let mut marked = 0;
        for (tried, committed) in self.tried.iter().zip(committed) {
            let told = format!("seed {SEED}, {}: {}", tried.number, tried.script.text);
            assert_eq!(recorded.contains(&tried.number.to_string()), tried.applied, "the ledger: {told}");
            let as_many = match tried.applied {
                false => committed == "0",
                // Temporary tables are dropped behind the COMMIT, in a transaction of their own.
                true => committed == "1" || committed == "2" && tried.script.text.contains("TEMP TABLE"),
            };
            assert!(as_many, "{committed} transactions were committed, applied {}: {told}", tried.applied);
            if tried.applied && tried.marked {
                marked += 2;
                for place in ["first", "last"] {
                    let mark = format!("{}{place}", tried.number);
                    assert!(marks_of_the_row.contains(&mark), "no {place} mark in the row's transaction: {told}");
                }
            }
        }
        assert_eq!((marks, marks_of_the_row.len()), (marked, marked), "marks of scripts that were not applied");
    }

    /// The server, given the same texts each in a transaction of its own, makes the same of them.
    async fn compare(&self, server: &Postgres) {
        let other = server.database().await;
        other.admin("CREATE TABLE marks (script int, place text); GRANT ALL ON marks TO PUBLIC").await;
        for tried in self.tried.iter().filter(|tried| tried.applied) {
            let mut owner = other.owner().await;
            if tried.script.statements.iter().any(|statement| statement.copy_data.is_some()) {
                run_pieces(&mut owner, &tried.script.text, &tried.script).await;
                continue;
            }
            let sql = format!("BEGIN;\n{}\n;COMMIT", tried.script.executable());
            let answered = answers(&mut owner, &sql).await;
            let answered = answered.unwrap_or_else(|error| panic!("{}: {error}: {}", tried.number, tried.script.text));
            assert_eq!(answered, tried.script.statements.len() + 2, "{}", tried.script.text);
        }
        let arguments = ["--no-owner", "--no-acl", "--exclude-schema", "belay"];
        let (belays, servers) = (self.database.dump(&arguments), other.dump(&arguments));
        assert!(belays.matches("CREATE TABLE").count() > 50, "hardly anything was made: {belays}");
        for (belays, servers) in belays.lines().zip(servers.lines()) {
            assert_eq!(belays, servers);
        }
        assert_eq!(belays.len(), servers.len());
    }
}

#[tokio::test]
async fn of_ten_thousand_mutated_scripts_none_panics_hangs_or_is_applied_by_half() {
    // Of what can be applied, more.
    let all: Vec<_> =
        ["runs", "runs", "runs", "copy", "refused"].into_iter().flat_map(corpus).map(|(_, bytes)| bytes).collect();
    let mut dice = Dice(SEED);
    let started = Instant::now();
    let mut taken = Vec::new();
    for number in 1..=MUTANTS {
        let bytes = mutate(&mut dice, &all);
        let read = std::panic::catch_unwind(|| invariants::hold_for(&bytes));
        let read = read.unwrap_or_else(|_| panic!("seed {SEED}, {number}: {}", String::from_utf8_lossy(&bytes)));
        let Some(script) = read.filter(|script| script.unsupported.is_none()) else { continue };
        taken.extend(marked(number, &script.text).map(|(script, marked)| (number, script, marked)));
    }
    let reading = started.elapsed();
    assert!(reading < Duration::from_secs(120), "reading took {reading:?}");
    assert!(taken.len() > MUTANTS / 4, "Belay takes only {} of them: they are too odd to prove much", taken.len());

    let server = Postgres::start_with(&["track_commit_timestamp = on", "autovacuum = off"]);
    let mut admin = server.superuser("postgres").await;
    let mut applied = 0;
    for (n, batch) in [&taken[..COMPARED]].into_iter().chain(taken[COMPARED..].chunks(BATCH)).enumerate() {
        let mut bench = Bench::new(&server).await;
        for (number, script, marked) in batch {
            bench.apply(&mut admin, *number, script.clone(), *marked).await;
        }
        bench.prove().await;
        if n == 0 {
            bench.compare(&server).await;
        }
        applied += bench.tried.iter().filter(|tried| tried.applied).count();
    }
    eprintln!("{MUTANTS} read in {reading:?}, {} taken, {applied} applied, in {:?}", taken.len(), started.elapsed());
    assert!(applied > MUTANTS / 10, "only {applied} were applied: that proves little");
}
