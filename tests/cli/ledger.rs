//! What the ledger says: history, status, claims and holds.

use crate::bench::{Bench, SHOP};

const CLAIM: &str = "INSERT INTO belay.meta (key, value) VALUES ('claimant', 'prod/shop/shop')";

#[tokio::test]
async fn a_history_lists_version_description_date_author_and_status() {
    let bench = Bench::after(SHOP, 2).await;
    let said = bench.run(&["history", "migrations"]).is(0);
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].starts_with("VERSION  DESCRIPTION"), "{}", said.out);
    assert!(lines[1].starts_with("001      Initial schema"), "{}", said.out);
    assert!(lines[1].contains("2025-12-15  DBA Team  applied  20"), "{}", said.out);
    assert!(lines[3].starts_with("003      Ticket escalation") && lines[3].ends_with("pending"), "{}", said.out);

    let document = bench.run(&["history", "migrations", "-o", "json"]).is(0).document();
    let first = &document["history"][0];
    assert_eq!(
        (&first["version"], &first["status"], &first["mode"]),
        (&"001".into(), &"applied".into(), &"transaction".into())
    );
    assert!(first["appliedBy"].as_str().unwrap().starts_with("anna@"), "{first}");
    assert_eq!(document["history"][2]["status"], "pending");
    assert_eq!(document["history"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_history_is_markdown_as_a_readme_has_it() {
    let bench = Bench::after(&SHOP[..1], 1).await;
    let said = bench.run(&["history", "-o", "markdown"]).is(0);
    let expected = "| Version | Description | Date | Author | Status |\n|---|---|---|---|---|\n\
                    | 001 | Initial schema | 2025-12-15 | DBA Team | applied |\n";
    assert_eq!(said.out, expected);
}

#[tokio::test]
async fn a_status_says_where_the_database_is_and_changes_nothing() {
    let bench = Bench::new(SHOP).await;
    let before = bench.dump();
    let said = bench.run(&["status"]).is(0);
    assert!(said.out.contains("none: there is no ledger yet"), "{}", said.out);
    assert_eq!(bench.dump(), before);

    let bench = Bench::after(SHOP, 2).await;
    let before = bench.dump();
    let said = bench.run(&["status", "migrations"]).is(0);
    for words in ["002  ", "anna@", "1 script to apply, up to 003", "nobody", "free", "PostgreSQL 1"] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    bench.run(&["status", "migrations", "--exit-code"]).is(3);
    bench.run(&["status", "--exit-code"]).is(0);
    let status = bench.run(&["status", "migrations", "-o", "json"]).is(0).document();
    assert_eq!((&status["version"], &status["target"], &status["pending"]), (&"002".into(), &"003".into(), &1.into()));
    assert!(status["databaseOid"].is_u64() && status["systemIdentifier"].is_string(), "{status}");
    assert_eq!(bench.dump(), before);

    bench.folder.remove(SHOP[0].0);
    let status = bench.run(&["status", "migrations", "-o", "json"]).is(1).document();
    assert_eq!((&status["version"], &status["failure"]["reason"]), (&"002".into(), &"MissingScript".into()));
}

#[tokio::test]
async fn a_status_and_a_plan_say_of_a_script_that_is_begun_how_far_it_is() {
    let script = |last| {
        format!("-- belay: no-transaction\nSET lock_timeout = 0;\nCREATE TABLE u (a int);\nSELECT 1;\n{last};\n")
    };
    let bench = Bench::new(&[("001_u.sql", &script("SELECT nonsense"))]).await;
    bench.run(&["apply"]).is(1);
    let begun = || bench.run(&["status", "-o", "json"]).is(0).document()["begun"].clone();
    assert_eq!(begun(), serde_json::json!([{"version": "001", "file": "001_u.sql", "done": 2}]));
    bench.database.admin("UPDATE belay.statement SET done_at = NULL WHERE statement = 3").await;
    assert_eq!(begun(), serde_json::json!([{"version": "001", "file": "001_u.sql", "done": 1, "unsettled": 3}]));
    let said = bench.run(&["status"]).is(0).out;
    for words in ["none: no script is applied as a whole yet", "001_u.sql, 1 statement done; statement 3 runs, or what"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let plan = bench.run(&["plan", "-o", "json"]).is(0).document();
    assert_eq!((&plan["begun"], &plan["pending"]), (&begun(), &1.into()));
    let said = bench.run(&["plan"]).is(0).out;
    assert!(said.contains("\nBegun: 001_u.sql, 1 statement done; statement 3 runs, or what"), "{said}");

    bench.run(&["repair", "--statement", "001:3=done", "--yes"]).is(0);
    bench.folder.write("001_u.sql", script("SELECT 2"));
    bench.run(&["apply"]).is(0);
    assert_eq!(begun(), serde_json::Value::Null);
    assert!(!bench.run(&["status"]).is(0).out.contains("begun"));
    assert_eq!(bench.run(&["plan", "-o", "json"]).is(0).document()["begun"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_ledger_that_a_cluster_keeps_is_left_alone_unless_a_person_insists() {
    let bench = Bench::after(SHOP, 2).await;
    bench.database.admin(CLAIM).await;
    let before = bench.dump();
    let said = bench.run(&["apply"]).is(1);
    for words in ["kept by prod/shop/shop", "Nothing was run", "is at 002", "--despite-claim"] {
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
    assert_eq!(bench.dump(), before);
    assert_eq!(bench.run(&["apply", "-o", "json"]).is(1).document()["failure"]["reason"], "DatabaseInUse");

    bench.run(&["apply", "--despite-claim"]).is(0);
    assert_eq!(bench.versions().await, "001 002 003");
    assert_eq!(bench.value("SELECT value FROM belay.meta WHERE key = 'claimant'").await, "prod/shop/shop");
    bench.run(&["apply"]).is(0);
}

#[tokio::test]
async fn a_person_claims_nothing() {
    let bench = Bench::after(SHOP, 3).await;
    assert_eq!(bench.value("SELECT count(*)::text FROM belay.meta WHERE key = 'claimant'").await, "0");
}

#[tokio::test]
async fn a_hold_is_told_and_lifted_by_a_person_who_applies() {
    let bench = Bench::after(SHOP, 2).await;
    let held = "INSERT INTO belay.event (run_id, kind, actor, detail) VALUES \
                ('7f3a2000-0000-4000-8000-000000000000', 'held', 'prod/shop/shop', \
                '{\"plan\": \"abc\", \"failure\": {\"reason\": \"ScriptFailed\", \"message\": \"it went wrong.\", \
                \"script\": \"003_ticket_escalation.sql\"}}')";
    bench.database.admin(held).await;
    let plan = bench.run(&["plan"]).is(0).out;
    assert!(plan.contains("failed at") && plan.contains("it went wrong."), "{plan}");
    assert!(bench.run(&["status"]).is(0).out.contains("ScriptFailed: it went wrong."));
    let history = bench.run(&["history", "migrations"]).is(0).out;
    assert!(history.contains("failed") && history.contains("Held since"), "{history}");
    assert_eq!(bench.run(&["plan", "-o", "json"]).document()["hold"]["reason"], "ScriptFailed");

    bench.folder.write("003_ticket_escalation.sql", "SELECT nothing;");
    bench.run(&["apply"]).is(1);
    let said = bench.run(&["status"]).is(0).out;
    assert!(said.contains("column \"nothing\" does not exist"), "what failed again stays held: {said}");

    bench.folder.write("003_ticket_escalation.sql", SHOP[2].1);
    let said = bench.run(&["apply"]).is(0);
    assert!(said.out.contains("column \"nothing\" does not exist"), "{}", said.out);
    let lifted = "SELECT actor FROM belay.event WHERE kind = 'released' ORDER BY id DESC LIMIT 1";
    assert!(bench.value(lifted).await.starts_with("anna@"));
    assert!(!bench.run(&["status"]).is(0).out.contains("does not exist"));
}

#[tokio::test]
async fn a_run_that_failed_is_told_until_one_goes_well() {
    let bench = Bench::after(SHOP, 2).await;
    let failed = || bench.run(&["status", "-o", "json"]).is(0).document()["failed"].clone();
    assert!(failed().is_null());
    bench.folder.write("003_ticket_escalation.sql", "SELECT nothing;");
    bench.run(&["apply"]).is(1);
    let said = bench.run(&["status"]).is(0).out;
    let line = said.lines().find(|line| line.starts_with("failed")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("ScriptFailed, run by anna@"), "{line}");
    assert_eq!(failed()["reason"], "ScriptFailed");
    bench.folder.remove("003_ticket_escalation.sql");
    let said = bench.run(&["status", "migrations"]).is(0).out;
    assert!(!said.contains("ScriptFailed"), "nobody waits for it any more: {said}");

    bench.folder.write("003_ticket_escalation.sql", SHOP[2].1);
    bench.run(&["apply"]).is(0);
    assert!(failed().is_null() && !bench.run(&["status"]).is(0).out.contains("failed"));
}

#[tokio::test]
async fn a_hold_is_not_told_once_its_script_is_applied_and_goes_with_a_word_on_its_statements() {
    let bench = Bench::after(SHOP, 2).await;
    let hold = async |reason: &str, script: &str| {
        let failure = serde_json::json!({"reason": reason, "message": "it went wrong.", "script": script});
        let detail = serde_json::json!({"plan": "abc", "failure": failure});
        let held = format!(
            "INSERT INTO belay.event (run_id, kind, actor, detail) VALUES (gen_random_uuid(), 'held', 'prod/shop/shop', '{detail}')"
        );
        bench.database.admin(&held).await;
    };
    let is_told = || bench.run(&["status"]).is(0).out.contains("it went wrong.");
    hold("ScriptFailed", SHOP[1].0).await;
    assert!(!is_told());
    // What a procedure that failed has committed, the word is about too.
    hold("ScriptFailed", SHOP[2].0).await;
    assert!(is_told());
    let begun = format!(
        "INSERT INTO belay.statement (number, statement, file_name, checksum, command, run_id) VALUES \
         (3, 1, '{}', '', 'CALL', gen_random_uuid()), (4, 1, '004_x.sql', '', 'CALL', gen_random_uuid())",
        SHOP[2].0
    );
    bench.database.admin(&begun).await;
    bench.run(&["repair", "--statement", "004:1=undone", "--yes"]).is(0);
    assert!(is_told(), "that was about another script");
    bench.run(&["repair", "--statement", "003:1=undone"]).is(3);
    assert!(is_told());
    bench.run(&["repair", "--statement", "003:1=undone", "--yes"]).is(0);
    assert!(!is_told());
}

#[tokio::test]
async fn each_run_is_in_the_ledger_with_who_ran_it_and_how_it_ended() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write("003_ticket_escalation.sql", "SELECT nothing;");
    bench.run(&["apply"]).is(1);
    let runs = "SELECT string_agg(coalesce(from_version, '-') || ' ' || to_version || ' ' || outcome, ', ' ORDER BY started_at) \
                FROM belay.run WHERE holder LIKE 'anna@%' AND finished_at IS NOT NULL";
    assert_eq!(bench.value(runs).await, "- 002 Succeeded, 002 003 ScriptFailed");
}
