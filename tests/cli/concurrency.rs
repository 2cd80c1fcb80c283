//! Two at once, an interruption, and death at the worst moment.

use std::process::{Child, Command, Stdio};

use crate::bench::{Bench, SHOP, Said};
use crate::support::{SOON, eventually};

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("belay runs")
}

fn end(child: Child) -> Said {
    Said::of(child.wait_with_output().expect("belay ends"))
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// It asked for the lock in vain, and was answered whose it is.
const WAITS: &str = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE datname = current_database() AND \
                     application_name LIKE 'belay/anna%' AND query LIKE '%pg_locks%' AND state = 'idle'";

/// Until the query answers `true`.
async fn until(bench: &Bench, what: &str, sql: &str) {
    eventually(what, SOON, async || (bench.value(sql).await == "true").then_some(())).await;
}

#[tokio::test]
async fn whoever_comes_second_is_told_who_is_at_work_and_waits() {
    let bench = Bench::new(SHOP).await;
    let mut other = bench.database.engine().await;
    assert!(other.try_lock().await.unwrap());

    let said = bench.run(&["apply", "--retry-for", "0s"]).is(4);
    assert!(said.err.contains("application belay/test") && said.err.contains("Nothing was run"), "{}", said.err);
    assert_eq!(bench.run(&["apply", "--retry-for", "0s", "-o", "json"]).document()["failure"]["reason"], "LockHeld");
    let status = bench.run(&["status"]).is(0).out;
    assert!(status.contains("application belay/test"), "{status}");
    bench.run(&["plan"]).is(0);

    let waiting = start(&mut bench.command(&["apply"]));
    until(&bench, "it asks for the lock", WAITS).await;
    other.close().await;
    let said = end(waiting).is(0);
    assert!(said.err.contains("Waiting: another session migrates this database (pid "), "{}", said.err);
    assert!(said.out.contains("3 scripts applied"), "{}", said.out);
}

#[tokio::test]
async fn an_interruption_cancels_on_the_server_rolls_back_and_says_so() {
    for (name, code) in [("-INT", 130), ("-TERM", 130)] {
        let slow = ("002_slow.sql", "CREATE TABLE slow (i int);\nSELECT pg_sleep(600);\n");
        let bench = Bench::new(&[SHOP[0], slow]).await;
        let child = start(&mut bench.command(&["apply"]));
        let asleep = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE datname = current_database() \
                      AND wait_event = 'PgSleep'";
        until(&bench, "the script sleeps", asleep).await;
        signal(&child, name);
        let said = end(child).is(code);
        assert!(said.err.contains("Cancelling on the server"), "{}", said.err);
        assert!(said.err.contains("Nothing of 002 is applied"), "{}", said.err);
        assert!(
            said.err.contains(&format!("{} is at 001. Run the same command to go on.", bench.database.name)),
            "{}",
            said.err
        );
        assert_eq!(bench.versions().await, "001");
        assert_eq!(bench.value("SELECT to_regclass('slow')::text").await, "");
        assert_eq!(bench.value(asleep).await, "false", "the server was asked to stop");
    }
}

#[tokio::test]
async fn an_interruption_while_waiting_for_the_lock_runs_nothing() {
    let bench = Bench::new(SHOP).await;
    let mut other = bench.database.engine().await;
    assert!(other.try_lock().await.unwrap());
    let before = bench.dump();
    let child = start(&mut bench.command(&["apply"]));
    until(&bench, "it waits", WAITS).await;
    signal(&child, "-INT");
    let said = end(child).is(130);
    assert!(said.err.contains("Nothing was run"), "{}", said.err);
    assert_eq!(bench.dump(), before);
}

#[tokio::test]
async fn killed_anywhere_each_script_takes_effect_exactly_once() {
    let places = ["before-script:1", "before-script:2", "before-script:3", "before-commit:1", "before-commit:2"];
    let places = places.into_iter().chain(["before-commit:3", "after-commit:1", "after-commit:2", "after-commit:3"]);
    for point in places.chain(["after-lock:1"]) {
        let bench = Bench::new(SHOP).await;
        let killed = bench.command(&["apply"]).env("BELAY_FAILPOINT", point).output().unwrap();
        assert_eq!(killed.status.code(), None, "{point}: it was to be killed: {killed:?}");
        if let Some((place, nth)) = point.split_once(':').filter(|(place, _)| *place != "after-lock") {
            let nth: usize = nth.parse().unwrap();
            let done = if place == "after-commit" { nth } else { nth - 1 };
            let applied = async || bench.versions().await == ["", "001", "001 002", "001 002 003"][done];
            eventually(point, SOON, async || applied().await.then_some(())).await;
        }

        bench.run(&["apply"]).is(0);
        assert_eq!(bench.versions().await, "001 002 003", "{point}");
        assert_eq!(bench.value("SELECT id::text FROM users").await, "3", "{point}: each UPDATE ran once");
        bench.run(&["plan", "--exit-code"]).is(0);
    }
}

#[tokio::test]
async fn killed_anywhere_outside_a_transaction_each_statement_takes_effect_exactly_once() {
    let outside = "-- belay: no-transaction\nUPDATE users SET id = id + 1;\nSET search_path = public;\n\
                   CREATE INDEX CONCURRENTLY i ON users (id);\nVACUUM users;\nUPDATE users SET id = id + 1;\n\
                   DROP INDEX CONCURRENTLY i;\nCREATE UNIQUE INDEX CONCURRENTLY j ON users (name);\n";
    let places = ["before-statement", "before-statement-commit", "after-statement-commit"].map(|place| (place, 2));
    for (place, times) in places.into_iter().chain([("after-intent", 4), ("before-conclusion", 4)]) {
        for nth in 1..=times {
            let bench = Bench::new(&[SHOP[0], ("002_outside.sql", outside)]).await;
            let point = format!("{place}:{nth}");
            let killed = bench.command(&["apply"]).env("BELAY_FAILPOINT", &point).output().unwrap();
            assert_eq!(killed.status.code(), None, "{point}: it was to be killed: {killed:?}");
            bench.run(&["apply"]).is(0);
            assert_eq!(bench.versions().await, "001 002", "{point}");
            assert_eq!(bench.value("SELECT id::text FROM users").await, "3", "{point}: each UPDATE ran once");
            let indexes = "SELECT string_agg(indexrelid::regclass::text || indisvalid, ' ') FROM pg_index \
                           WHERE indrelid = 'users'::regclass AND NOT indisprimary";
            assert_eq!(bench.value(indexes).await, "jtrue", "{point}");
            bench.run(&["plan", "--exit-code"]).is(0);
        }
    }
}

#[tokio::test]
async fn all_pending_killed_before_or_after_its_commit_takes_effect_exactly_once() {
    for (place, versions) in [("before-commit", ""), ("after-commit", "001 002 003")] {
        let bench = Bench::new(SHOP).await;
        let arguments = ["apply", "--transaction", "all-pending"];
        let killed = bench.command(&arguments).env("BELAY_FAILPOINT", place).output().unwrap();
        assert_eq!(killed.status.code(), None, "{place}: it was to be killed: {killed:?}");
        eventually(place, SOON, async || (bench.versions().await == versions).then_some(())).await;
        bench.run(&arguments).is(0);
        assert_eq!(bench.versions().await, "001 002 003");
        assert_eq!(bench.value("SELECT id::text FROM users").await, "3");
    }
}

#[tokio::test]
async fn a_script_that_finds_its_table_locked_is_tried_again_and_told_so() {
    let bench = Bench::after(SHOP, 1).await;
    let mut other = bench.database.owner().await;
    sqlx::raw_sql("SET application_name = 'a report'; BEGIN; LOCK TABLE users").execute(&mut other).await.unwrap();
    let said = bench.run(&["apply", "--retry-for", "0s"]).is(4);
    assert!(said.err.contains("002_add_user_preferences.sql") && said.err.contains("55P03"), "{}", said.err);
    assert!(said.err.contains("End the sessions that hold the locks"), "{}", said.err);
    assert_eq!(bench.versions().await, "001");

    let child = start(&mut bench.command(&["apply"]));
    // The connection beside the script's, which only looks.
    let looked = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%;WITH me AS%' \
                  AND state = 'idle' AND state_change > query_start";
    until(&bench, "it has looked for whom it waits", looked).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let said = end(child).is(0);
    assert!(said.out.contains("waits for pid ") && said.out.contains("(a report, user "), "{}", said.out);
    assert_eq!(bench.versions().await, "001 002 003");
}

#[tokio::test]
async fn a_reader_that_went_away_does_not_stop_a_migration() {
    let bench = Bench::new(SHOP).await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let said = Said::of(bench.command(&["apply"]).stdout(writer).output().unwrap()).is(0);
    assert_eq!(said.err, "");
    assert_eq!(bench.versions().await, "001 002 003");
}

#[tokio::test]
async fn what_a_killed_run_left_at_work_on_the_server_is_gone_soon_and_the_next_run_goes_on() {
    let gated = "UPDATE users SET id = id + 1;\nDO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.005); \
                 END LOOP; END $$;\n";
    let bench = Bench::new(&[SHOP[0], ("002_gated.sql", gated)]).await;
    bench.database.admin("CREATE TABLE gate (); GRANT ALL ON gate TO PUBLIC").await;
    let at_gate = "SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let arguments = ["apply", "--baseline", "0"];
    let mut child = start(&mut bench.command(&arguments));
    until(&bench, "it waits at the gate", at_gate).await;
    child.kill().unwrap();
    child.wait().unwrap();
    // The gate stays shut, so the session cannot end by itself: the server finds its client dead, twice a second.
    let killed = std::time::Instant::now();
    let gone = "SELECT (count(*) = 0)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'belay/%'";
    until(&bench, "the server notices", gone).await;
    eprintln!("gone after {:?}", killed.elapsed());
    assert!(killed.elapsed() < std::time::Duration::from_secs(10), "{:?}", killed.elapsed());

    bench.database.admin("INSERT INTO gate DEFAULT VALUES").await;
    bench.run(&arguments).is(0);
    assert_eq!(bench.versions().await, "001 002");
    assert_eq!(bench.value("SELECT id::text FROM users").await, "2", "the UPDATE took effect once");
}
