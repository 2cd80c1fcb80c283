//! Scripts are split and checked as if backslashes in '…' were plain characters: the server must read them so too, or
//! transaction control could hide in what Belay takes for a string.

use belay::api::TransactionMode;

use super::apply::{exists, history};
use super::scripts::{apply, apply_as, claimed};
use crate::support::postgres::Postgres;

/// With backslashes that escape, `COMMIT` is no string's content any more, and b is made.
const HIDDEN: &str = r"CREATE TABLE a AS SELECT '\' AS one, '; COMMIT; CREATE TABLE b (id int) --' AS two";

#[tokio::test]
async fn a_database_where_backslashes_escape_runs_what_was_checked() {
    let database = Postgres::shared().database().await;
    database.admin(&format!("ALTER DATABASE {} SET standard_conforming_strings = off", database.name)).await;
    let mut engine = claimed(database.engine().await).await;
    apply(&mut engine, &[("001_a.sql", HIDDEN)]).await.unwrap();
    assert_eq!(history(&database).await, "001");
    assert!(!exists(&database, "b").await);
    assert_eq!(database.value("SELECT length(one)::text FROM a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn an_earlier_script_cannot_change_how_a_later_one_is_read() {
    for mode in [TransactionMode::PerScript, TransactionMode::AllPending] {
        let database = Postgres::shared().database().await;
        let mut engine = claimed(database.engine().await).await;
        let quietly = "SELECT set_config('standard_conforming_strings', 'off', false), \
                       set_config('client_encoding', 'LATIN1', false)";
        let files = [("001_x.sql", quietly), ("002_a.sql", HIDDEN), ("003_c.sql", "CREATE TABLE c AS SELECT 'ü' AS u")];
        apply_as(&mut engine, &files, mode).await.unwrap();
        assert_eq!(history(&database).await, "001 002 003");
        assert!(!exists(&database, "b").await);
        assert_eq!(database.value("SELECT length(u)::text FROM c").await.as_deref(), Some("1"));
    }
}
