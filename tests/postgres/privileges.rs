//! Logins that may do what their schema needs and nothing else.

use belay::api::Reason;
use belay::postgres::{Engine, Target};

use super::apply::{exists, history};
use super::scripts::{apply, claimed};
use crate::support::postgres::{Postgres, TestDatabase};

/// A login that owns the schema `app`, and is granted nothing of the database; nor is PUBLIC.
async fn tenant(database: &TestDatabase) -> (String, Target) {
    let tenant = format!("{}_tenant", database.name);
    database
        .admin(&format!(
            "CREATE ROLE {tenant} LOGIN PASSWORD 'sesame'; CREATE SCHEMA app AUTHORIZATION {tenant};
             REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON DATABASE {name} FROM PUBLIC;
             GRANT CONNECT ON DATABASE {name} TO {tenant}",
            name = database.name
        ))
        .await;
    let url = database.url.replace(&database.role, &tenant).replace(&database.password, "sesame");
    let mut target = Target::from_url(&url).unwrap();
    target.search_path = vec!["app".to_owned()];
    (tenant, target)
}

#[tokio::test]
async fn who_owns_a_schema_and_nothing_else_migrates_it_once_the_ledger_has_a_place() {
    let database = Postgres::shared().database().await;
    let (tenant, target) = tenant(&database).await;
    let mut engine = Engine::connect(target, "belay/test").await.unwrap();
    assert!(engine.try_lock().await.unwrap());
    let error = engine.claim("cluster/test/test").await.unwrap_err();
    assert_eq!(error.reason(), Reason::PermissionDenied);
    // The lesser of the two that it offers is enough.
    let create = format!("CREATE SCHEMA \"belay\" AUTHORIZATION \"{tenant}\";");
    assert!(error.to_string().contains(&format!("or create it: {create}")), "{error}");
    database.admin(&create).await;
    engine.claim("cluster/test/test").await.unwrap();
    let files = [
        ("001_a.sql", "CREATE TABLE a (id int)"),
        ("002_i.sql", "CREATE INDEX CONCURRENTLY a_id ON a (id)"),
        ("003_b.sql", "CREATE TABLE b ()"),
    ];
    apply(&mut engine, &files).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
    assert!(exists(&database, "app.a").await && exists(&database, "app.b").await);
    // What is another's stays another's, and is said as the server says it.
    let error = apply(&mut engine, &[("004_p.sql", "CREATE TABLE public.p ()")]).await.unwrap_err();
    assert!(error.to_string().contains("permission denied for schema public"), "{error}");
}

#[tokio::test]
async fn who_owns_a_schema_by_a_role_migrates_in_that_role_and_its_search_path() {
    let database = Postgres::shared().database().await;
    let (tenant, mut target) = tenant(&database).await;
    let owner = format!("{}_owner", database.name);
    database
        .admin(&format!(
            "CREATE ROLE {owner}; ALTER ROLE {owner} SET search_path = nowhere; ALTER ROLE {tenant} NOINHERIT;
             GRANT {owner} TO {tenant}; ALTER SCHEMA app OWNER TO {owner}; CREATE SCHEMA \"My ledger\" AUTHORIZATION {owner};
             CREATE SCHEMA shared; GRANT USAGE ON SCHEMA shared TO PUBLIC; CREATE FUNCTION shared.one() RETURNS int RETURN 1"
        ))
        .await;
    target.role = Some(owner.clone());
    target.search_path = vec!["app".to_owned(), "shared".to_owned()];
    target.history_schema = "My ledger".to_owned();
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    apply(&mut engine, &[("001_a.sql", "CREATE TABLE a AS SELECT one()")]).await.unwrap();
    for table in ["app.a", "\"My ledger\".history"] {
        let query = format!("SELECT relowner::regrole::text FROM pg_class WHERE oid = '{table}'::regclass");
        assert_eq!(database.value(&query).await.as_deref(), Some(owner.as_str()), "{table}");
    }
}

#[tokio::test]
async fn who_lacks_a_right_on_the_ledger_is_told_before_anything_is_run_and_what_is_named_is_enough() {
    let database = Postgres::shared().database().await;
    apply(&mut claimed(database.engine().await).await, &[("001_a.sql", "CREATE TABLE a (id int)")]).await.unwrap();
    let (tenant, target) = tenant(&database).await;
    for right in ["", "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE"] {
        if !right.is_empty() {
            let grant = format!(
                "GRANT USAGE ON SCHEMA belay TO {tenant}; GRANT {right} ON ALL TABLES IN SCHEMA belay TO {tenant}"
            );
            database.admin(&grant).await;
        }
        let files = [
            ("002_b.sql", "CREATE TABLE b (id int); INSERT INTO b VALUES (1), (1)"),
            ("003_i.sql", "CREATE UNIQUE INDEX CONCURRENTLY i ON b (id)"),
        ];
        let mut engine = Engine::connect(target.clone(), "belay/test").await.unwrap();
        assert!(engine.try_lock().await.unwrap());
        let refused = match engine.claim("cluster/test/test").await {
            Ok(()) => apply(&mut engine, &files).await.unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"belay\" TO \"{tenant}\";");
        assert!(refused.contains(&grant), "{right}: {refused}");
        assert!(!exists(&database, "app.b").await, "{right}");
        if right.ends_with("UPDATE") {
            // What is run in a transaction needs no more.
            apply(&mut engine, &files[..1]).await.unwrap();
            database.admin(&grant).await;
            let error = apply(&mut engine, &files[1..]).await.unwrap_err();
            assert_eq!(error.failure().sql_state.as_deref(), Some("23505"), "{error}");
            apply(&mut engine, &[("003_i.sql", "CREATE INDEX CONCURRENTLY i ON b (id)")]).await.unwrap();
        }
        engine.close().await;
    }
    assert_eq!(history(&database).await, "001 002 003");
}

#[tokio::test]
async fn who_may_not_read_pg_settings_builds_indexes_all_the_same() {
    let database = Postgres::shared().database().await;
    let mut engine = claimed(database.engine().await).await;
    apply(&mut engine, &[("001_a.sql", "CREATE TABLE a (id int)")]).await.unwrap();
    database.admin("REVOKE SELECT ON pg_settings FROM PUBLIC").await;
    apply(&mut engine, &[("002_i.sql", "CREATE INDEX CONCURRENTLY a_id ON a (id)")]).await.unwrap();
    assert_eq!(history(&database).await, "001 002");
}
