//! In a long run the ledger's row is a prepared statement of the session's, which scripts can take away or get in the way of:
//! each script has its row all the same, once, as in a session of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Progress, Target};
use tokio_util::sync::CancellationToken;

use super::apply::history;
use super::scripts::{claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::proxy::{AtCommit, Proxy};
use crate::support::{SOON, eventually};

/// Long enough for the row to be prepared, and to stay so for some while.
const SCRIPTS: usize = 20;

/// A database with functions that do to prepared statements what a script's own text need not show, and a table that counts
/// which scripts ran, and in what company.
async fn database() -> TestDatabase {
    let database = Postgres::shared().database().await;
    let functions = "CREATE TABLE ran (script int, prepared int); GRANT ALL ON ran TO PUBLIC;\n\
                     CREATE FUNCTION company() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM pg_prepared_statements';\n\
                     CREATE FUNCTION forget() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$;\n\
                     CREATE FUNCTION leave() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'PREPARE left_behind AS SELECT 1'; END $$";
    database.admin(functions).await;
    database
}

/// Applies that many scripts, each of which counts itself, with something more in some of them. Gives the most tries that one
/// of them was said to take.
async fn apply(engine: &mut Engine, more: &[(usize, &str)]) -> Result<u32, ApplyError> {
    let texts = (1..=SCRIPTS).map(|number| {
        let more: Vec<_> = more.iter().filter(|(of, _)| *of == number).map(|(_, sql)| *sql).collect();
        (format!("{number:03}_x.sql"), format!("INSERT INTO ran VALUES ({number}, company());\n{}", more.join(";\n")))
    });
    let files: Vec<_> = texts.collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let tries = AtomicU32::new(0);
    let tell = |at: Progress<'_>| {
        tries.fetch_max(at.attempt, Ordering::SeqCst);
    };
    engine.apply(&scripts(&files), TransactionMode::PerScript, &run(), &tell, &CancellationToken::new()).await?;
    Ok(tries.into_inner())
}

/// Every script's effects are there once, with its row.
async fn all_ran_once(database: &TestDatabase) {
    let numbers: Vec<_> = (1..=SCRIPTS).map(|number| format!("{number:03}")).collect();
    assert_eq!(history(database).await, numbers.join(" "));
    let query = "SELECT count(DISTINCT script) || ' of ' || count(*) FROM ran";
    assert_eq!(database.value(query).await.unwrap(), format!("{SCRIPTS} of {SCRIPTS}"));
}

/// How many prepared statements a script found.
async fn company(database: &TestDatabase, script: usize) -> String {
    database.value(&format!("SELECT prepared::text FROM ran WHERE script = {script}")).await.unwrap()
}

