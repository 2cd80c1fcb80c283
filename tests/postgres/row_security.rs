//! Servers whose tables have row-level security, also for their owner, and whose every table is published.

use belay::api::Reason;

use super::apply::{exists, history};
use super::scripts::{apply, claimed};
use crate::support::postgres::{Postgres, TestDatabase};

/// Accounts of two tenants, of which a session sees the one that it names; and a publication of every table.
async fn tenants() -> TestDatabase {
    let database = Postgres::shared().database().await;
    let role = &database.role;
    database
        .admin(&format!(
            "CREATE PUBLICATION everything FOR ALL TABLES; SET ROLE {role};
             CREATE TABLE accounts (id int PRIMARY KEY, tenant text, closed bool DEFAULT false);
             INSERT INTO accounts SELECT n, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END FROM generate_series(1, 10) n;
             ALTER TABLE accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE accounts FORCE ROW LEVEL SECURITY;
             CREATE POLICY own ON accounts USING (tenant = current_setting('app.tenant', true))"
        ))
        .await;
    database
}

#[tokio::test]
async fn under_row_level_security_scripts_change_what_psql_would_and_the_ledger_all_of_its_own() {
    let database = tenants().await;
    let mut engine = claimed(database.engine().await).await;
    let files = [
        // No tenant is named: no row is seen, and none is changed.
        ("001_none.sql", "UPDATE accounts SET closed = true"),
        (
            "002_even.sql",
            "SET app.tenant = 'even'; UPDATE accounts SET closed = true; DELETE FROM accounts WHERE id > 8",
        ),
        // Nothing of it is left for the next one.
        ("003_none.sql", "DELETE FROM accounts"),
    ];
    apply(&mut engine, &files).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
    let left = "SELECT string_agg(id || CASE WHEN closed THEN '!' ELSE '' END, ' ' ORDER BY id) FROM accounts";
    assert_eq!(database.value(left).await.as_deref(), Some("1 2! 3 4! 5 6! 7 8! 9"));

    // A row that the policy does not let in is the script's error.
    let wrong = "SET app.tenant = 'even'; INSERT INTO accounts VALUES (11, 'odd')";
    let error = apply(&mut engine, &[("004_wrong.sql", wrong)]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ScriptFailed);
    assert!(error.to_string().contains("row-level security policy for table \"accounts\""), "{error}");
}

#[tokio::test]
async fn a_ledger_under_row_level_security_is_never_an_empty_one_and_either_thing_that_the_error_names_helps() {
    let forced = "ENABLE ROW LEVEL SECURITY; ALTER TABLE belay.history FORCE ROW LEVEL SECURITY";
    let of_another = "OWNER TO postgres; ALTER TABLE belay.history ENABLE ROW LEVEL SECURITY";
    for hide in [forced, of_another] {
        for disable in [true, false] {
            let database = Postgres::shared().database().await;
            let role = &database.role;
            let mut engine = claimed(database.engine().await).await;
            apply(&mut engine, &[("001_a.sql", "CREATE TABLE a ()")]).await.unwrap();
            let hide = format!("ALTER TABLE belay.history {hide}; GRANT ALL ON belay.history TO {role}");
            database.admin(&hide).await;
            let error = engine.ledger().await.unwrap_err();
            assert_eq!(error.reason(), Reason::PermissionDenied, "{error}");
            let error = error.to_string();
            assert!(error.contains("row-level security") && !error.contains("GRANT"), "{error}");
            let (table, bypass) = error.split_once(" Run: ").unwrap().1.split_once("; or, as a superuser: ").unwrap();
            assert!(table.contains("\"belay\".\"history\"") && bypass.contains(role.as_str()), "{error}");
            database.admin(if disable { table } else { bypass }).await;
            assert_eq!(engine.ledger().await.unwrap().rows.len(), 1, "{hide}");
            apply(&mut engine, &[("002_b.sql", "CREATE TABLE b ()")]).await.unwrap();
            assert_eq!(history(&database).await, "001 002");
        }
    }
}

#[tokio::test]
async fn where_every_table_is_published_the_ledger_is_written_and_a_table_without_a_key_is_the_scripts_error() {
    let database = tenants().await;
    let mut engine = claimed(database.engine().await).await;
    let make = "CREATE TABLE log (line text); INSERT INTO log VALUES ('a'); CREATE TABLE kept (id int PRIMARY KEY); \
                INSERT INTO kept VALUES (1); UPDATE kept SET id = 2";
    apply(&mut engine, &[("001_log.sql", make)]).await.unwrap();
    let change = "CREATE TABLE other (); UPDATE log SET line = 'b'";
    let failure = apply(&mut engine, &[("002_change.sql", change)]).await.unwrap_err().failure();
    assert_eq!((failure.reason.as_str(), failure.sql_state.as_deref()), ("ScriptFailed", Some("55000")));
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("REPLICA IDENTITY")), "{failure:?}");
    assert!(!exists(&database, "other").await);
    let outside = "-- belay: no-transaction\nALTER TABLE log REPLICA IDENTITY FULL;\nCREATE INDEX CONCURRENTLY log_line ON log (line);\n";
    apply(&mut engine, &[("002_identity.sql", outside)]).await.unwrap();
    apply(&mut engine, &[("003_change.sql", change)]).await.unwrap();
    assert_eq!(history(&database).await, "001 002 003");
    // Each of the ledger's tables has a key by which a subscriber finds its rows.
    let keyless = "SELECT coalesce(string_agg(c.relname, ' '), '')::text FROM pg_class c WHERE c.relnamespace = 'belay'::regnamespace \
                   AND c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)";
    assert_eq!(database.value(keyless).await.as_deref(), Some(""));
}
