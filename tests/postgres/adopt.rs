use std::time::Duration;

use belay::api::Reason;
use belay::plan::{Plan, Policy, Tool, plan};
use belay::postgres::{Engine, PostgresError};
use belay::script::History;
use tokio_util::sync::CancellationToken;

use super::scripts::{claimed, run};
use crate::support::postgres::{Postgres, TestDatabase};

/// As golang-migrate makes it.
const LEDGER: &str = "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL); INSERT INTO schema_migrations VALUES (2, false)";

async fn owned(sql: &str) -> TestDatabase {
    let database = Postgres::shared().database().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut database.owner().await).await.unwrap();
    database
}

/// The plan that takes over what it finds, for scripts 1 to 3; and a connection that does not wait for the tool.
async fn planned(database: &TestDatabase) -> (Engine, Plan) {
    let mut target = database.target();
    target.locks.retry_for = Duration::ZERO;
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    let files = ["1_a.sql", "2_b.sql", "3_c.sql"].map(|name| (name.to_owned(), b"SELECT 1".to_vec()));
    let history = History::from_files(files).unwrap();
    let policy = Policy { adopt: true, ..Policy::default() };
    let plan = plan(&history, &engine.ledger().await.unwrap(), &policy).unwrap();
    (engine, plan)
}

async fn record(engine: &mut Engine, plan: &Plan) -> Result<(), PostgresError> {
    engine.record_present(&run(), plan, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_ledger_of_another_tool_is_found_read_and_taken_over_in_one_transaction() {
    let database = owned(LEDGER).await;
    let (mut engine, plan) = planned(&database).await;
    assert_eq!(plan.adopted.as_ref().map(|ledger| ledger.tool), Some(Tool::GolangMigrate));
    record(&mut engine, &plan).await.unwrap();
    let ledger = engine.ledger().await.unwrap();
    assert_eq!(ledger.rows.iter().map(|row| row.mode.as_str()).collect::<Vec<_>>(), ["adopted", "adopted"]);
    assert!(ledger.foreign.is_empty(), "with rows of its own, Belay looks at no other ledger");
    let event = database.value("SELECT (detail - 'versions')::text FROM belay.event WHERE kind = 'adopted'").await;
    assert_eq!(event.as_deref(), Some("{\"tool\": \"golang-migrate\", \"table\": \"public.schema_migrations\"}"));
    let transactions = "SELECT count(DISTINCT xmin::text)::text FROM (SELECT xmin FROM belay.history UNION ALL SELECT xmin FROM \
                        belay.event) written";
    assert_eq!(database.value(transactions).await.as_deref(), Some("1"));
    let left = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database \
                WHERE datname = current_database())";
    assert_eq!(database.value(left).await.as_deref(), Some("1"), "the tool's lock is let go, and Belay's is kept");
}

#[tokio::test]
async fn a_tool_that_is_at_work_is_left_alone() {
    let database = owned(LEDGER).await;
    let (mut engine, plan) = planned(&database).await;
    // As golang-migrate's command line: crc32 of schema, table and the URL's path, times its salt.
    let name = format!("public\0schema_migrations\0/{}", database.name);
    let key = belay::plan::crc32([name.as_bytes()]).wrapping_mul(1_486_364_155);
    let mut other = database.superuser().await;
    sqlx::query(sqlx::AssertSqlSafe(format!("SELECT pg_advisory_lock({key})"))).execute(&mut other).await.unwrap();
    let error = record(&mut engine, &plan).await.unwrap_err();
    assert!(matches!(error, PostgresError::ForeignBusy { tool: "golang-migrate", .. }), "{error}");
    assert_eq!((error.reason(), error.is_transient()), (Reason::LockHeld, true));
    assert_eq!(database.value("SELECT count(*)::text FROM belay.history").await.as_deref(), Some("0"));
    sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut other).await.unwrap();
    record(&mut engine, &plan).await.unwrap();
}

#[tokio::test]
async fn a_tool_without_a_lock_that_writes_is_left_alone() {
    let database = owned("CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY); INSERT INTO __diesel_schema_migrations VALUES ('1')").await;
    let (mut engine, plan) = planned(&database).await;
    let mut other = database.owner().await;
    sqlx::raw_sql("BEGIN; INSERT INTO __diesel_schema_migrations VALUES ('2')").execute(&mut other).await.unwrap();
    let error = record(&mut engine, &plan).await.unwrap_err();
    assert!(matches!(error, PostgresError::ForeignBusy { .. }), "{error}");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    let error = record(&mut engine, &plan).await.unwrap_err();
    assert!(matches!(error, PostgresError::ForeignMoved { .. }), "what was planned is out of date: {error}");
    assert_eq!(database.value("SELECT count(*)::text FROM belay.history").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_tool_that_is_at_work_is_waited_for_by_asking_again() {
    let database = owned(LEDGER).await;
    let (mut engine, plan) = planned(&database).await;
    engine.close().await;
    engine = claimed(database.engine().await).await;
    let mut other = database.owner().await;
    sqlx::raw_sql("BEGIN; UPDATE schema_migrations SET dirty = dirty").execute(&mut other).await.unwrap();
    let (cancel, context) = (CancellationToken::new(), run());
    let recorded = engine.record_present(&context, &plan, &cancel);
    let ends = async {
        let waits = "SELECT 'waits' FROM pg_stat_activity WHERE application_name = 'belay/test' AND datname = current_database() \
                     AND query = 'ROLLBACK'";
        crate::support::eventually("Belay was refused once", crate::support::SOON, async || {
            database.value(waits).await
        })
        .await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    };
    let (recorded, ()) = tokio::join!(recorded, ends);
    recorded.unwrap();
    assert_eq!(database.value("SELECT count(*)::text FROM belay.history").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_ledger_outside_of_the_search_path_is_found_where_the_login_may_use_its_schema() {
    let database = owned(
        "CREATE SCHEMA app; CREATE TABLE app.goose_db_version (id int, version_id bigint, is_applied boolean); INSERT INTO \
         app.goose_db_version VALUES (1, 0, true), (2, 1, true); CREATE SCHEMA other; CREATE TABLE other.goose_db_version (something int)",
    )
    .await;
    // Of a schema that the login may not use it is none.
    database
        .admin("CREATE SCHEMA hidden; CREATE TABLE hidden.__diesel_schema_migrations AS SELECT '1' AS version")
        .await;
    let ledger = database.engine().await.ledger().await.unwrap();
    assert_eq!((ledger.first_foreign_table, ledger.foreign), (None, vec![]));
    let found: Vec<_> = ledger.foreign_elsewhere.iter().map(|found| (found.tool, found.to_string())).collect();
    assert_eq!(found, [(Tool::Goose, "app.goose_db_version".to_owned())]);

    let mut target = database.target();
    target.search_path = vec!["app".into()];
    let ledger = Engine::connect(target, "belay/test").await.unwrap().ledger().await.unwrap();
    assert_eq!((ledger.foreign.len(), ledger.foreign_elsewhere), (1, vec![]));
}

#[tokio::test]
async fn a_table_that_is_called_alike_or_may_not_be_read_is_seen_for_what_it_is() {
    let database = owned("CREATE TABLE goose_db_version (something int)").await;
    assert!(database.engine().await.ledger().await.unwrap().foreign.is_empty(), "another table of that name");

    let database = Postgres::shared().database().await;
    database.admin(LEDGER).await;
    let ledger = database.engine().await.ledger().await.unwrap();
    assert_eq!(ledger.foreign.len(), 1);
    assert_eq!((ledger.foreign[0].tool, &ledger.foreign[0].rows), (Tool::GolangMigrate, &None));
}
