//! A plan that ended in an error of its own is held: nobody tries it again until the source changes or a person asks.

use serde_json::json;

use crate::shop::{SOON, Shop, ready};

const BROKEN: [(&str, &str); 2] = [
    ("001_a.sql", "create table a (id int);"),
    ("002_b.sql", "create sequence tries;\n\nalter table a\n  add column b int references missing;\n"),
];

/// How often anything was tried: each try leaves its row in the ledger.
async fn runs(shop: &Shop) -> String {
    shop.database.value("SELECT count(*)::text FROM belay.run").await.unwrap_or_default()
}

#[tokio::test]
async fn the_first_sql_error_stops_the_run_and_says_where_it_is_and_what_is_left() {
    let shop = Shop::new("error").await;
    let _operator = shop.operator();
    shop.migrate(&BROKEN).await;
    let status = shop.reason("ScriptFailed").await;
    let failure = &status["failure"];
    assert_eq!(failure["sqlState"], "42P01");
    assert_eq!(
        (&failure["script"], &failure["statement"], &failure["command"]),
        (&json!("002_b.sql"), &json!(2), &json!("ALTER TABLE"))
    );
    assert_eq!(failure["line"], 3, "where the statement begins, or nearer: {failure}");
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    for part in
        ["002_b.sql, line 3", "42P01", "Nothing of 002 is applied", "The database is at 001", "Correct the script"]
    {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert_eq!((&status["version"], &status["pending"]), (&json!("001"), &json!(1)));
    assert_eq!(shop.ledger().await, "001");
}

#[tokio::test]
async fn a_held_plan_stays_held_through_restart_and_re_creation_and_goes_on_when_it_is_corrected() {
    let shop = Shop::new("held").await;
    let operator = shop.operator();
    shop.migrate(&BROKEN).await;
    shop.reason("ScriptFailed").await;
    assert_eq!(runs(&shop).await, "1");

    operator.kill();
    let _operator = shop.operator();
    shop.namespace.kubectl(&["delete", "migration", "shop"]);
    shop.migrate(&BROKEN).await;
    let status = shop.reason("ScriptFailed").await;
    assert_eq!(status["failure"]["sqlState"], "42P01", "the ledger told the new object what had happened: {status}");
    assert_eq!(runs(&shop).await, "1", "it was not tried again");

    shop.migrate(&[BROKEN[0], ("002_b.sql", "alter table a add column b int;")]).await;
    let status = shop.reason("Succeeded").await;
    assert_eq!((&status["version"], status.get("failure")), (&json!("002"), None));
}

#[tokio::test]
async fn a_person_can_ask_for_one_more_try() {
    let shop = Shop::new("asked").await;
    let _operator = shop.operator();
    shop.migrate(&BROKEN).await;
    shop.reason("ScriptFailed").await;
    let ask = |at: &str| {
        shop.namespace.kubectl(&[
            "annotate",
            "--overwrite",
            "migration",
            "shop",
            &format!("belay.dev/requestedAt={at}"),
        ]);
    };
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    ask(&later.to_string());
    shop.until("SELECT count(*)::text FROM belay.run", "2").await;
    let handled = async || (shop.status().await["lastHandledRequestedAt"] == later.to_string()).then_some(());
    shop.namespace.wait_for("lastHandledRequestedAt", SOON, handled).await;
    shop.reason("ScriptFailed").await;

    let mend = format!("set role {}; create table missing (id int primary key)", shop.database.role);
    shop.database.admin(&mend).await;
    ask(&(later + jiff::SignedDuration::from_secs(3600)).to_string());
    shop.reason("Succeeded").await;
    assert_eq!(runs(&shop).await, "3", "each request was one try");
    let events = "SELECT string_agg(kind, ' ' ORDER BY id) FROM belay.event WHERE kind IN ('held', 'released')";
    assert_eq!(shop.database.value(events).await.as_deref(), Some("held released held released"));
}

#[tokio::test]
async fn a_request_that_came_back_from_git_with_its_object_was_dealt_with() {
    let shop = Shop::new("recreated").await;
    let _operator = shop.operator();
    let from_git = async |annotations: serde_json::Value| {
        let inline: serde_json::Map<_, _> = BROKEN.iter().map(|(name, sql)| ((*name).to_owned(), json!(sql))).collect();
        shop.apply(&json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration",
            "metadata": { "name": "shop", "annotations": annotations },
            "spec": { "databaseRef": { "name": "shop" }, "source": { "inline": inline } },
        }))
        .await;
    };
    from_git(json!({})).await;
    shop.reason("ScriptFailed").await;
    // Asked for and tried: the hold is younger than the request from now on.
    let asked = json!({ "belay.dev/requestedAt": jiff::Timestamp::now().to_string() });
    from_git(asked.clone()).await;
    shop.until("SELECT count(*)::text FROM belay.run WHERE outcome IS NOT NULL", "2").await;
    shop.reason("ScriptFailed").await;

    shop.namespace.kubectl(&["delete", "migration", "shop"]);
    from_git(asked).await;
    let status = shop.reason("ScriptFailed").await;
    assert_eq!(status.get("lastHandledRequestedAt"), None, "the new object knows of no request: {status}");
    assert_eq!(runs(&shop).await, "2", "it was not tried again");
    // Nor does taking it away ask for anything.
    from_git(json!({})).await;
    shop.migrate(&[BROKEN[0], ("002_b.sql", "alter table a add column b int;")]).await;
    shop.reason("Succeeded").await;
    assert_eq!(runs(&shop).await, "3", "one run more, for the corrected script");
}
