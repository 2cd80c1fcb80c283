//! Statements that ended outside a transaction without an answer, or with an error: whether they were done, and what they
//! left.

use std::time::Duration;

use belay::api::{Reason, TransactionMode};
use belay::postgres::{ApplyError, Engine, Locks, Target};
use tokio_util::sync::CancellationToken;

use super::apply::{exists, history};
use super::outside::{engine, indexes, is_put_away, kill, statements, waits, with_table};
use super::scripts::{apply, claimed, run, scripts};
use crate::support::postgres::{Postgres, TestDatabase, signal};
use crate::support::{SOON, eventually};

/// A database with these objects, owned by the role that migrates.
pub async fn with(setup: &str) -> TestDatabase {
    let database = Postgres::shared().database().await;
    let mut owner = database.owner().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(setup)).execute(&mut owner).await.unwrap();
    database
}

/// Begins a script whose statement waits for what this holds, and loses its session there.
pub async fn lose(database: &TestDatabase, files: &[(&str, &str)], hold: &str) {
    let mut old = database.superuser().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; {hold}"))).execute(&mut old).await.unwrap();
    let mut died = engine(database).await;
    let of_role = format!("FROM pg_stat_activity WHERE usename = '{}'", database.role);
    let waits = format!("SELECT 'yes' {of_role} AND wait_event_type = 'Lock'");
    tokio::select! {
        ended = apply(&mut died, files) => panic!("it did not wait: {ended:?}"),
        _ = eventually("it waits", SOON, async || database.value(&waits).await) => {}
    }
    drop(died);
    kill(database).await;
    let gone = format!("SELECT 'yes' WHERE NOT EXISTS (SELECT {of_role})");
    eventually("its session is gone", SOON, async || database.value(&gone).await).await;
    sqlx::raw_sql("COMMIT").execute(&mut old).await.unwrap();
    assert!(statements(database).await.contains('?'));
}

/// What a dump of it gives in another database, and an engine of the same login there.
async fn restored(database: &TestDatabase) -> (TestDatabase, Engine) {
    let restored = Postgres::shared().database().await;
    restored.psql(database.dump_as_written(&[]).as_bytes());
    restored.admin(&format!("GRANT ALL ON SCHEMA public TO {}", database.role)).await;
    let url = database.url.replace(&format!("/{}", database.name), &format!("/{}", restored.name));
    let engine = Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap();
    (restored, claimed(engine).await)
}

