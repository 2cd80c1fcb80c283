//! Scripts that bring data: COPY … FROM STDIN.

use belay::api::{Reason, TransactionMode};

use super::apply::{exists, history};
use super::scripts::{apply, apply_as, claimed};
use crate::support::SOON;
use crate::support::postgres::Postgres;

#[tokio::test]
async fn data_comes_with_its_script_in_one_transaction_and_stays_out_of_the_ledger() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let script = "-- é\nCREATE TABLE a (id int, t text);\nCOPY a FROM STDIN; -- two rows\n1\tit's; a $$ trap\n2\t\\N\n\\.\n\
                  COPY a (id, t) FROM STDIN WITH (FORMAT csv, HEADER);\nid,t\n3,\"ü, 🧗\"\n\\.\n\
                  UPDATE a SET id = id + 10;\nCOPY a FROM STDIN;\n\\.\nCOPY a FROM STDIN;\n9\tlast\n\\.";
    apply(&mut engine, &[("001_a.sql", script), ("002_b.sql", "CREATE TABLE b AS SELECT count(*) AS n FROM a")])
        .await
        .unwrap();
    let rows = "SELECT string_agg(id || '=' || coalesce(t, 'NULL'), '|' ORDER BY id) FROM a";
    assert_eq!(database.value(rows).await.as_deref(), Some("9=last|11=it's; a $$ trap|12=NULL|13=ü, 🧗"));
    assert_eq!(database.value("SELECT n::text FROM b").await.as_deref(), Some("4"));
    let same = "SELECT (h.xmin = a.xmin)::text FROM belay.history h, a WHERE h.version = '001' AND a.id = 9";
    assert_eq!(database.value(same).await.as_deref(), Some("true"));
    let text = database.value("SELECT script FROM belay.history WHERE version = '001'").await.unwrap();
    assert!(text.contains("COPY a FROM STDIN") && !text.contains("trap") && !text.contains("last"), "{text}");
}

/// Each would wait 40 ms for a network's acknowledgement.
#[tokio::test]
async fn a_dump_of_many_small_tables_does_not_wait_for_the_network_at_each() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let script = format!("CREATE TABLE a (id int);\n{}", "COPY a FROM STDIN;\n1\n\\.\n".repeat(5000));
    tokio::time::timeout(SOON, apply(&mut engine, &[("001_a.sql", &script)])).await.expect("it is done soon").unwrap();
    assert_eq!(database.value("SELECT count(*)::text FROM a").await.as_deref(), Some("5000"));
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_told_by_its_line_and_without_its_values() {
    for mode in [TransactionMode::PerScript, TransactionMode::AllPending] {
        let database = Postgres::shared().database().await;
        let mut engine = claimed(database.engine().await).await;
        // More than a socket's buffers behind the bad row: the server ignores it, and the session lives on.
        let rest = "7\n".repeat(2_000_000);
        let script = format!("-- é\nCREATE TABLE a (id int);\nCOPY a FROM STDIN;\n1\nhunter2\n{rest}\\.\nSELECT 1;\n");
        let error = apply_as(&mut engine, &[("001_a.sql", &script)], mode).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ScriptFailed);
        let failure = error.failure();
        assert_eq!((failure.line, failure.column, failure.statement), (Some(5), Some(1), Some(2)), "{failure:?}");
        assert_eq!((failure.command.as_deref(), failure.sql_state.as_deref()), (Some("COPY"), Some("22P02")));
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        assert!(failure.message.ends_with("Nothing of 001 is applied."), "{}", failure.message);
        assert!(!exists(&database, "a").await);
        apply_as(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int)")], mode).await.unwrap();
        assert_eq!(history(&database).await, "001");
    }
}

#[tokio::test]
async fn a_copy_that_the_server_refuses_is_told_by_its_place() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let script = "SELECT 1;\nCOPY nowhere FROM STDIN;\n1\n\\.\n";
    let failure = apply(&mut engine, &[("001_a.sql", script)]).await.unwrap_err().failure();
    assert_eq!((failure.line, failure.statement, failure.sql_state.as_deref()), (Some(2), Some(2), Some("42P01")));
    let script = "COPY a (id, none) FROM STDIN;\n1\t2\n\\.\n";
    apply(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int)")]).await.unwrap();
    let failure = apply(&mut engine, &[("002_b.sql", script)]).await.unwrap_err().failure();
    assert_eq!((failure.line, failure.statement, failure.sql_state.as_deref()), (Some(1), Some(1), Some("42703")));
    assert_eq!(history(&database).await, "001");
}
