use belay::api::{Failure, Reason, TransactionMode};
use belay::plan::PlanHash;
use belay::postgres::{Engine, RunIntent, Target};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::scripts::{apply, claimed, run, scripts};
use crate::support::postgres::Postgres;
use crate::support::{SOON, eventually};

async fn take_lock(engine: &mut Engine) {
    eventually("the lock is free", SOON, async || engine.try_lock().await.unwrap().then_some(())).await;
}

#[tokio::test]
async fn an_absent_ledger_reads_as_empty_and_reading_creates_nothing() {
    let database = Postgres::shared().database().await;
    let ledger = database.engine().await.ledger().await.unwrap();
    assert!(!ledger.exists && ledger.rows.is_empty() && ledger.first_foreign_table.is_none());
    assert_eq!(database.value("SELECT 'there' FROM pg_namespace WHERE nspname = 'belay'").await, None);
}

#[tokio::test]
async fn an_empty_ledger_names_a_table_that_is_not_an_extensions() {
    let database = Postgres::shared().database().await;
    database.admin("CREATE SCHEMA other; CREATE TABLE other.t (id int); CREATE TABLE members (id int)").await;
    // As an extension's own tables are: none that Debian ships has one.
    database
        .admin(
            "INSERT INTO pg_depend SELECT 'pg_class'::regclass, 'members'::regclass, 0, 'pg_extension'::regclass, oid, \
             0, 'e' FROM pg_extension WHERE extname = 'plpgsql'",
        )
        .await;
    let mut engine = database.engine().await;
    assert_eq!(engine.ledger().await.unwrap().first_foreign_table, None);
    database.admin("CREATE TABLE \"Orders\" (id int)").await;
    assert_eq!(engine.ledger().await.unwrap().first_foreign_table.as_deref(), Some("public.\"Orders\""));

    let mut target = database.target();
    target.search_path = vec!["other".into()];
    let mut engine = Engine::connect(target, "belay/test").await.unwrap();
    assert_eq!(engine.ledger().await.unwrap().first_foreign_table.as_deref(), Some("other.t"));
}

#[tokio::test]
async fn a_row_says_what_was_applied_by_whom_and_how() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let text = "-- Migration: Users\n-- Description: Users and their names\n-- Author: Anna\n-- Date: 2026-01-02\n\
                CREATE TABLE users (id int);\n-- ROLLBACK: DROP TABLE users;\n";
    apply(&mut engine, &[("001_users.sql", text)]).await.unwrap();

    let ledger = database.engine().await.ledger().await.unwrap();
    assert!(ledger.exists);
    assert_eq!(ledger.claimant.as_deref(), Some("cluster/test/test"));
    let row = ledger.current().unwrap();
    assert_eq!(row.version.as_written(), "001");
    assert_eq!(row.file_name, "001_users.sql");
    assert_eq!(row.description, "Users and their names");
    assert_eq!(row.author.as_deref(), Some("Anna"));
    assert_eq!(row.date.as_deref(), Some("2026-01-02"));
    assert_eq!(row.checksum, scripts(&[("001_users.sql", text)])[0].checksum);
    assert_eq!((row.mode.as_str(), row.applied_by.as_str()), ("transaction", "test/test"));
    assert!(row.duration_ms >= 0 && !row.retired);
    assert_eq!(database.value("SELECT script FROM belay.history").await.as_deref(), Some(text));
    assert_eq!(database.value("SELECT rollback FROM belay.history").await.as_deref(), Some("DROP TABLE users;"));
    assert_eq!(database.value("SELECT applied_role FROM belay.history").await, Some(database.role.clone()));
}

#[tokio::test]
async fn versions_are_numbers_and_001_is_1() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let long = format!("{}_long.sql", "9".repeat(100));
    let files = [("001_a.sql", "SELECT 1"), ("10_b.sql", "SELECT 1"), ("9_c.sql", "SELECT 1"), (&*long, "SELECT 1")];
    apply(&mut engine, &files).await.unwrap();
    let ledger = engine.ledger().await.unwrap();
    let versions: Vec<_> = ledger.rows.iter().map(|row| row.version.to_string()).collect();
    assert_eq!(versions, ["001", "9", "10", &"9".repeat(100)]);
    // The same version again, written another way, is somebody else's row.
    let error = apply(&mut engine, &[("1_again.sql", "CREATE TABLE again (id int)")]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ConnectionLost, "{error}");
    assert_eq!(database.value("SELECT to_regclass('again')::text").await, None);
}

