use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Progress};
use tokio_util::sync::CancellationToken;

use super::scripts::{apply, apply_as, claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase};

pub async fn history(database: &TestDatabase) -> String {
    let query = "SELECT coalesce(string_agg(version, ' ' ORDER BY number), '') FROM belay.history";
    database.value(query).await.unwrap()
}

pub async fn exists(database: &TestDatabase, table: &str) -> bool {
    database.value(&format!("SELECT to_regclass('{table}')::text")).await.is_some()
}

#[tokio::test]
async fn a_script_and_its_ledger_row_share_one_transaction() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    apply(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int);")]).await.unwrap();
    let query = "SELECT (h.xmin = c.xmin)::text FROM belay.history h, pg_class c WHERE c.oid = 'a'::regclass";
    assert_eq!(database.value(query).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn a_failed_script_leaves_nothing_and_those_before_it_stay() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let files = [
        ("001_a.sql", "CREATE TABLE a (id int)"),
        ("002_b.sql", "CREATE TABLE b (id int);\nSELECT nothing;"),
        ("003_c.sql", "CREATE TABLE c (id int)"),
    ];
    let error = apply(&mut engine, &files).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ScriptFailed);
    assert!(error.is_held());
    assert_eq!(history(&database).await, "001");
    assert!(exists(&database, "a").await && !exists(&database, "b").await && !exists(&database, "c").await);
    // And the engine goes on from there.
    apply(&mut engine, &[("002_b.sql", "CREATE TABLE b (id int)")]).await.unwrap();
    assert_eq!(history(&database).await, "001 002");
}

#[tokio::test]
async fn an_error_has_its_line_column_statement_command_and_sqlstate() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text =
        "-- Größe: ✓ 🧗\nCREATE TABLE größe (id int); SELECT 'ü🧗';\nALTER TABLE größe\n  ADD COLUMN 🧗 nonsense;\n";
    let failure = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err().failure();
    assert_eq!((failure.line, failure.column), (Some(4), Some(16)));
    assert_eq!(failure.statement, Some(3));
    assert_eq!(failure.command.as_deref(), Some("ALTER TABLE"));
    assert_eq!(failure.sql_state.as_deref(), Some("42704"));
    assert_eq!(failure.script.as_deref(), Some("001_a.sql"));
    let message =
        "001_a.sql, line 4, column 16: type \"nonsense\" does not exist (SQLSTATE 42704). Nothing of 001 is applied.";
    assert_eq!(failure.message, message);
}

#[tokio::test]
async fn a_syntax_error_is_placed_in_its_statement_though_nothing_ran() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text = "SELECT 1;\nSELECT 2;\nSELEKT 3;\nSELECT 4;";
    let failure = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err().failure();
    assert_eq!((failure.line, failure.column, failure.statement), (Some(3), Some(1), Some(3)));
    assert_eq!(failure.sql_state.as_deref(), Some("42601"));
}

#[tokio::test]
async fn without_a_position_the_statement_is_found_by_counting() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text =
        "BEGIN;\nCREATE TABLE a (id int PRIMARY KEY);\nINSERT INTO a VALUES (1);\n  INSERT INTO a VALUES (1);\nCOMMIT;";
    let failure = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err().failure();
    assert_eq!((failure.line, failure.column, failure.statement), (Some(4), Some(3), Some(3)));
    assert_eq!((failure.command.as_deref(), failure.sql_state.as_deref()), (Some("INSERT"), Some("23505")));
}

#[tokio::test]
async fn a_deferred_constraint_has_a_place() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text = "CREATE TABLE a (id int PRIMARY KEY);\n\
                CREATE TABLE b (a int CONSTRAINT b_has_a REFERENCES a DEFERRABLE INITIALLY DEFERRED);\n\
                INSERT INTO b VALUES (1);";
    let failure = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err().failure();
    assert_eq!(failure.sql_state.as_deref(), Some("23503"));
    assert!(failure.message.starts_with("001_a.sql, deferred constraint \"b_has_a\": "), "{}", failure.message);
    assert!(!exists(&database, "a").await);
}

