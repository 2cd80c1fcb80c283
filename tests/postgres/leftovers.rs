//! What a script leaves in its session, or has SET there: it holds for all of that script, and for none behind it.

use belay::api::{Reason, TransactionMode};
use belay::plan::{Policy, plan};
use belay::script::History;

use super::apply::{exists, history};
use super::outside::{engine, with_table};
use super::scripts::{apply, apply_as, claimed};
use crate::support::postgres::Postgres;

const APART: &str = "-- belay: no-transaction\n";

#[tokio::test]
async fn of_what_a_script_leaves_in_its_session_the_next_one_finds_nothing() {
    let makes = "CREATE TEMP TABLE foo (a int);\nDECLARE c CURSOR WITH HOLD FOR SELECT 1;\nLISTEN x;\n";
    let counts = "CREATE SEQUENCE s CACHE 10;\nSELECT nextval('s');\n";
    let finds = "CREATE TABLE foo (a int);\nDECLARE c CURSOR WITH HOLD FOR SELECT 1;\nINSERT INTO foo SELECT nextval('s');\n\
                 INSERT INTO foo SELECT count(*) FROM pg_listening_channels();\n";
    let prepares = "PREPARE p AS SELECT 1;\n";
    let one = format!("{counts}{makes}");
    let (both, again) = (format!("{prepares}{one}"), format!("{prepares}{finds}"));
    for (mode, header, first, second) in [
        (TransactionMode::PerScript, "", &both, &again),
        (TransactionMode::PerScript, APART, &both, &again),
        // In one transaction, what is prepared is the next one's too.
        (TransactionMode::AllPending, "", &one, &finds.to_owned()),
    ] {
        let database = Postgres::shared().database().await;
        let mut engine = claimed(database.engine().await).await;
        let files = [("001_a.sql", &*format!("{header}{first}")), ("002_b.sql", &*format!("{header}{second}"))];
        apply_as(&mut engine, &files, mode).await.unwrap_or_else(|error| panic!("{mode:?}, {header:?}: {error}"));
        let found = "SELECT string_agg(a::text, ' ' ORDER BY a) FROM public.foo";
        assert_eq!(database.value(found).await.as_deref(), Some("0 11"), "{mode:?}, {header:?}");
    }
}

#[tokio::test]
async fn what_a_script_apart_sets_holds_to_its_end_in_whatever_words() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let path = "SELECT pg_catalog.set_config('search_path', 'app', false);";
    let text = format!("{APART}CREATE SCHEMA app;\n{path}\nCREATE TABLE t (a int);\nVACUUM t;");
    apply(&mut engine, &[("001_a.sql", &text), ("002_b.sql", "CREATE TABLE u (a int)")]).await.unwrap();
    assert!(exists(&database, "app.t").await && exists(&database, "public.u").await);

    for (wrong, line) in [("SET nonsense = 1;", 3), ("SET search_path = app;\nRESET nonsense;", 4)] {
        let text = format!("{APART}CREATE TABLE v (a int);\n{wrong}");
        let error = apply(&mut engine, &[("003_c.sql", &text)]).await.unwrap_err();
        assert_eq!((error.reason(), error.failure().line), (Reason::ScriptFailed, Some(line)), "{error}");
    }
    assert_eq!(history(&database).await, "001 002", "what was never SET was not run");
}

