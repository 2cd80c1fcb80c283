//! What Belay takes for a statement is what the server takes for one: as many, and the pieces do what the whole does.

use belay::script::{Script, UnsupportedKind};
use futures::TryStreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Either};

use super::corpus::corpus;
use crate::support::invariants;
use crate::support::postgres::{Postgres, TestDatabase};

/// Sends a text as one message, and counts the server's answers.
pub async fn answers(connection: &mut PgConnection, sql: &str) -> Result<usize, sqlx::Error> {
    let mut stream = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(connection);
    let mut answers = 0;
    while let Some(answer) = stream.try_next().await? {
        answers += usize::from(matches!(answer, Either::Left(_)));
    }
    Ok(answers)
}

/// Sends a script's statements one by one, in one transaction.
pub async fn run_pieces(connection: &mut PgConnection, name: &str, script: &Script) {
    answers(connection, "BEGIN").await.unwrap();
    for statement in &script.statements {
        let text = script.statement_text(statement);
        let answered = match &statement.copy_data {
            None => answers(connection, text).await,
            Some(data) => send_data(connection, text, &script.text[data.clone()]).await.map(|()| 1),
        };
        assert_eq!(answered.unwrap_or_else(|error| panic!("{name}: {error}: {text}")), 1, "{name}: {text}");
    }
    answers(connection, "COMMIT").await.unwrap();
}

async fn send_data(connection: &mut PgConnection, copy: &str, data: &str) -> Result<(), sqlx::Error> {
    let mut copy = connection.copy_in_raw(copy).await?;
    copy.send(data.as_bytes()).await?;
    copy.finish().await.map(drop)
}

/// Both hold the same, schema and rows.
fn are_equal(whole: &TestDatabase, pieces: &TestDatabase) {
    let (whole, pieces) = (whole.dump(&[]), pieces.dump(&[]));
    assert!(whole.lines().count() > 100, "the dump is empty: {whole}");
    for (whole, pieces) in whole.lines().zip(pieces.lines()) {
        assert_eq!(whole, pieces);
    }
    assert_eq!(whole.len(), pieces.len());
}

async fn two_databases() -> (TestDatabase, TestDatabase) {
    let server = Postgres::shared();
    (server.database().await, server.database().await)
}

#[tokio::test]
async fn the_pieces_of_every_hard_script_do_what_the_whole_does_and_are_as_many_as_the_server_says() {
    let (whole, pieces) = two_databases().await;
    for (name, bytes) in corpus("runs") {
        let script = invariants::hold_for(&bytes).unwrap_or_else(|| panic!("{name} is no text"));
        assert_eq!(script.unsupported, None, "{name}");
        let answered = answers(&mut whole.superuser().await, &script.executable()).await;
        let answered = answered.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answered, script.statements.len(), "{name}");
        run_pieces(&mut pieces.superuser().await, &name, &script).await;
    }
    are_equal(&whole, &pieces);
}

#[tokio::test]
async fn data_in_a_script_are_what_psql_takes_for_them() {
    let (whole, pieces) = two_databases().await;
    for (name, bytes) in corpus("copy") {
        let script = invariants::hold_for(&bytes).unwrap_or_else(|| panic!("{name} is no text"));
        assert!(script.statements.iter().any(|statement| statement.copy_data.is_some()), "{name}");
        whole.psql(&bytes);
        run_pieces(&mut pieces.superuser().await, &name, &script).await;
    }
    are_equal(&whole, &pieces);
}

