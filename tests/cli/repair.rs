//! Making the ledger agree with a folder that is right.

use serde_json::Value;

use crate::bench::{Bench, SHOP};

const EVENTS: &str = "SELECT string_agg(detail->>'file', ' ' ORDER BY id) FROM belay.event \
                      WHERE kind = 'repaired' AND actor LIKE 'anna@%'";

#[tokio::test]
async fn a_repair_is_shown_first_and_done_when_it_is_asked_for() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write(SHOP[0].0, SHOP[0].1.replace("BEGIN;", "-- The first of all.\nBEGIN;"));
    let before = bench.dump();
    let said = bench.run(&["repair"]).is(3);
    for words in ["001_initial_schema.sql was edited", "Only comments", "+ -- The first of all.", "--yes"] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert_eq!(bench.dump(), before, "it was only shown");
    bench.run(&["plan"]).is(1);

    let document = bench.run(&["repair", "--yes", "-o", "json"]).is(0).document();
    assert_eq!((&document["done"], &document["changes"][0]["kind"]), (&true.into(), &"edited".into()));
    assert_eq!(document["changes"][0]["statementsDiffer"], false);
    assert_eq!(bench.value(EVENTS).await, "001_initial_schema.sql");
    let kept = bench.value("SELECT script FROM belay.history WHERE version = '001'").await;
    assert!(kept.contains("The first of all."), "{kept}");
    bench.run(&["plan"]).is(0);
    let said = bench.run(&["repair", "--yes"]).is(0);
    assert!(said.out.contains("nothing is to be repaired"), "{}", said.out);
    assert_eq!(bench.value("SELECT count(*)::text FROM belay.event WHERE kind = 'repaired'").await, "1");
}

#[tokio::test]
async fn an_edit_of_a_statement_is_told_as_one() {
    let bench = Bench::after(SHOP, 1).await;
    bench.folder.write(SHOP[0].0, SHOP[0].1.replace("name text", "name varchar"));
    let said = bench.run(&["repair"]).is(3);
    assert!(said.out.contains("Its statements differ: be sure"), "{}", said.out);
}