#[tokio::test]
async fn rows_values_show_in_no_error() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    for (text, state, says) in [
        (
            "CREATE TABLE a (id text PRIMARY KEY); INSERT INTO a VALUES ('hunter2'), ('hunter2')",
            "23505",
            "duplicate key",
        ),
        ("CREATE TABLE a (id int CHECK (id > 5)); INSERT INTO a VALUES (4242), (1)", "23514", "check constraint"),
        ("SELECT x::int FROM (VALUES ('hunter2')) v (x)", "22P02", "invalid text representation"),
        ("SELECT x::date FROM (VALUES ('hunter2')) v (x)", "22007", "invalid datetime format"),
        ("CREATE TABLE a (id varchar(3)); INSERT INTO a VALUES ('hunter2')", "22001", "string data, right truncation"),
        ("SELECT to_tsquery(x) FROM (VALUES ('hunter2 4242')) v (x)", "42601", "syntax error in tsquery: ********"),
        ("SELECT x::tsvector FROM (VALUES ('hunter2:4242x')) v (x)", "42601", "syntax error in tsvector: ********"),
    ] {
        let error = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err();
        let failure = error.failure();
        assert_eq!(failure.sql_state.as_deref(), Some(state));
        assert!(failure.message.contains(says), "{}", failure.message);
        let all = format!("{failure:?} {error} {error:?}");
        assert!(!all.contains("hunter2") && !all.contains("4242"), "{all}");
    }
}

#[tokio::test]
async fn a_password_shows_in_no_error_however_badly_it_is_quoted() {
    let database = Postgres::shared().superuser_database().await;
    let mut engine = claimed(database.engine().await).await;
    for (text, state, says) in [
        ("ALTER ROLE x PASSWORD hunter2;", "42601", "syntax error at or near ********"),
        ("ALTER ROLE x PASSWORD “hunter2”;", "42601", "syntax error at or near ********"),
        ("ALTER ROLE x PASSWORD 'x'hunter2'';", "42601", "unrecognized role option ********"),
        ("DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD hunter2'; END $$;", "42601", "syntax error at or near ********"),
        (
            "CREATE FUNCTION f(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE x PASS' || 'WORD ' || $1; END $$;\n\
             SELECT f('hunter2');",
            "42601",
            "syntax error at or near ********",
        ),
        ("COPY (SELECT 1) TO PROGRAM 'PGPASSWORD=hunter2 false';", "38000", "PGPASSWORD=********"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'postgres://u:hun@hunter2@127.0.0.1:1/d' PUBLICATION p WITH (create_slot = false);",
            "08006",
            "could not translate host name ******** to address",
        ),
        ("DO $$ BEGIN RAISE 'cannot set' USING HINT = 'try password=hunter2'; END $$;", "P0001", "cannot set"),
    ] {
        let error = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err();
        let failure = error.failure();
        assert_eq!(failure.sql_state.as_deref(), Some(state), "{failure:?}");
        assert!(failure.message.contains(says), "{}", failure.message);
        let all = format!("{failure:?} {error}");
        assert!(!all.contains("hunter2"), "{all}");
    }
}

#[tokio::test]
async fn what_a_script_sets_reaches_neither_its_ledger_row_nor_the_next_script() {
    let database = Postgres::shared().superuser_database().await;
    let settler = format!("{}_settler", database.name);
    database.admin(&format!("CREATE ROLE {settler}; GRANT CREATE ON SCHEMA public TO {settler}")).await;
    let mut engine = claimed(database.engine().await).await;
    let preamble = "SET statement_timeout = 0; SET lock_timeout = 0; SET client_encoding = 'UTF8'; SET row_security = off;\n\
                    SELECT pg_catalog.set_config('search_path', '', false);\n\
                    SET session_replication_role = replica; SET default_tablespace = ''; SET check_function_bodies = false;\n\
                    CREATE TEMP TABLE left_behind (id int); PREPARE left_behind AS SELECT 1;\n\
                    CREATE TABLE public.a (id int); SET ROLE settler; CREATE TABLE public.b (id int);";
    let preamble = preamble.replace("settler", &settler);
    let check = "DO $$ BEGIN\n\
                 ASSERT current_setting('search_path') = '\"$user\", public', current_setting('search_path');\n\
                 ASSERT current_setting('session_replication_role') = 'origin';\n\
                 ASSERT current_setting('lock_timeout') = '200ms', current_setting('lock_timeout');\n\
                 ASSERT current_setting('client_connection_check_interval') = '500ms';\n\
                 ASSERT current_setting('check_function_bodies') = 'on';\n\
                 ASSERT current_user = session_user;\n\
                 ASSERT to_regclass('left_behind') IS NULL;\n\
                 ASSERT NOT EXISTS (SELECT FROM pg_prepared_statements);\n\
                 END $$; CREATE TABLE c (id int);";
    apply(&mut engine, &[("001_a.sql", &preamble), ("002_b.sql", check)]).await.unwrap();
    assert_eq!(history(&database).await, "001 002");
    let role = database.value("SELECT applied_role FROM belay.history WHERE number = 1").await;
    assert_eq!(role, Some(database.role.clone()));
    assert!(exists(&database, "public.c").await);
}