#[tokio::test]
async fn the_ledger_keeps_no_password() {
    let database = Postgres::shared().database().await;
    database.admin(&format!("ALTER ROLE {} CREATEROLE", database.role)).await;
    let mut engine = claimed(database.engine().await).await;
    let text = format!(
        "-- Description: rotate the login's, PASSWORD 'hunter2'\n-- Author: Anna, postgres://anna:hunter2@h/d\n\
         -- Date: password=hunter2\nCREATE ROLE {}_app LOGIN PASSWORD 'hunter2';",
        database.name
    );
    apply(&mut engine, &[("001_role.sql", &text)]).await.unwrap();
    let kept = database.value("SELECT history::text FROM belay.history").await.unwrap();
    assert!(kept.contains("CREATE ROLE") && !kept.contains("hunter2"), "{kept}");
    let header = database.value("SELECT concat_ws(' | ', description, author, date) FROM belay.history").await.unwrap();
    let expected = "rotate the login's, PASSWORD ******** | Anna, postgres://anna:********@h/d | password=********";
    assert_eq!(header, expected);
}

#[tokio::test]
async fn a_ledger_has_one_claimant() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    engine.claim("cluster/test/test").await.unwrap();
    engine.close().await;

    let mut other = database.engine().await;
    take_lock(&mut other).await;
    let error = other.claim("cluster/test/other").await.unwrap_err();
    assert_eq!(error.reason(), Reason::DatabaseInUse);
    assert!(error.to_string().contains("cluster/test/test"), "{error}");

    other.release_claim("anna").await.unwrap();
    other.claim("cluster/test/other").await.unwrap();
    assert_eq!(other.ledger().await.unwrap().claimant.as_deref(), Some("cluster/test/other"));
}

#[tokio::test]
async fn a_newer_format_is_refused_with_both_numbers() {
    let database = Postgres::shared().database().await;
    claimed(database.engine().await).await.close().await;
    database.admin("UPDATE belay.meta SET value = '7' WHERE key = 'format'").await;
    let error = database.engine().await.ledger().await.unwrap_err();
    assert_eq!(error.reason(), Reason::UnsupportedServer);
    assert!(error.to_string().contains("format 7"), "{error}");
    // Also when the newer format lacks what this one reads.
    database.admin("ALTER TABLE belay.history DROP COLUMN retired").await;
    let error = database.engine().await.ledger().await.unwrap_err();
    assert!(error.to_string().contains("format 7"), "{error}");
    database.admin("DROP TABLE belay.history").await;
    let error = database.engine().await.ledger().await.unwrap_err();
    assert!(error.to_string().contains("format 7"), "{error}");
}

#[tokio::test]
async fn a_ledger_that_lost_a_table_is_not_taken_for_an_absent_one() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    for table in ["statement", "event"] {
        database.admin(&format!("DROP TABLE belay.{table}")).await;
        let error = engine.ledger().await.unwrap_err();
        assert!(error.to_string().contains("Restore the schema"), "{error}");
    }
}

#[tokio::test]
async fn a_ledger_from_before_there_were_statements_is_read_and_brought_up_to_date() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    apply(&mut engine, &[("001_a.sql", "SELECT 1")]).await.unwrap();
    engine.close().await;
    let older = "DROP TABLE belay.statement; ALTER TABLE belay.run DROP COLUMN notices; \
                 UPDATE belay.meta SET value = '1' WHERE key = 'format'";
    database.admin(older).await;
    let mut engine = database.engine().await;
    take_lock(&mut engine).await;
    let ledger = engine.ledger().await.unwrap();
    assert_eq!((ledger.rows.len(), ledger.begun.len()), (1, 0));
    engine.claim("cluster/test/test").await.unwrap();
    assert_eq!(engine.ledger().await.unwrap(), ledger);
    assert_eq!(database.value("SELECT value FROM belay.meta WHERE key = 'format'").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn who_may_not_make_a_ledger_is_told_the_grant() {
    let database = Postgres::shared().database().await;
    let guest = format!("{}_guest", database.name);
    database.admin(&format!("CREATE ROLE {guest} LOGIN PASSWORD 'x'")).await;
    let url = format!("postgres://{guest}:x@127.0.0.1:{}/{}?sslmode=disable", Postgres::shared().port, database.name);
    let connect = async || {
        let mut engine = Engine::connect(Target::from_url(&url).unwrap(), "belay/test").await.unwrap();
        take_lock(&mut engine).await;
        engine
    };
    let mut engine = connect().await;
    let error = engine.claim("cluster/test/test").await.unwrap_err();
    assert_eq!(error.reason(), Reason::PermissionDenied);
    let grant = format!("GRANT CREATE ON DATABASE \"{}\" TO \"{guest}\";", database.name);
    assert!(error.to_string().contains(&grant), "{error}");
    engine.close().await;

    // The schema is there, but the right to make tables in it is not.
    database.admin("CREATE SCHEMA belay").await;
    let mut engine = connect().await;
    let error = engine.claim("cluster/test/test").await.unwrap_err();
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA \"belay\" TO \"{guest}\";");
    assert!(error.to_string().contains(&grant), "{error}");

    // And what it is told to run is enough.
    database.admin(&grant).await;
    engine.claim("cluster/test/test").await.unwrap();
    engine.close().await;

    // The tables are another's.
    let error = database.engine().await.ledger().await.unwrap_err();
    assert_eq!(error.reason(), Reason::PermissionDenied);
    assert!(error.to_string().contains("GRANT USAGE ON SCHEMA \"belay\""), "{error}");
}

