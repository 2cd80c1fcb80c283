//! Runs that stop in the midst of a script that is run statement by statement, or whose server goes: the status says what is
//! applied and what nobody knows, and waits for a person where it has to.

use std::process::Command;

use serde_json::json;

use crate::shop::{SOON, Shop, ready};
use crate::support::postgres::Postgres;

/// Commits a part of itself, and then stays at it for as long as there is nothing in `go`.
const COUNTED: &str = "create table counted (n int); create table go (n int); create procedure count_one() language plpgsql as $$ \
                       begin insert into counted values (1); commit; while not exists (select from go) loop \
                       perform pg_sleep(0.1); end loop; end $$;";
const TWO: [(&str, &str); 2] = [
    ("001_counted.sql", COUNTED),
    ("002_count.sql", "-- belay: no-transaction\ncreate table a (n int);\ncall count_one();\n"),
];

fn message(status: &serde_json::Value) -> &str {
    ready(status)["message"].as_str().unwrap_or_default()
}

fn says(status: &serde_json::Value, words: &[&str]) {
    for words in words {
        assert!(message(status).contains(words), "{words:?} is not in {:?}", message(status));
    }
}

fn ask(shop: &Shop) {
    let now = format!("belay.dev/requestedAt={}", jiff::Timestamp::now());
    shop.namespace.kubectl(&["annotate", "--overwrite", "migration", "shop", &now]);
}

#[tokio::test]
async fn a_procedure_that_is_suspended_in_its_midst_waits_for_a_persons_word_and_goes_on_with_it() {
    let shop = Shop::new("halfway").await;
    let _operator = shop.operator();
    shop.migrate(&TWO).await;
    shop.until(
        "select count(*)::text from pg_stat_activity where wait_event = 'PgSleep' and query like '%count_one%'",
        "1",
    )
    .await;
    shop.migrate_with(&TWO, json!({ "suspend": true })).await;
    let status = shop.reason("Suspended").await;
    says(
        &status,
        &["the database is at 001 (begun: 002_count.sql, 1 statement done; statement 2 runs, or what became"],
    );

    shop.migrate_with(&TWO, json!({ "suspend": false })).await;
    let status = shop.reason("InDoubt").await;
    says(
        &status,
        &["CALL was begun", "belay repair --statement 002:2=done --yes, or =undone", "(begun: 002_count.sql"],
    );
    assert_eq!(ready(&status)["status"], "False");
    ask(&shop);
    shop.until("select count(*)::text from belay.event where kind = 'held'", "2").await;
    let said = Command::new(env!("CARGO_BIN_EXE_belay"))
        .args(["repair", "--statement", "002:2=undone", "--yes", "--database-url", &shop.database.url])
        .output()
        .expect("belay runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    shop.database.admin("insert into go values (1)").await;
    ask(&shop);
    shop.reason("Succeeded").await;
    let counted = shop.database.value("select count(*)::text from counted").await;
    assert_eq!((counted.as_deref(), shop.ledger().await.as_str()), (Some("2"), "001,002"), "again, as it was said");
}

#[tokio::test]
async fn after_a_run_whose_server_is_gone_only_what_was_read_back_is_told() {
    let server = Postgres::start();
    let shop = Shop::on(&server, "gone").await;
    shop.apply_database(json!({ "locks": { "retryFor": "1s" } })).await;
    let _operator = shop.operator();
    let scripts = [("001_a.sql", "create table a (n int)"), ("002_b.sql", "select pg_sleep(600)")];
    shop.migrate(&scripts).await;
    shop.until("select count(*)::text from pg_stat_activity where wait_event = 'PgSleep'", "1").await;
    server.stop_immediately();
    let ended = async || shop.status().await["history"].get(0).map(|_| ());
    shop.namespace.wait_for("the run's end", SOON, ended).await;
    let status = shop.reason("ConnectionFailed").await;
    let last = &status["history"][0];
    assert_eq!((&last["outcome"], last.get("to"), status.get("version")), (&json!("ConnectionFailed"), None, None));
    assert!(!message(&status).contains("Nothing was run."), "{}", message(&status));

    server.start_again();
    let quick = [scripts[0], ("002_b.sql", "create table b (n int)")];
    shop.migrate(&quick).await;
    let status = shop.reason("Succeeded").await;
    assert_eq!((&status["version"], shop.tables().await.as_str()), (&json!("002"), "a,b"));
}
