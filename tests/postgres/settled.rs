//! Statements that ended outside a transaction without an answer, or with an error: whether they were done, and what they
//! left.

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine};
use tokio_util::sync::CancellationToken;

use super::apply::{exists, history};
use super::outside::{engine, is_put_away, kill, statements, waits, with_table};
use super::scripts::{apply, run, scripts};
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

const REBUILD: [(&str, &str); 1] = [("001_o.sql", "REINDEX TABLE CONCURRENTLY orders")];

/// Rebuilds the indexes of a table that has a TOAST table, and cuts that off by half.
async fn rebuild(
    cut_off: impl AsyncFnOnce(&TestDatabase, &CancellationToken),
) -> (TestDatabase, Engine, Result<(), ApplyError>) {
    let database = with("CREATE TABLE orders (id int PRIMARY KEY, note text)").await;
    let mut engine = engine(&database).await;
    let mut old = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE").execute(&mut old).await.unwrap();
    let (scripts, run, cancel) = (scripts(&REBUILD), run(), CancellationToken::new());
    let lose = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        let left = "SELECT string_agg(n.nspname, ' ' ORDER BY n.nspname) FROM pg_index i \
                    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE NOT i.indisvalid";
        assert_eq!(database.value(left).await.as_deref(), Some("pg_toast public"));
        cut_off(&database, &cancel).await;
        is_put_away(&database).await;
        sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let (applied, ()) = tokio::join!(applied, lose);
    assert!(exists(&database, "orders_pkey").await && !exists(&database, "orders_pkey_ccnew").await);
    (database, engine, applied)
}

/// What looks like the leavings of a rebuild, on a table that the role may not even lock.
async fn leave_another(database: &TestDatabase) {
    database.admin("CREATE TABLE a (id int); INSERT INTO a VALUES (1), (1)").await;
    let build = "CREATE UNIQUE INDEX CONCURRENTLY a_ccnew ON a (id)";
    sqlx::raw_sql(build).execute(&mut database.superuser().await).await.unwrap_err();
}

#[tokio::test]
async fn a_rebuild_that_was_cut_off_is_done_again_and_what_it_left_on_a_toast_table_is_in_nobodys_way() {
    let (database, _, applied) = rebuild(async |database, _| kill(database).await).await;
    applied.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn what_cannot_be_put_away_after_a_rebuild_keeps_neither_the_rest_from_it_nor_the_rebuild_from_being_done() {
    let (database, _, applied) = rebuild(async |database, _| {
        leave_another(database).await;
        kill(database).await;
    })
    .await;
    applied.unwrap();
    assert_eq!(history(&database).await, "001");
    assert!(exists(&database, "a_ccnew").await);
}

#[tokio::test]
async fn what_a_cancelled_rebuild_could_not_put_away_the_next_run_does() {
    let (database, mut engine, applied) = rebuild(async |database, cancel| {
        leave_another(database).await;
        cancel.cancel();
    })
    .await;
    let error = applied.unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
    assert_eq!(statements(&database).await, "1?");
    database.admin(&format!("ALTER TABLE a OWNER TO {}", database.role)).await;
    apply(&mut engine, &REBUILD).await.unwrap();
    assert_eq!((history(&database).await.as_str(), exists(&database, "a_ccnew").await), ("001", false));
}