#[tokio::test]
async fn scripts_run_on_the_search_path_that_was_asked_for() {
    let database = Postgres::shared().database().await;
    database.admin(&format!("CREATE SCHEMA \"App\" AUTHORIZATION {}", database.role)).await;
    let mut target = database.target();
    target.search_path = vec!["App".into(), "public".into()];
    let engine = Engine::connect(target, "belay/test").await.unwrap();
    let mut engine = claimed(engine).await;
    let files = [("001_a.sql", "CREATE TABLE a (id int)"), ("002_b.sql", "CREATE TABLE b (id int)")];
    apply(&mut engine, &files).await.unwrap();
    assert!(exists(&database, "\"App\".a").await && exists(&database, "\"App\".b").await);
}

#[tokio::test]
async fn a_script_may_end_in_a_comment_or_lack_its_last_semicolon() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let files = [
        ("001_a.sql", "CREATE TABLE a (id int); -- done"),
        ("002_b.sql", "CREATE TABLE b (id int)"),
        ("003_c.sql", "SELECT 1;;; SELECT 2;;"),
    ];
    apply(&mut engine, &files).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
}

#[tokio::test]
async fn a_script_that_resets_all_settings_is_applied() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text = "SET work_mem = '1MB'; CREATE TABLE a (id int); RESET ALL;";
    apply(&mut engine, &[("001_a.sql", text)]).await.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn all_pending_is_all_or_nothing() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let good = [("001_a.sql", "CREATE TABLE a (id int)"), ("002_b.sql", "CREATE TABLE b (id int)")];
    let bad = [good[0], good[1], ("003_c.sql", "SELECT 1;\n SELECT nothing")];
    let error = apply_as(&mut engine, &bad, TransactionMode::AllPending).await.unwrap_err();
    assert_eq!((error.failure().line, error.failure().script.as_deref()), (Some(2), Some("003_c.sql")));
    assert!(error.to_string().ends_with("Nothing of the 3 scripts is applied."), "{error}");
    assert_eq!(history(&database).await, "");
    assert!(!exists(&database, "a").await);

    apply_as(&mut engine, &good, TransactionMode::AllPending).await.unwrap();
    assert_eq!(history(&database).await, "001 002");
    let transactions = database.value("SELECT count(DISTINCT xmin::text)::text FROM belay.history").await;
    assert_eq!(transactions.as_deref(), Some("1"));
}

#[tokio::test]
async fn in_one_transaction_a_later_script_may_mend_what_an_earlier_one_left_open() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let open = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED); \
                INSERT INTO b VALUES (1)";
    let files = [
        ("001_a.sql", open),
        ("002_b.sql", "SET search_path = ''; INSERT INTO public.a VALUES (1)"),
        ("003_c.sql", "INSERT INTO b VALUES (1)"),
    ];
    // What stays open is not blamed on the script that it is found behind.
    let unmended = [files[0], ("002_b.sql", "SELECT 1")];
    let error = apply_as(&mut engine, &unmended, TransactionMode::AllPending).await.unwrap_err();
    assert!(error.to_string().starts_with("One of the 2 scripts, deferred constraint \"b_a_fkey\": "), "{error}");
    assert_eq!((error.failure().script, error.failure().sql_state.as_deref()), (None, Some("23503")));
    apply_as(&mut engine, &files, TransactionMode::AllPending).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
}

#[tokio::test]
async fn scripts_that_clash_in_one_transaction_come_with_the_advice_to_part_them() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    apply(&mut engine, &[("001_a.sql", "CREATE TYPE mood AS ENUM ('ok')")]).await.unwrap();
    let files = [("002_b.sql", "ALTER TYPE mood ADD VALUE 'sad'"), ("003_c.sql", "SELECT 'sad'::mood")];
    let error = apply_as(&mut engine, &files, TransactionMode::AllPending).await.unwrap_err();
    assert_eq!(error.failure().sql_state.as_deref(), Some("55P04"));
    assert!(error.to_string().ends_with("PerScript (--transaction per-script)."), "{error}");
    apply(&mut engine, &files).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
}

#[tokio::test]
async fn a_commit_that_no_parser_sees_is_refused_by_the_server_and_leaves_nothing() {
    let database = Postgres::shared().database().await;
    database.admin("CREATE PROCEDURE hidden() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'").await;
    let mut engine = claimed(database.engine().await).await;
    let error = apply(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int); CALL hidden();")]).await.unwrap_err();
    assert_eq!(error.failure().sql_state.as_deref(), Some("2D000"));
    assert!(matches!(error, ApplyError::Script(_)));
    assert_eq!(history(&database).await, "");
    assert!(!exists(&database, "a").await);
}

