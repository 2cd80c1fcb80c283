//! Statements that ended outside a transaction without an answer, or with an error: whether they were done, and what they
//! left.

use belay::api::Reason;

use super::apply::{exists, history};
use super::outside::{engine, kill, statements, waits, with_table};
use super::scripts::apply;
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::{SOON, eventually};

/// A database with these objects, owned by the role that migrates.
async fn with(setup: &str) -> TestDatabase {
    let database = Postgres::shared().database().await;
    let mut owner = database.owner().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(setup)).execute(&mut owner).await.unwrap();
    database
}

#[tokio::test]
async fn what_is_to_be_dropped_and_is_not_there_fails_in_the_servers_words_and_is_not_taken_for_done() {
    let setup = "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE p (a int); CREATE SCHEMA s; \
                 CREATE TABLE s.u (a int); CREATE INDEX i ON s.u (a)";
    let database = with(setup).await;
    let mut engine = engine(&database).await;
    for (text, state) in [
        ("DROP INDEX CONCURRENTLY typo", "42704"),
        ("DROP INDEX CONCURRENTLY i", "42704"),
        ("DROP INDEX CONCURRENTLY nowhere.i", "3F000"),
        ("DROP INDEX CONCURRENTLY elsewhere.public.i", "0A000"),
        ("ALTER TABLE t DETACH PARTITION typo CONCURRENTLY", "42P01"),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", "42P01"),
        ("DROP DATABASE typo", "3D000"),
        ("DROP TABLESPACE typo", "42704"),
        ("DROP SUBSCRIPTION typo", "42704"),
    ] {
        let error = apply(&mut engine, &[("001_d.sql", text)]).await.expect_err(text);
        let said = (error.reason(), error.failure().sql_state);
        assert_eq!(said, (Reason::ScriptFailed, Some(state.to_owned())), "{error}");
        assert_eq!((history(&database).await.as_str(), statements(&database).await.as_str()), ("", ""), "{text}");
    }
}

#[tokio::test]
async fn what_may_be_missing_and_is_counts_as_dropped() {
    let database = with("CREATE SCHEMA s; CREATE TABLE s.u (a int); CREATE INDEX i ON s.u (a)").await;
    let mut engine = engine(&database).await;
    let files = [
        ("001_i.sql", "DROP INDEX CONCURRENTLY IF EXISTS i"),
        ("002_d.sql", "DROP DATABASE IF EXISTS typo"),
        ("003_p.sql", "ALTER TABLE IF EXISTS typo DETACH PARTITION p CONCURRENTLY"),
    ];
    apply(&mut engine, &files).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
    assert!(exists(&database, "s.i").await);
}

#[tokio::test]
async fn an_index_whose_drop_was_never_answered_is_dropped_if_it_was_there_before_and_is_not_any_more() {
    // A row as an older Belay wrote it does not say.
    for older in ["SELECT 1", "UPDATE belay.statement SET before = NULL"] {
        let database = with_table().await;
        database.admin("CREATE INDEX i ON t (a)").await;
        let mut old = database.superuser().await;
        sqlx::raw_sql("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();
        let files = [("001_i.sql", "DROP INDEX CONCURRENTLY i")];
        let mut died = engine(&database).await;
        tokio::select! {
            ended = apply(&mut died, &files) => panic!("it did not wait: {ended:?}"),
            () = waits(&database, "wait_event_type = 'Lock'") => {}
        }
        drop(died);
        kill(&database).await;
        let gone =
            format!("SELECT 'yes' WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = '{}')", database.role);
        eventually("its session is gone", SOON, async || database.value(&gone).await).await;
        sqlx::raw_sql("COMMIT; DROP INDEX i").execute(&mut old).await.unwrap();
        assert_eq!(statements(&database).await, "1?");
        database.admin(older).await;
        apply(&mut engine(&database).await, &files).await.unwrap();
        assert_eq!((history(&database).await.as_str(), statements(&database).await.as_str()), ("001", "1"));
    }
}