#[tokio::test]
async fn what_a_script_apart_has_taken_back_is_not_set_again() {
    let database = Postgres::shared().superuser_database().await;
    let mut engine = claimed(database.engine().await).await;
    let role = format!("{}_for_a_while", database.name);
    let text = format!(
        "{APART}CREATE ROLE {role};\nGRANT ALL ON SCHEMA public TO {role};\nSET ROLE {role};\nCREATE TABLE a (a int);\n\
         RESET ROLE;\nDROP OWNED BY {role};\nDROP ROLE {role};\nVACUUM;"
    );
    apply(&mut engine, &[("001_a.sql", &text)]).await.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn a_role_that_may_not_read_the_ledger_keeps_no_statement_from_a_second_try() {
    let database = Postgres::shared().database().await;
    let role = database.application_role().await;
    let mut engine = claimed(database.engine().await).await;
    let procedure = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE t (a int); COMMIT; END $$;";
    let text = format!("{APART}{procedure}\nSET ROLE {role};\nCALL p();");
    apply(&mut engine, &[("001_a.sql", &text)]).await.unwrap();
    let owner = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 't'::regclass";
    assert_eq!(database.value(owner).await, Some(role));
}

#[tokio::test]
async fn the_first_script_goes_on_where_it_stopped_though_it_has_made_tables() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text = |second: &str| format!("{APART}CREATE TABLE a (a int);\n{second};\nCREATE TABLE b (a int);");
    let plans = async |engine: &mut belay::postgres::Engine| {
        let files = [("001_a.sql".to_owned(), text("SELECT 1").into_bytes())];
        plan(&History::from_files(files).unwrap(), &engine.ledger().await.unwrap(), &Policy::default()).is_ok()
    };
    database.admin("CREATE TABLE foreign_to_it (a int)").await;
    assert!(!plans(&mut engine).await, "what Belay did not make is still asked about");
    database.admin("DROP TABLE foreign_to_it").await;
    apply(&mut engine, &[("001_a.sql", &text("SELECT wrong"))]).await.unwrap_err();
    assert!(exists(&database, "a").await && plans(&mut engine).await);
    apply(&mut engine, &[("001_a.sql", &text("SELECT 1"))]).await.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn of_a_block_that_commits_and_fails_it_is_said_that_a_part_stays() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let block = "DO $$ BEGIN INSERT INTO t VALUES (5); COMMIT; PERFORM 1/0; END $$;";
    for (before, said) in [
        ("", "Of 001, what this statement has committed by itself stays, and it is not run again before"),
        ("SELECT 1;\n", "are not run again; what this statement has committed by itself stays, and it"),
    ] {
        database.admin("DELETE FROM belay.statement").await;
        let error = apply(&mut engine, &[("001_a.sql", &format!("{APART}{before}{block}"))]).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!(database.value("SELECT count(*)::text FROM t WHERE a = 5").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn the_name_that_a_script_gives_its_session_stays() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text = "CREATE TABLE names (name text);\nSET application_name = 'mig';\n\
                INSERT INTO names SELECT current_setting('application_name');";
    apply(&mut engine, &[("001_a.sql", text)]).await.unwrap();
    assert_eq!(database.value("SELECT name FROM names").await.as_deref(), Some("mig"));
}

#[tokio::test]
async fn a_script_may_reset_settings_wherever_it_says_so_and_is_in_no_subtransaction_for_one() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let files = [
        ("001_a.sql", "RESET ALL;\nSELECT 1;"),
        ("002_b.sql", "DO $$ BEGIN EXECUTE 'reset all'; END $$;"),
        ("003_c.sql", "RESET search_path;\nDO $$ BEGIN PERFORM pg_export_snapshot(); END $$;"),
    ];
    apply(&mut engine, &files).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
}

#[tokio::test]
async fn what_a_script_listens_to_disturbs_none_of_its_statements() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let procedure = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 5..7 LOOP \
                     INSERT INTO t VALUES (i, i); NOTIFY x; COMMIT; END LOOP; END $$";
    let text = format!(
        "{APART}{procedure};\nLISTEN x;\nCREATE TEMPORARY TABLE kept (a int);\nNOTIFY x;\nCALL p();\nINSERT INTO kept VALUES (1);"
    );
    apply(&mut engine, &[("001_a.sql", &text)]).await.unwrap();
    assert_eq!(history(&database).await, "001");
    assert_eq!(database.value("SELECT count(*)::text FROM t WHERE a > 4").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn an_advisory_lock_that_a_script_takes_is_let_go_before_the_next_and_belays_own_is_not() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let held = "CREATE TABLE held AS SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND \
                database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    apply(&mut engine, &[("001_a.sql", "SELECT pg_advisory_lock(4711)"), ("002_b.sql", held)]).await.unwrap();
    assert_eq!(database.value("SELECT count(*)::text FROM held").await.as_deref(), Some("0"));
    assert!(engine.confirm_lock().await.unwrap());
}