#[tokio::test]
async fn progress_names_script_statement_and_line_while_it_runs() {
    let database = Postgres::shared().database().await;
    database.admin("CREATE TABLE gate (open bool); GRANT ALL ON gate TO PUBLIC").await;
    let mut engine = claimed(database.engine().await).await;
    let seen = std::sync::Mutex::new(Vec::new());
    let at_gate = tokio::sync::Notify::new();
    let tell = |at: Progress<'_>| {
        let file = &at.script.file_name;
        let told = format!("{}/{} {file} {}/{} line {}", at.number, at.scripts, at.statement, at.statements, at.line);
        seen.lock().unwrap().push(told);
        if at.statement == 2 {
            at_gate.notify_one();
        }
    };
    let gated =
        "SELECT 1;\nDO $$ BEGIN WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.005); END LOOP; END $$;";
    let scripts = scripts(&[("001_a.sql", gated), ("002_b.sql", "\nSELECT 3;")]);
    let (run, never) = (run(), CancellationToken::new());
    let apply = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &never);
    let open = async {
        at_gate.notified().await;
        database.admin("INSERT INTO gate VALUES (true)").await;
    };
    let (applied, ()) = tokio::join!(apply, open);
    applied.unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.dedup();
    assert_eq!(seen, ["1/2 001_a.sql 1/2 line 1", "1/2 001_a.sql 2/2 line 2", "2/2 002_b.sql 1/1 line 2"]);
}

#[tokio::test]
async fn a_script_that_stops_in_mid_statement_is_told_as_its_own_error() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let nested = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC\n\
                  CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; END; SELECT 1";
    for (text, line, statement) in [
        ("SELECT 1;\nSELECT 2 +", 2, 2),
        ("SELECT 1;\nSELECT 2 + -- more", 2, 2),
        ("SELECT 1;\nCREATE TABLE\n", 2, 2),
        (nested, 2, 2),
    ] {
        let error = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ScriptFailed, "{text}: {error}");
        assert!(error.is_held());
        let failure = error.failure();
        assert_eq!(failure.sql_state.as_deref(), Some("42601"), "{text}");
        assert_eq!((failure.line, failure.statement), (Some(line), Some(statement)), "{text}: {failure:?}");
    }
    assert_eq!(history(&database).await, "");
}

#[tokio::test]
async fn a_character_that_the_databases_encoding_lacks_is_the_scripts_own_error_before_anything_of_it_runs() {
    let database = Postgres::shared().database().await.encoded("LATIN1").await;
    let mut engine = claimed(database.engine().await).await;
    let lacks = "SELECT 1;\nCREATE TABLE a (id int); -- \u{20ac}";
    // In a comment between statements, which no statement's own message has.
    let apart = "-- belay: no-transaction\nCREATE TABLE a (id int);\n-- \u{20ac}\nSELECT 1;";
    for (mode, files) in [
        (TransactionMode::PerScript, vec![("001_a.sql", lacks)]),
        (TransactionMode::PerScript, vec![("001_a.sql", apart)]),
        (TransactionMode::AllPending, vec![("001_b.sql", "SELECT 'é'"), ("002_a.sql", lacks)]),
    ] {
        let error = apply_as(&mut engine, &files, mode).await.unwrap_err();
        let failure = error.failure();
        assert_eq!((error.reason(), failure.sql_state.as_deref()), (Reason::ScriptFailed, Some("22P05")), "{error}");
        assert!(error.is_held() && failure.script.as_deref() == files.last().map(|(name, _)| *name), "{error}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("encoding")), "{error}");
    }
    // Neither script left its table behind.
    let takes = "-- belay: no-transaction\nCREATE TABLE a (id int);\n-- é\nSELECT 1;";
    apply(&mut engine, &[("001_a.sql", takes)]).await.unwrap();
}

#[tokio::test]
async fn a_database_without_an_encoding_tells_errors_at_their_column_too() {
    let database = Postgres::shared().database().await.encoded("SQL_ASCII").await;
    let mut engine = claimed(database.engine().await).await;
    let whole = "CREATE TABLE a (id int); -- é\nSELECT 'ééé',\n'é', nothing FROM a;";
    let apart = format!("-- belay: no-transaction\n{whole}");
    let in_copy = "CREATE TABLE b (é int);\nCOPY b (é) FROM stdin (nothing);\n1\n\\.\n";
    for (text, line, column, state) in
        [(whole, 3, 6, "42703"), (in_copy, 2, 24, "42601"), (apart.as_str(), 4, 6, "42703")]
    {
        let failure = apply(&mut engine, &[("001_a.sql", text)]).await.unwrap_err().failure();
        assert_eq!(failure.sql_state.as_deref(), Some(state), "{failure:?}");
        assert_eq!((failure.line, failure.column, failure.statement), (Some(line), Some(column), Some(2)), "{text}");
    }
}