#[tokio::test]
async fn a_renamed_a_renumbered_and_a_lost_script_have_a_way_out() {
    let bench = Bench::after(SHOP, 3).await;
    bench.folder.rename("001_initial_schema.sql", "001_first.sql");
    bench.folder.rename("002_add_user_preferences.sql", "0025_add_user_preferences.sql");
    bench.folder.remove("003_ticket_escalation.sql");
    let found = bench.run(&["repair", "-o", "json"]).is(3).document();
    let kinds: Vec<_> =
        found["changes"].as_array().unwrap().iter().map(|change| change["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["renamed", "renumbered", "lost"]);

    bench.run(&["repair", "--yes", "--version", "1", "--version", "2"]).is(0);
    bench.run(&["plan"]).is(1);
    bench.run(&["repair", "--yes"]).is(0);
    bench.run(&["plan", "--exit-code"]).is(0);
    assert_eq!(bench.versions().await, "001 003 0025");
    assert_eq!(
        bench.value(EVENTS).await,
        "001_initial_schema.sql 002_add_user_preferences.sql 003_ticket_escalation.sql"
    );
    let history = bench.run(&["history"]).is(0).out;
    assert!(history.contains("retired"), "{history}");
    assert_eq!(bench.value("SELECT to_regclass('tickets')::text").await, "tickets", "nothing was run");
}

#[tokio::test]
async fn a_renumbered_script_that_was_run_statement_by_statement_frees_its_number() {
    let count =
        "CREATE TABLE counted (a int); CREATE PROCEDURE count_one() LANGUAGE sql AS 'INSERT INTO counted VALUES (1)';";
    let bench = Bench::after(&[("001_a.sql", count)], 1).await;
    let text = "-- belay: no-transaction\nCALL count_one();\n";
    bench.folder.write("002_mine.sql", text);
    bench.run(&["apply"]).is(0);
    bench.folder.rename("002_mine.sql", "003_mine.sql");
    bench.run(&["repair", "--yes"]).is(0);
    bench.run(&["plan", "--exit-code"]).is(0);

    bench.folder.write("002_theirs.sql", text);
    bench.run(&["apply", "--out-of-order"]).is(0);
    assert_eq!(bench.value("SELECT count(*)::text FROM counted").await, "2", "it was run");
    assert_eq!(bench.versions().await, "001 002 003");
    let statements = "SELECT string_agg(number || ' ' || file_name, ', ' ORDER BY number) FROM belay.statement";
    assert_eq!(bench.value(statements).await, "2 002_theirs.sql, 3 003_mine.sql");
}

/// A table, and what counts in it how often a script was run.
const COUNTED: (&str, &str) = (
    "001_counted.sql",
    "CREATE TABLE counted (by text);\nCREATE PROCEDURE run_of(text) LANGUAGE sql AS 'INSERT INTO counted VALUES ($1)';\n",
);
const COUNTS: &str = "SELECT string_agg(by, ' ' ORDER BY by) FROM counted";

#[tokio::test]
async fn scripts_that_were_all_renumbered_are_taken_over_and_none_is_run_again() {
    let one = |by: &str| format!("-- belay: no-transaction\nCALL run_of('{by}');\n");
    let (a, b, c) = (one("a"), one("b"), "INSERT INTO counted VALUES ('c');");
    let bench = Bench::after(&[COUNTED, ("002_a.sql", &a), ("003_b.sql", &b), ("004_c.sql", c)], 4).await;
    let statements = "SELECT string_agg(number || ' ' || file_name, ', ' ORDER BY number) FROM belay.statement";
    for (renamed, versions, run) in [
        // By one.
        (
            [("004_c.sql", "005_c.sql"), ("003_b.sql", "004_b.sql"), ("002_a.sql", "003_a.sql")],
            "001 003 004 005",
            "3 003_a.sql, 4 004_b.sql",
        ),
        // In a circle.
        (
            [("005_c.sql", "003_c.sql"), ("004_b.sql", "005_b.sql"), ("003_a.sql", "004_a.sql")],
            "001 003 004 005",
            "4 004_a.sql, 5 005_b.sql",
        ),
    ] {
        let texts = renamed.map(|(was, is)| {
            let text = std::fs::read(bench.folder.script(was)).expect("a script");
            bench.folder.remove(was);
            (is, text)
        });
        texts.into_iter().for_each(|(is, text)| bench.folder.write(is, text));
        bench.run(&["apply"]).is(1);
        let document = bench.run(&["repair", "--yes", "-o", "json"]).is(0).document();
        let changes = document["changes"].as_array().expect("changes");
        assert!(changes.len() == 3 && changes.iter().all(|change| change["kind"] == "renumbered"), "{document}");
        bench.run(&["plan", "--exit-code"]).is(0);
        bench.run(&["apply"]).is(0);
        assert_eq!((bench.versions().await.as_str(), bench.value(COUNTS).await.as_str()), (versions, "a b c"));
        assert_eq!(bench.value(statements).await, run);
    }
}

#[tokio::test]
async fn a_script_does_not_get_a_number_that_another_keeps() {
    let bench = Bench::after(&[COUNTED, ("002_a.sql", "SELECT 1;"), ("003_b.sql", "SELECT 2;")], 3).await;
    bench.folder.rename("003_b.sql", "004_b.sql");
    bench.folder.rename("002_a.sql", "003_a.sql");
    let before = bench.dump();
    let said = bench.run(&["repair", "--version", "2", "--yes"]).is(3).out;
    let words = "002_a.sql is now 003_a.sql, but in the ledger this number is that of 003_b.sql, which keeps it";
    assert!(said.contains(words), "{said}");
    assert_eq!(bench.dump(), before);
    let document = bench.run(&["repair", "--version", "2", "-o", "json"]).is(3).document();
    assert!(document["left"][0].as_str().is_some_and(|left| left.contains(words)), "{document}");
    assert_eq!(document["changes"], serde_json::json!([]));

    bench.folder.remove("003_a.sql");
    bench.folder.rename("004_b.sql", "002_b.sql");
    let said = bench.run(&["repair", "--yes"]).is(3).out;
    for words in ["002_a.sql is no longer in the folder", "003_b.sql is now 002_b.sql, but", "Done"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    bench.run(&["apply"]).is(1);
    bench.folder.rename("002_b.sql", "003_b.sql");
    bench.run(&["repair"]).is(0);
    bench.run(&["plan", "--exit-code"]).is(0);
}

#[tokio::test]
async fn a_script_does_not_get_the_number_of_one_that_is_begun() {
    let bench = Bench::after(&[COUNTED, ("002_u.sql", "SELECT 1;")], 2).await;
    let pay = "-- belay: no-transaction\nINSERT INTO counted VALUES ('pay');\nSELECT nonsense;\n";
    bench.folder.write("003_pay.sql", pay);
    bench.run(&["apply"]).is(1);
    bench.folder.remove("003_pay.sql");
    bench.folder.rename("002_u.sql", "003_u.sql");
    bench.folder.write("004_pay.sql", pay.replace("nonsense", "1").replace("('pay')", "('paid')"));
    let before = bench.dump();
    let said = bench.run(&["repair", "--yes"]).is(3).out;
    let words = "002_u.sql is now 003_u.sql, but in the ledger this number is that of 003_pay.sql, which is begun";
    assert!(said.contains(words), "{said}");
    assert_eq!(bench.dump(), before);
    bench.run(&["apply"]).is(1);
    assert_eq!(bench.value(COUNTS).await, "pay");

    bench.folder.rename("003_u.sql", "002_u.sql");
    bench.folder.remove("004_pay.sql");
    bench.folder.write("003_pay.sql", pay.replace("nonsense", "1"));
    bench.run(&["apply"]).is(0);
    assert_eq!(bench.value(COUNTS).await, "pay", "what was done of it was not done again");
}

#[tokio::test]
async fn a_begun_script_that_was_renumbered_goes_on_under_its_new_number() {
    let bench = Bench::after(&[COUNTED, ("002_u.sql", "SELECT 1;")], 2).await;
    let pay = "-- belay: no-transaction\nINSERT INTO counted VALUES ('pay');\nSELECT nonsense;\n";
    bench.folder.write("003_pay.sql", pay);
    bench.run(&["apply"]).is(1);
    bench.folder.rename("003_pay.sql", "004_pay.sql");
    bench.folder.rename("002_u.sql", "003_u.sql");
    bench.refuses(&["apply"], "MissingScript", &["002_u.sql is applied, but"]);
    let said = bench.run(&["repair"]).is(3).out;
    for words in ["2 rows of the ledger", "002_u.sql is now 003_u.sql", "003_pay.sql is begun, and is now 004_pay.sql"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    bench.run(&["repair", "--version", "2", "--yes"]).is(3);
    let document = bench.run(&["repair", "--yes", "-o", "json"]).is(0).document();
    assert_eq!((document["changes"][1]["version"].as_str(), &document["begunApart"]), (Some("003"), &Value::Null));
    assert_eq!(bench.value(EVENTS).await, "002_u.sql 003_pay.sql");
    bench.folder.write("004_pay.sql", pay.replace("nonsense", "1"));
    bench.run(&["apply"]).is(0);
    assert_eq!(bench.value(COUNTS).await, "pay", "what was done of it was not done again");
    assert_eq!(bench.versions().await, "001 003 004");
}

#[tokio::test]
async fn a_new_script_with_the_number_of_one_that_is_begun_waits_for_it() {
    let bench = Bench::after(&[COUNTED], 1).await;
    let mine = "-- belay: no-transaction\nINSERT INTO counted VALUES ('mine');\nSELECT nonsense;\n";
    bench.folder.write("002_mine.sql", mine);
    bench.run(&["apply"]).is(1);
    bench.folder.rename("002_mine.sql", "003_mine.sql");
    bench.folder.write("002_theirs.sql", "INSERT INTO counted VALUES ('theirs');");
    let words = ["002 is begun (002_mine.sql, 1 statement done)", "now calls it 003_mine.sql. Give it its number back"];
    bench.refuses(&["apply"], "MissingScript", &words);

    bench.run(&["repair", "--yes"]).is(0);
    bench.folder.write("003_mine.sql", mine.replace("nonsense", "1"));
    bench.refuses(&["apply"], "OutOfOrder", &["002_theirs.sql is to be applied after 003_mine.sql"]);
    bench.run(&["apply", "--out-of-order"]).is(0);
    assert_eq!(bench.value(COUNTS).await, "mine theirs");
}

#[tokio::test]
async fn a_claim_of_one_who_is_gone_is_given_up() {
    let bench = Bench::after(SHOP, 3).await;
    bench.database.admin("INSERT INTO belay.meta (key, value) VALUES ('claimant', 'old/shop/shop')").await;
    let said = bench.run(&["repair", "--release-claim"]).is(3);
    assert!(said.out.contains("the claim of old/shop/shop is given up"), "{}", said.out);
    assert!(bench.run(&["status"]).out.contains("old/shop/shop"));
    bench.run(&["repair", "--release-claim", "--yes"]).is(0);
    assert!(bench.run(&["status"]).out.contains("nobody"));
}

#[tokio::test]
async fn a_claim_and_a_word_on_a_statement_change_nothing_else_and_need_no_folder() {
    let bench = Bench::after(SHOP, 3).await;
    bench.folder.write(SHOP[0].0, SHOP[0].1.replace("name text", "name varchar"));
    bench.folder.remove(SHOP[2].0);
    let claim = async || {
        bench.database.admin("INSERT INTO belay.meta (key, value) VALUES ('claimant', 'old/shop/shop')").await;
        let doubt = "INSERT INTO belay.statement (number, statement, file_name, checksum, command, run_id) \
                     VALUES (4, 1, '004_x.sql', '', 'CALL', gen_random_uuid())";
        bench.database.admin(doubt).await;
    };
    let history = "SELECT string_agg(h::text, ' ' ORDER BY number) FROM belay.history h";
    let before = bench.value(history).await;
    for folder in ["there", "gone"] {
        if folder == "gone" {
            std::fs::remove_dir_all(bench.folder.script("")).expect("a folder");
        }
        claim().await;
        let said = bench.run(&["repair", "--release-claim"]).is(3);
        assert!(said.out.contains("old/shop/shop") && !said.out.contains(".sql"), "{}", said.out);
        bench.run(&["repair", "--release-claim", "--yes"]).is(0);
        let said = bench.run(&["repair", "--release-claim", "--yes"]).is(0);
        assert!(said.out.contains("nobody has claimed the ledger"), "{}", said.out);
        bench.run(&["repair", "--statement", "004:1=undone"]).is(3);
        bench.run(&["repair", "--statement", "004:1=undone", "--yes"]).is(0);
        assert_eq!(bench.value("SELECT count(*)::text FROM belay.statement").await, "0", "{folder}");
        assert_eq!(bench.value(history).await, before, "{folder}");
    }
    bench.run(&["repair", "--version", "1", "--release-claim"]).is(1);
    let url = "postgres://u:hunter2@h/d";
    let said = bench.run(&["repair", url, "--release-claim", "--yes"]).is(2);
    assert!(!said.err.contains("hunter2"), "{}", said.err);
}

#[tokio::test]
async fn a_word_on_a_statement_that_is_not_in_doubt_is_refused_before_it_is_asked_for() {
    let bench = Bench::after(&SHOP[..1], 1).await;
    let done = "INSERT INTO belay.statement (number, statement, file_name, checksum, command, run_id, done_at) \
                VALUES (2, 1, '002_x.sql', '', 'CALL', gen_random_uuid(), now())";
    bench.database.admin(done).await;
    bench.folder.rename(SHOP[0].0, "001_first.sql");
    for word in [&["--statement", "002:1=done"][..], &["--statement", "2:2=undone"], &["--forget-statements", "001"]] {
        for more in [&[][..], &["--yes"], &["--version", "1", "--yes"]] {
            let arguments = [&["repair"], word, more].concat();
            bench.refuses(&arguments, "InDoubt", &["knows of no statement of which it could be said that"]);
        }
    }
    bench.run(&["repair", "--forget-statements", "2"]).is(3);

    let bench = Bench::new(&[]).await;
    bench.refuses(&["repair", "--statement", "002:1=done", "--yes"], "InDoubt", &["knows of no statement"]);
}

#[tokio::test]
async fn a_begun_script_that_is_gone_is_named_with_the_command_that_forgets_it() {
    let bench = Bench::after(&SHOP[..1], 1).await;
    let script = "-- belay: no-transaction\nCREATE TABLE paid (a int);\nSELECT nonsense;\n";
    bench.folder.write("002_pay.sql", script);
    bench.run(&["apply"]).is(1);
    bench.folder.remove("002_pay.sql");
    let words =
        ["Version 002 is begun", "(002_pay.sql, 1 statement done)", "belay repair --forget-statements 002 --yes."];
    bench.refuses(&["apply"], "MissingScript", &[&words[..], &["Nothing was run", "is at 001"]].concat());
    bench.refuses(&["plan"], "MissingScript", &words);
    let document = bench.run(&["status", "migrations", "-o", "json"]).is(1).document();
    assert_eq!((&document["failure"]["script"], &document["begun"][0]["done"]), (&"002_pay.sql".into(), &1.into()));

    for arguments in [&["repair"][..], &["repair", "--yes"]] {
        let before = bench.dump();
        let said = bench.run(arguments).is(3).out;
        for words in words {
            assert!(said.contains(words) && !said.contains("nothing is to be repaired"), "{words}: {said}");
        }
        assert_eq!(bench.dump(), before);
    }
    let document = bench.run(&["repair", "-o", "json"]).is(3).document();
    assert_eq!(document["begunApart"], serde_json::json!([{"version": "002", "file": "002_pay.sql", "done": 1}]));
    bench.run(&["repair", "--version", "1"]).is(0);

    bench.folder.write("002_pay.sql", script);
    bench.run(&["plan"]).is(0);
    bench.folder.rename("002_pay.sql", "003_pay.sql");
    bench.database.admin("DROP TABLE paid").await;
    bench.run(&["repair", "--forget-statements", "2", "--yes"]).is(0);
    bench.folder.write("003_pay.sql", script.replace("nonsense", "1"));
    bench.run(&["apply"]).is(0);
    assert_eq!(bench.versions().await, "001 003");
}

#[tokio::test]
async fn a_begun_script_that_was_edited_in_what_is_done_is_refused_before_anything_is_run() {
    let bench = Bench::after(&SHOP[..1], 1).await;
    let script = "-- belay: no-transaction\nCREATE TABLE paid (a int);\nSELECT nonsense;\n";
    bench.folder.write("002_pay.sql", script);
    bench.run(&["apply"]).is(1);
    bench.folder.write("002_pay.sql", script.replace("paid (a", "paid (b").replace("nonsense", "1"));
    let before = bench.dump();
    let words = ["002_pay.sql, line 2: the script was edited after its statement 1", "--forget-statements 002 --yes"];
    for command in ["plan", "apply"] {
        bench.refuses(&[command], "InDoubt", &[&words[..], &["2 | CREATE TABLE paid (b int);", "is at 001"]].concat());
    }
    let failure = bench.run(&["status", "migrations", "-o", "json"]).is(1).document()["failure"].clone();
    assert_eq!((&failure["line"], &failure["statement"]), (&2.into(), &1.into()), "{failure}");
    let said = bench.run(&["repair", "--yes"]).is(3).out;
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
    assert_eq!(bench.dump(), before);

    bench.folder.write("002_pay.sql", script.replace("nonsense", "1"));
    bench.run(&["repair"]).is(0);
    bench.run(&["apply"]).is(0);
    assert_eq!(bench.versions().await, "001 002");
}

#[tokio::test]
async fn a_repair_of_a_database_without_a_ledger_finds_nothing() {
    let bench = Bench::new(SHOP).await;
    let before = bench.dump();
    bench.run(&["repair", "--yes"]).is(0);
    assert_eq!(bench.dump(), before);
}