#[tokio::test]
async fn the_row_of_a_long_run_is_prepared_once_and_says_what_a_plain_one_says() {
    let database = database().await;
    let mut engine = claimed(database.engine().await).await;
    assert_eq!(apply(&mut engine, &[]).await.unwrap(), 1);
    all_ran_once(&database).await;
    assert_eq!((company(&database, 1).await.as_str(), company(&database, SCRIPTS).await.as_str()), ("0", "1"));
    // All but the first are written by it.
    let alike = "SELECT count(DISTINCT (description, author, date, rollback, mode, applied_by, applied_role, run_id, \
                 length(checksum), script LIKE 'INSERT%', duration_ms < 60000))::text FROM belay.history";
    assert_eq!(database.value(alike).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_script_that_takes_it_away_through_a_function_has_its_row_once_and_no_try_is_counted() {
    let database = database().await;
    let mut engine = claimed(database.engine().await).await;
    assert_eq!(apply(&mut engine, &[(3, "SELECT forget()"), (4, "SELECT forget()")]).await.unwrap(), 1);
    all_ran_once(&database).await;
    assert_eq!(company(&database, 6).await, "1", "it is prepared anew");
}

#[tokio::test]
async fn a_script_that_has_to_do_with_prepared_statements_finds_none_and_leaves_none() {
    let database = database().await;
    let mut engine = claimed(database.engine().await).await;
    let own = "PREPARE left_behind AS SELECT 1; EXECUTE left_behind";
    assert_eq!(
        apply(&mut engine, &[(4, own), (5, own), (9, "DISCARD PLANS"), (12, "DEALLOCATE ALL")]).await.unwrap(),
        1
    );
    all_ran_once(&database).await;
    for (script, found) in [(3, "1"), (4, "0"), (5, "0"), (6, "1"), (9, "0"), (12, "0"), (13, "1")] {
        assert_eq!(company(&database, script).await, found, "{script}");
    }
}

#[tokio::test]
async fn what_a_function_leaves_prepared_keeps_no_later_script_from_it() {
    let database = database().await;
    let mut engine = claimed(database.engine().await).await;
    assert_eq!(apply(&mut engine, &[(3, "SELECT leave()"), (5, "SELECT leave()")]).await.unwrap(), 1);
    all_ran_once(&database).await;
}

#[tokio::test]
async fn a_scripts_own_errors_with_prepared_statements_are_its_own() {
    for (sql, state) in [("SELECT leave(), leave()", "42P05"), ("EXECUTE nothing", "26000")] {
        let database = database().await;
        let mut engine = claimed(database.engine().await).await;
        let error = apply(&mut engine, &[(5, sql)]).await.unwrap_err();
        assert_eq!((error.reason(), error.failure().sql_state.as_deref()), (Reason::ScriptFailed, Some(state)));
        assert_eq!(history(&database).await, "001 002 003 004");
    }
}

#[tokio::test]
async fn a_prepared_row_is_refused_without_the_lock_as_a_plain_one_is() {
    let database = database().await;
    let mut engine = claimed(database.engine().await).await;
    let error = apply(&mut engine, &[(5, "SELECT pg_advisory_unlock_all()")]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::LockLost);
    assert_eq!(history(&database).await, "001 002 003 004");
    assert_eq!(database.value("SELECT count(*)::text FROM ran").await.as_deref(), Some("4"));
}

#[tokio::test]
async fn it_is_planned_anew_where_the_path_or_the_ledger_changes_under_it() {
    let database = database().await;
    let mut engine = claimed(database.engine().await).await;
    let own = "CREATE SCHEMA own; CREATE FUNCTION own.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT NULL'";
    let path = "CREATE TEMP TABLE history (version text); SELECT set_config('search_path', 'own, pg_catalog', false)";
    let ledger = "ALTER TABLE belay.history ADD COLUMN note text DEFAULT 'new'";
    assert_eq!(apply(&mut engine, &[(3, own), (4, path), (6, ledger)]).await.unwrap(), 1);
    all_ran_once(&database).await;
    let notes = "SELECT count(*)::text FROM belay.history WHERE note = 'new'";
    assert_eq!(database.value(notes).await.as_deref(), Some(SCRIPTS.to_string().as_str()));
}

#[tokio::test]
async fn operators_that_a_scripts_path_finds_first_have_no_say_in_it() {
    let database = database().await;
    let mut engine = claimed(database.engine().await).await;
    let own = "CREATE SCHEMA own; CREATE FUNCTION own.no(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'; \
               CREATE FUNCTION own.none(timestamptz, timestamptz) RETURNS interval LANGUAGE sql AS 'SELECT NULL::interval'; \
               CREATE OPERATOR own.= (FUNCTION = own.no, LEFTARG = text, RIGHTARG = text); \
               CREATE OPERATOR own.- (FUNCTION = own.none, LEFTARG = timestamptz, RIGHTARG = timestamptz)";
    let path = "SELECT set_config('search_path', 'own, pg_catalog', false)";
    // Written plainly, with either guard, and prepared.
    let more = [(1, own), (1, path), (2, "RESET work_mem"), (2, path), (12, path)];
    assert_eq!(apply(&mut engine, &more).await.unwrap(), 1);
    all_ran_once(&database).await;
}

#[tokio::test]
async fn a_commit_that_was_to_prepare_it_and_is_lost_is_done_exactly_once() {
    for lost in [AtCommit::LoseQuestion, AtCommit::LoseAnswer] {
        let database = database().await;
        let proxy = Proxy::start(Postgres::shared().port, lost).await;
        let url = database.url.replace(&Postgres::shared().port.to_string(), &proxy.port.to_string());
        // The first COMMIT that goes by is then that of a script.
        claimed(database.engine().await).await.close().await;
        let mut engine = Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap();
        eventually("the lock is free", SOON, async || engine.try_lock().await.unwrap().then_some(())).await;
        apply(&mut engine, &[]).await.unwrap();
        all_ran_once(&database).await;
        assert_eq!(company(&database, SCRIPTS).await, "1");
    }
}

#[tokio::test]
async fn with_its_session_it_goes_and_is_prepared_anew_in_the_next_one() {
    let database = database().await;
    database.admin("CREATE TABLE gate (open bool); GRANT ALL ON gate TO PUBLIC").await;
    let mut engine = claimed(database.engine().await).await;
    let gate = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.005); END LOOP; END $$";
    let more = [(5, gate)];
    let mut applied = std::pin::pin!(apply(&mut engine, &more));
    let at_gate = format!(
        "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE usename = '{}' AND pid <> pg_backend_pid() AND query LIKE '%gate%' AND \
         query LIKE '%EXECUTE \"belay%'",
        database.role
    );
    let kill = eventually("it waits at the gate, and is killed", SOON, async || database.value(&at_gate).await);
    tokio::select! {
        early = &mut applied => panic!("it did not wait: {early:?}"),
        _ = kill => {}
    }
    database.admin("INSERT INTO gate VALUES (true)").await;
    applied.await.unwrap();
    all_ran_once(&database).await;
    assert_eq!((company(&database, 5).await.as_str(), company(&database, 6).await.as_str()), ("0", "1"));
}