#[tokio::test]
async fn the_ledger_belongs_to_the_role_and_lives_in_the_schema_that_was_asked_for() {
    let database = Postgres::shared().database().await;
    let role = format!("{}_app", database.name);
    let grants = format!(
        "CREATE ROLE {role}; GRANT {role} TO {}; GRANT CREATE ON DATABASE {} TO {role}; \
         GRANT CREATE ON SCHEMA public TO {role}",
        database.role, database.name
    );
    database.admin(&grants).await;
    let mut target = database.target();
    target.role = Some(role.clone());
    target.history_schema = "My \"ledger\"".into();
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    apply(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int)")]).await.unwrap();
    for table in ["a", "\"My \"\"ledger\"\"\".history"] {
        let query = format!("SELECT relowner::regrole::text FROM pg_class WHERE oid = '{table}'::regclass");
        assert_eq!(database.value(&query).await.as_deref(), Some(role.as_str()));
    }
    assert_eq!(engine.ledger().await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn every_ledger_table_has_a_primary_key() {
    let database = Postgres::shared().database().await;
    let _engine = claimed(database.engine().await).await;
    let query = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'belay'::regnamespace \
                 AND c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";
    assert_eq!(database.value(query).await, None);
}

#[tokio::test]
async fn a_hold_stands_until_it_is_released() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let plan = PlanHash::from_ledger("sha256:1");
    let message = "it's \\ $belay$ 'so'".to_owned();
    let failure = Failure { reason: "ScriptFailed".into(), message, line: Some(3), ..Failure::default() };
    let run = run();
    engine.hold(&run, &plan, &failure).await.unwrap();
    let hold = engine.ledger().await.unwrap().hold.unwrap();
    assert_eq!((&hold.plan, &hold.failure, hold.run_id), (&plan, &failure, run.id));

    engine.release_hold("anna", &plan).await.unwrap();
    assert_eq!(engine.ledger().await.unwrap().hold, None);
    engine.hold(&run, &plan, &failure).await.unwrap();
    assert!(engine.ledger().await.unwrap().hold.is_some());
}

fn intent(id: Uuid) -> RunIntent {
    RunIntent {
        id,
        holder: "belay-0".into(),
        plan: PlanHash::from_ledger("sha256:1"),
        from: None,
        to: Some("003".into()),
        backup: None,
    }
}

#[tokio::test]
async fn a_run_is_written_down_before_and_after() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let run = run();
    engine.begin_run(&RunIntent { backup: Some("shop-7f3a2".into()), ..intent(run.id) }).await.unwrap();
    engine.finish_run(run.id, "Succeeded").await.unwrap();
    let query = "SELECT concat_ws(' ', holder, server->>'database', plan_hash, from_version, to_version, backup, outcome) \
                 FROM belay.run WHERE finished_at >= started_at";
    assert_eq!(
        database.value(query).await,
        Some(format!("belay-0 {} sha256:1 003 shop-7f3a2 Succeeded", database.name))
    );
}

#[tokio::test]
async fn behind_scripts_too_belays_own_sql_means_postgresqls_own_operators() {
    let database = Postgres::shared().database().await;
    database
        .admin(&format!(
            "CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO PUBLIC;\n\
             CREATE FUNCTION other.never(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT false';\n\
             CREATE OPERATOR other.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = other.never);\n\
             ALTER ROLE {} SET search_path = other, pg_catalog, public",
            database.role
        ))
        .await;
    let mut engine = claimed(database.engine().await).await;
    let run = run();
    engine.begin_run(&intent(run.id)).await.unwrap();
    let scripts =
        scripts(&[("001_a.sql", "CREATE TABLE public.a (id int)"), ("002_b.sql", "CREATE TABLE public.b (id int)")]);
    engine.apply(&scripts, TransactionMode::PerScript, &run, &|_| {}, &CancellationToken::new()).await.unwrap();
    engine.finish_run(run.id, "Succeeded").await.unwrap();
    assert_eq!(database.value("SELECT outcome FROM belay.run").await.as_deref(), Some("Succeeded"));
}

#[tokio::test]
async fn a_baseline_records_scripts_without_running_them() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    let scripts = scripts(&[("001_a.sql", "CREATE TABLE a (id int)"), ("002_b.sql", "CREATE TABLE b (id int)")]);
    engine.record_baseline(&run(), &scripts).await.unwrap();
    let ledger = engine.ledger().await.unwrap();
    assert_eq!(ledger.rows.iter().map(|row| row.mode.as_str()).collect::<Vec<_>>(), ["baseline", "baseline"]);
    assert_eq!(database.value("SELECT to_regclass('a')::text").await, None);
    assert_eq!(database.value("SELECT kind FROM belay.event").await.as_deref(), Some("baselined"));
}