#[test]
fn what_must_not_run_is_refused_with_its_place_and_a_remedy() {
    for (name, bytes) in corpus("refused") {
        let script = invariants::hold_for(&bytes).unwrap_or_else(|| panic!("{name} is no text"));
        let unsupported = script.unsupported.as_ref().unwrap_or_else(|| panic!("{name} would be run"));
        assert!(!unsupported.remedy.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn end_behind_a_label_without_as_is_refused_because_the_server_commits_there() {
    let (_, bytes) = corpus("refused").into_iter().find(|(name, _)| name == "hidden_end.sql").expect("it is there");
    let text = String::from_utf8(bytes.clone()).unwrap();
    let database = Postgres::shared().database().await;
    let error = answers(&mut database.superuser().await, &format!("BEGIN;\n{text}")).await.unwrap_err();
    let state = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    assert_eq!(state.as_deref(), Some("42703"));
    assert_eq!(database.value("SELECT proname::text FROM pg_proc WHERE proname = 'f'").await.as_deref(), Some("f"));
    let unsupported = invariants::read(bytes).unwrap().unsupported.clone().unwrap();
    assert_eq!((unsupported.kind, unsupported.position.line), (UnsupportedKind::TransactionControl, 3));
}

/// Statements that any server takes in any order and number, each with something in it that looks like an end. `#` is
/// replaced by a number of its own.
const STATEMENTS: &[&str] = &[
    "INSERT INTO told VALUES ('#;')",
    "INSERT INTO told VALUES ('#\\'), ('--')",
    "INSERT INTO told VALUES (E'#\\';\\\\')",
    "INSERT INTO told VALUES (E'#'\n  '\\';' -- it's\n'\\\\')",
    "INSERT INTO told VALUES (U&'#\\0061;'), (B'01'::text), (N'\\')",
    "INSERT INTO told VALUES ($$#;'$$), ($a$ $$ ; $b$ $a $a$)",
    "INSERT INTO told SELECT 'x' AS a$$ FROM (SELECT # AS b$$) c$$",
    "INSERT INTO told SELECT #::text AS \"a;\"\"b\"",
    "INSERT INTO told SELECT (# - -1 */* ; */ 2 +-- ;\n 3)::text",
    "CREATE TABLE t# (\"a;b\" int, é$ int)",
    "CREATE FUNCTION f#() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT # end; END",
    "CREATE FUNCTION f#() RETURNS int BEGIN ATOMIC SELECT # case; SELECT 2 AS end; END",
    "CREATE PROCEDURE p#() BEGIN ATOMIC INSERT INTO told VALUES ('p#'); ; END",
    "CREATE RULE r# AS ON DELETE TO told WHERE old.text = '#' DO ALSO (SELECT 1; SELECT ';)')",
    "DO $do$ BEGIN IF true THEN INSERT INTO told VALUES ('#'); END IF; END $do$",
    "WITH x AS (SELECT ';' AS a) INSERT INTO told SELECT a || '#' FROM x",
    "SELECT 'commit', \"text\" FROM told WHERE text = $x$;#$x$",
];

/// What may stand between statements; a semicolon is in each.
const BETWEEN: &[&str] = &[
    ";",
    " ; ",
    ";\n",
    ";;\r\n",
    " -- a; comment\n;",
    ";-- it's\n",
    "/* ; /* ' */ $$ */;",
    ";\t/* -- */\u{c}",
    ";--\r",
    " /**/ ;\n-- ROLLBACK: DROP TABLE x;\n",
    ";--- /*\n",
];

#[tokio::test]
async fn whatever_stands_between_hard_statements_the_pieces_do_what_the_whole_does() {
    let (whole, pieces) = two_databases().await;
    let between = prop_oneof![prop::sample::select(BETWEEN), prop::sample::select(BETWEEN)];
    let parts = prop::collection::vec((prop::sample::select(STATEMENTS), between), 1..25);
    let mut runner = TestRunner::deterministic();
    let mut number = 0;
    for case in 0..150 {
        let parts = parts.new_tree(&mut runner).unwrap().current();
        let mut text = format!("CREATE SCHEMA s{case}; SET search_path = s{case}; CREATE TABLE told (text text);");
        for (statement, between) in &parts {
            number += 1;
            text.push_str(&statement.replace('#', &number.to_string()));
            text.push_str(between);
        }
        let script = invariants::hold_for(text.as_bytes()).expect("a script");
        assert_eq!(script.unsupported, None, "{text}");
        assert_eq!(script.statements.len(), parts.len() + 3, "{text}");
        let answered = answers(&mut whole.superuser().await, &script.executable()).await;
        assert_eq!(answered.unwrap_or_else(|error| panic!("{error}: {text}")), parts.len() + 3, "{text}");
        run_pieces(&mut pieces.superuser().await, &text, &script).await;
    }
    are_equal(&whole, &pieces);
}

#[tokio::test]
async fn what_pg_dump_writes_is_read_as_psql_reads_it() {
    let from = Postgres::shared().database().await;
    for (name, bytes) in corpus("runs") {
        // Not by psql, whose own splitting takes the label in `atomic AS end` for the end of a body.
        let script = invariants::read(bytes).expect("a script");
        let run = answers(&mut from.superuser().await, &script.executable()).await;
        run.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // With data behind COPY, which psql and the reader find by lines; and without.
    for arguments in [["--no-owner"].as_slice(), &["--inserts", "--no-owner"], &["--schema-only", "--clean"]] {
        let dump = from.dump_as_written(arguments);
        let script = invariants::hold_for(dump.as_bytes()).expect("a script");
        if !arguments.contains(&"--no-owner") {
            assert_eq!(script.unsupported, None, "{arguments:?}");
            continue;
        }
        let (whole, pieces) = two_databases().await;
        whole.psql(dump.as_bytes());
        run_pieces(&mut pieces.superuser().await, "a dump", &script).await;
        are_equal(&whole, &pieces);
    }
}