#[tokio::test]
async fn what_was_begun_in_a_database_that_was_restored_elsewhere_is_settled_by_what_is_there() {
    let table = "CREATE TABLE t (a int); CREATE INDEX i ON t (a);";
    let partitions = "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE p PARTITION OF t FOR VALUES IN (1);";
    let partition_of = "SELECT count(*)::text FROM pg_inherits WHERE inhparent = 't'::regclass";
    let indexes = "SELECT count(*)::text FROM pg_index WHERE indrelid = 't'::regclass";
    for (setup, text, count, left) in [
        (table, "DROP INDEX CONCURRENTLY i", indexes, "0"),
        (partitions, "ALTER TABLE t DETACH PARTITION p CONCURRENTLY", partition_of, "0"),
        (table, "CREATE INDEX CONCURRENTLY j ON t (a)", indexes, "2"),
    ] {
        let database = with(setup).await;
        let files = [("001_d.sql", text)];
        lose(&database, &files, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").await;
        let (restored, mut engine) = restored(&database).await;
        apply(&mut engine, &files).await.unwrap();
        assert_eq!(
            (restored.value(count).await.as_deref(), history(&restored).await.as_str()),
            (Some(left), "001"),
            "{text}"
        );
    }
    // Of two indexes that are just alike, nobody knows which is which.
    let database = with(table).await;
    let files = [("001_d.sql", "CREATE INDEX CONCURRENTLY ON t (a)")];
    lose(&database, &files, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").await;
    let (_restored, mut engine) = restored(&database).await;
    assert_eq!(apply(&mut engine, &files).await.unwrap_err().reason(), Reason::InDoubt);
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
        let files = [("001_i.sql", "DROP INDEX CONCURRENTLY i")];
        lose(&database, &files, "LOCK TABLE t IN ROW EXCLUSIVE MODE").await;
        database.admin("DROP INDEX i").await;
        database.admin(older).await;
        apply(&mut engine(&database).await, &files).await.unwrap();
        assert_eq!((history(&database).await.as_str(), statements(&database).await.as_str()), ("001", "1"));
    }
}

#[tokio::test]
async fn what_was_dropped_while_its_drop_was_lost_and_made_anew_under_its_name_stays() {
    let database =
        with("CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE p PARTITION OF t FOR VALUES IN (1)").await;
    let other = format!("{}_other", database.role);
    let (drop, make) = (format!("DROP DATABASE {other}"), format!("CREATE DATABASE {other} OWNER {}", database.role));
    let drop_database = format!("-- belay: no-transaction\nSET lock_timeout = '1min';\n{drop}");
    database.admin(&make).await;
    for (file, text, hold, anew, stays) in [
        (
            "002_p.sql",
            "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
            "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE",
            ["DROP TABLE p", "CREATE TABLE p PARTITION OF t FOR VALUES IN (1)"],
            "SELECT inhrelid::text FROM pg_inherits WHERE inhrelid = 'p'::regclass",
        ),
        (
            "003_d.sql",
            &drop_database,
            &format!("COMMENT ON DATABASE {other} IS NULL"),
            [&drop, &make],
            &format!("SELECT datname FROM pg_database WHERE datname = '{other}'"),
        ),
    ] {
        let files = [(file, text)];
        lose(&database, &files, hold).await;
        for statement in anew {
            database.admin(statement).await;
        }
        apply(&mut engine(&database).await, &files).await.unwrap();
        assert!(database.value(stays).await.is_some(), "{text}");
    }
    assert_eq!(history(&database).await, "002 003");
    database.admin(&drop).await;
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

const NO_TEMPORARY_TABLES: &str = "DO $$ BEGIN EXECUTE (SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC, %s', \
     datname, datdba::regrole) FROM pg_database WHERE datname = current_database()); END $$";

#[tokio::test]
async fn an_index_whose_build_was_never_answered_is_built_if_one_is_defined_so_and_where_nothing_tells_in_doubt() {
    let files = [("001_i.sql", "CREATE INDEX CONCURRENTLY ON t (a)")];
    for (found, in_doubt, left) in [
        ("CREATE INDEX i ON t USING btree (a)", false, "i"),
        ("CREATE INDEX i ON t (b)", false, "i t_a_idx"),
        (&format!("CREATE INDEX i ON t (a); {NO_TEMPORARY_TABLES}"), true, "i"),
    ] {
        let database = with_table().await;
        lose(&database, &files, "LOCK TABLE t IN ROW EXCLUSIVE MODE").await;
        // Its own half of an index would be in the others' way.
        database.admin("DROP INDEX IF EXISTS t_a_idx").await;
        database.admin(found).await;
        let applied = apply(&mut engine(&database).await, &files).await;
        let reason = applied.err().map(|error| error.reason());
        assert_eq!((reason, indexes(&database).await.as_str()), (in_doubt.then_some(Reason::InDoubt), left), "{found}");
    }
}

#[tokio::test]
async fn how_an_index_is_defined_is_not_waited_for_behind_a_lock() {
    let database = with_table().await;
    database.admin("CREATE INDEX i ON t (a)").await;
    let mut target = database.target();
    target.locks = Locks { retry_for: Duration::from_secs(1), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let mut blocker = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t").execute(&mut blocker).await.unwrap();
    let files = [("001_i.sql", "CREATE INDEX CONCURRENTLY i ON t (a)")];
    let applied = tokio::time::timeout(SOON, apply(&mut engine, &files)).await.expect("it gives way");
    assert_eq!(applied.unwrap_err().reason(), Reason::LockTimeout);
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.unwrap();
    apply(&mut engine, &files).await.unwrap();
    assert_eq!((history(&database).await.as_str(), indexes(&database).await.as_str()), ("001", "i"));
}

#[tokio::test]
async fn an_index_that_another_made_meanwhile_is_not_taken_for_the_one_whose_build_failed() {
    for (setup, text, other, state, left) in [
        ("SELECT 1", "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)", "CREATE INDEX other ON t (b)", "23505", "other"),
        ("SELECT 1", "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)", "CREATE INDEX other ON t (a)", "23505", "other"),
        ("SELECT 1", "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i ON t (b)", "42P07", "i"),
        (
            NO_TEMPORARY_TABLES,
            "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)",
            "CREATE INDEX other ON t (b)",
            "23505",
            "other",
        ),
    ] {
        let database = with_table().await;
        database.admin(setup).await;
        let mut engine = engine(&database).await;
        let mut another = database.superuser().await;
        let other = format!("BEGIN; {other}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(other.as_str())).execute(&mut another).await.unwrap();
        let release = async {
            waits(&database, "wait_event_type = 'Lock'").await;
            sqlx::raw_sql("COMMIT").execute(&mut another).await.unwrap();
        };
        let files = [("001_i.sql", text)];
        let (applied, ()) = tokio::join!(apply(&mut engine, &files), release);
        assert_eq!(applied.expect_err(&other).failure().sql_state.as_deref(), Some(state), "{other}");
        let ledger = (history(&database).await, statements(&database).await);
        assert_eq!((ledger, indexes(&database).await.as_str()), (Default::default(), left), "{other}");
    }
}

#[tokio::test]
async fn an_invalid_index_that_another_left_meanwhile_is_not_dropped() {
    let database = with_table().await;
    let mut engine = engine(&database).await;
    let (mut holder, mut another) = (database.superuser().await, database.superuser().await);
    sqlx::raw_sql("BEGIN; LOCK TABLE t IN SHARE MODE").execute(&mut holder).await.unwrap();
    let others = sqlx::raw_sql("CREATE UNIQUE INDEX CONCURRENTLY other ON t ((a + 1))").execute(&mut another);
    let ours = async {
        let queued = "SELECT 'yes' FROM pg_stat_activity WHERE query LIKE '%CONCURRENTLY other%' \
                      AND datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the other waits", SOON, async || database.value(queued).await).await;
        apply(&mut engine, &[("001_i.sql", "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)")]).await
    };
    let release = async {
        waits(&database, "wait_event_type = 'Lock'").await;
        sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    };
    let (built, applied, ()) = tokio::join!(others, ours, release);
    built.unwrap_err();
    assert_eq!(applied.unwrap_err().failure().sql_state.as_deref(), Some("23505"));
    assert_eq!(indexes(&database).await, "other!");
}

#[tokio::test]
async fn a_build_on_a_materialized_view_that_fails_leaves_no_invalid_index_either() {
    let database = with(
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1); \
                         CREATE MATERIALIZED VIEW v AS SELECT a FROM t",
    )
    .await;
    let mut engine = engine(&database).await;
    let files = [("001_i.sql", "CREATE UNIQUE INDEX CONCURRENTLY i ON v (a)")];
    let error = apply(&mut engine, &files).await.unwrap_err();
    assert_eq!(error.failure().sql_state.as_deref(), Some("23505"));
    assert!(!exists(&database, "i").await);
    database.admin("TRUNCATE t; REFRESH MATERIALIZED VIEW v").await;
    apply(&mut engine, &files).await.unwrap();
    assert_eq!((history(&database).await.as_str(), exists(&database, "i").await), ("001", true));
}

#[tokio::test]
async fn a_database_whose_drop_was_cut_short_is_not_said_to_be_untouched_and_the_next_run_drops_it() {
    // Every other session has to agree to a drop; one of another test's would too.
    let server = Postgres::start();
    let database = server.database().await;
    let other = format!("{}_other", database.role);
    database.admin(&format!("CREATE DATABASE {other} OWNER {}", database.role)).await;
    let files = [("001_d.sql", format!("DROP DATABASE {other}"))];
    let files = [(files[0].0, files[0].1.as_str())];
    let mut deaf = server.superuser("postgres").await;
    let pid: String = sqlx::query_scalar("SELECT pg_backend_pid()::text").fetch_one(&mut deaf).await.unwrap();
    let mut engine = engine(&database).await;
    let (dropped, run, cancel) = (scripts(&files), run(), CancellationToken::new());
    signal("STOP", &pid);
    let stop = async {
        let waits =
            "SELECT 'yes' FROM pg_stat_activity WHERE query LIKE 'DROP DATABASE%' AND wait_event = 'ProcSignalBarrier'";
        eventually("it waits for all sessions", SOON, async || database.value(waits).await).await;
        cancel.cancel();
    };
    let applied = engine.apply(&dropped, TransactionMode::PerScript, &run, &|_| {}, &cancel);
    let error = tokio::join!(applied, stop).0.unwrap_err();
    signal("CONT", &pid);
    assert!(error.to_string().contains("Of 001, this statement was begun"), "{error}");
    let left = format!("SELECT datconnlimit::text FROM pg_database WHERE datname = '{other}'");
    assert_eq!(database.value(&left).await.as_deref(), Some("-2"));
    apply(&mut engine, &files).await.unwrap();
    assert_eq!((database.value(&left).await, history(&database).await.as_str()), (None, "001"));
}

#[tokio::test]
async fn what_another_made_under_the_name_of_what_failed_to_be_made_is_not_taken_for_it() {
    let server = Postgres::start();
    let database = server.database().await;
    let (made, template) = (format!("{}_made", database.role), format!("{}_template", database.role));
    database.admin(&format!("ALTER ROLE {} CREATEDB", database.role)).await;
    database.admin(&format!("CREATE DATABASE {template} OWNER {}", database.role)).await;
    // For which the server waits for five seconds.
    let in_use = server.superuser(&template).await;
    let mut engine = engine(&database).await;
    let text = format!("CREATE DATABASE {made} TEMPLATE {template}");
    let files = [("001_d.sql", text.as_str())];
    let anothers = async {
        let begun = "SELECT 'yes' FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE%' AND state = 'active'";
        eventually("it waits", SOON, async || database.value(begun).await).await;
        database.admin(&format!("CREATE DATABASE {made} TEMPLATE template0")).await;
    };
    let error = tokio::join!(apply(&mut engine, &files), anothers).0.unwrap_err();
    assert_eq!(error.failure().sql_state.as_deref(), Some("55006"), "{error}");
    assert_eq!((history(&database).await.as_str(), statements(&database).await.as_str()), ("", ""));
    drop(in_use);
}

#[tokio::test]
async fn an_index_in_whose_place_another_stands_since_its_drop_was_begun_is_in_doubt() {
    let database = with("CREATE TABLE t (a int); CREATE INDEX i ON t (a)").await;
    let files = [("001_d.sql", "DROP INDEX CONCURRENTLY i")];
    lose(&database, &files, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE").await;
    database.admin("REINDEX INDEX CONCURRENTLY i").await;
    let error = apply(&mut engine(&database).await, &files).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InDoubt, "{error}");
    assert_eq!(indexes(&database).await, "i");
}

#[tokio::test]
async fn a_definition_may_name_its_table() {
    let database = with("CREATE TABLE t (a int); CREATE INDEX i ON t ((t.a + 1))").await;
    let files = [("001_i.sql", "CREATE INDEX CONCURRENTLY i ON t ((t.a + 1))")];
    apply(&mut engine(&database).await, &files).await.unwrap();
    assert_eq!(history(&database).await, "001");
}

#[tokio::test]
async fn while_definitions_are_compared_blockers_are_told_and_a_cancel_is_heeded() {
    let database = with("CREATE TABLE t (a int); CREATE INDEX i ON t (a)").await;
    let mut target = database.target();
    target.locks = Locks { lock_timeout: Duration::from_secs(600), ..Locks::default() };
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let mut busy = database.superuser().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE t").execute(&mut busy).await.unwrap();
    let (scripts, run, cancel) =
        (scripts(&[("001_i.sql", "CREATE INDEX CONCURRENTLY i ON t (a)")]), run(), CancellationToken::new());
    let tell = |at: belay::postgres::Progress<'_>| {
        if !at.waiting_on.is_empty() {
            cancel.cancel();
        }
    };
    let applied = engine.apply(&scripts, TransactionMode::PerScript, &run, &tell, &cancel);
    let error = tokio::time::timeout(SOON, applied).await.expect("it ends").unwrap_err();
    assert!(matches!(&error, ApplyError::Cancelled { .. }), "{error}");
}
