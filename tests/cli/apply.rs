//! Planning and applying.

use std::process::Stdio;
use std::time::Duration;

use crate::bench::{Bench, SHOP};
use crate::support::memory;

#[tokio::test]
async fn a_folder_is_applied_once_and_a_second_time_there_is_nothing_to_do() {
    let bench = Bench::new(SHOP).await;
    let said = bench.run(&["apply"]).is(0);
    let name = &bench.database.name;
    assert!(
        said.out.starts_with(&format!("{name} has no version yet; 3 scripts to apply, up to 003\n")),
        "{}",
        said.out
    );
    assert!(said.out.contains("  002  Add user preferences  Ada       applied, "), "{}", said.out);
    assert!(said.out.ends_with(&format!("{name} is at 003; 3 scripts applied\n")), "{}", said.out);
    assert_eq!(said.err, "");
    assert_eq!(bench.versions().await, "001 002 003");

    let before = bench.dump();
    let said = bench.run(&["apply"]).is(0);
    assert_eq!(said.out, format!("{name} is at 003; nothing to apply\n"));
    assert_eq!(bench.dump(), before);
}

#[tokio::test]
async fn a_plan_says_what_apply_would_do_and_creates_nothing() {
    let bench = Bench::new(SHOP).await;
    let before = bench.dump();
    bench.run(&["plan"]).is(0);
    assert_eq!(bench.dump(), before, "an empty database stays empty");

    let bench = Bench::after(SHOP, 1).await;
    let before = bench.dump();
    let said = bench.run(&["plan", "migrations"]).is(0);
    let expected = format!(
        "{} is at 001; 2 scripts to apply, up to 003\n  \
         002  Add user preferences  Ada  in a transaction  2 statements  rollback: yes  \
         ALTER TABLE users: ACCESS EXCLUSIVE  destructive, line 5: UPDATE without WHERE\n  \
         003  Ticket escalation          in a transaction  2 statements  rollback: no   \
         UPDATE users: ROW EXCLUSIVE          destructive, line 2: UPDATE without WHERE\n",
        bench.database.name
    );
    assert_eq!(said.out, expected);
    bench.run(&["plan", "--exit-code"]).is(3);
    bench.run(&["plan", "--exit-code", "--target", "1"]).is(0);
    assert_eq!(bench.dump(), before);
}

#[tokio::test]
async fn a_plan_counts_the_locks_that_it_has_no_room_for_and_marks_only_what_may_lose_data() {
    let files = [
        ("001_a.sql", "CREATE TABLE a (id int); CREATE INDEX ON a (id);"),
        ("002_b.sql", "CREATE TABLE b (id int REFERENCES a);\nALTER TABLE c ADD d int;\nDROP INDEX e;"),
        ("003_c.sql", "DO $$ BEGIN END $$"),
    ];
    let bench = Bench::new(&files).await;
    let said = bench.run(&["plan"]).is(0).out;
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[1].ends_with("rollback: no"), "what it makes itself nobody waits for: {said}");
    assert!(lines[2].ends_with("ALTER TABLE c: ACCESS EXCLUSIVE, 3 more"), "{said}");
    assert!(lines[3].contains("locks what its body names") && lines[3].ends_with("destructive, line 1: DO"), "{said}");
    let plan = bench.run(&["plan", "-o", "json"]).is(0).document();
    let locks =
        ["c: ACCESS EXCLUSIVE", "e: ACCESS EXCLUSIVE", "a: SHARE ROW EXCLUSIVE", "not named: the table of the index"];
    assert_eq!(plan["plan"][1]["locks"], serde_json::json!(locks));
    assert!(plan["plan"][0].get("locks").is_none() && plan["plan"][1].get("destructive").is_none(), "{plan}");
    let recorded = bench.run(&["plan", "--baseline", "3", "-o", "json"]).is(0).document();
    assert!(recorded["baseline"][2].get("destructive").is_none(), "what is recorded is not run: {recorded}");
}

#[tokio::test]
async fn a_plan_is_a_document_with_stable_names() {
    let bench = Bench::after(SHOP, 1).await;
    let plan = bench.run(&["plan", "-o", "json"]).is(0).document();
    assert_eq!((&plan["version"], &plan["target"], &plan["pending"]), (&"001".into(), &"003".into(), &2.into()));
    let first = &plan["plan"][0];
    assert_eq!(first["file"], "002_add_user_preferences.sql");
    assert_eq!(first["description"], "Add user preferences");
    assert_eq!(
        (&first["mode"], &first["rollback"], &first["statements"]),
        (&"Transaction".into(), &"yes".into(), &2.into())
    );
    assert_eq!(first["locks"], serde_json::json!(["users: ACCESS EXCLUSIVE"]));
    assert_eq!(first["destructive"], "line 5: UPDATE without WHERE");
    let digest = bench.run(&["digest"]).is(0).out;
    assert_eq!(plan["sourceDigest"], digest.trim());

    let yaml = bench.run(&["plan", "-o", "yaml"]).is(0).out;
    let same: serde_json::Value = serde_yaml::from_str(&yaml).unwrap();
    assert_eq!(same, plan, "the version stays text: {yaml}");
}

#[tokio::test]
async fn a_statement_in_doubt_is_told_with_the_command_that_settles_it() {
    let script = |last| format!("-- belay: no-transaction\nCREATE TABLE u (a int);\n{last};\n");
    let bench = Bench::new(&[("001_u.sql", &script("SELECT nonsense"))]).await;
    bench.run(&["apply"]).is(1);
    bench.folder.write("001_u.sql", script("SELECT 1"));
    bench.database.admin("UPDATE belay.statement SET done_at = NULL").await;
    let said = bench.run(&["apply"]).is(1).err;
    for words in ["belay repair --statement 001:1=done --yes, or =undone.", ". Settle it as the message says, and run"]
    {
        assert!(said.contains(words) && !said.contains("Correct the script"), "{words}: {said}");
    }
    bench.run(&["repair", "--statement", "001:1=done", "--yes"]).is(0);
    bench.run(&["apply"]).is(0);
    assert_eq!(bench.versions().await, "001");
}

#[tokio::test]
async fn a_failed_script_is_told_in_three_sentences_and_what_came_before_it_stays() {
    let bench = Bench::after(SHOP, 1).await;
    bench
        .folder
        .write("003_ticket_escalation.sql", "CREATE TABLE tickets (id bigint);\nUPDATE users\n  SET nmae = 'x';\n");
    let said = bench.run(&["apply"]).is(1);
    let name = &bench.database.name;
    let expected = format!(
        "belay: 003_ticket_escalation.sql, line 3, column 7: column \"nmae\" of relation \"users\" does not exist \
         (SQLSTATE 42703). Nothing of 003 is applied.\n  3 |   SET nmae = 'x';\n    |       ^\n\
         {name} is at 002. Correct the script, and run the same command again.\n"
    );
    assert_eq!(said.err, expected);
    assert!(said.out.contains("002  Add user preferences  Ada  applied, "), "{}", said.out);
    assert!(said.out.trim_end().ends_with("not applied"), "{}", said.out);
    assert_eq!(bench.versions().await, "001 002");
    assert_eq!(
        bench.value("SELECT count(*)::text FROM belay.event WHERE kind = 'held'").await,
        "0",
        "a person is asked"
    );

    let document = bench.run(&["apply", "-o", "json"]).is(1).document();
    assert_eq!((&document["outcome"], &document["version"]), (&"ScriptFailed".into(), &"002".into()));
    assert_eq!(document["failure"]["sqlState"], "42703");
    assert_eq!((&document["failure"]["line"], &document["failure"]["column"]), (&3.into(), &7.into()));
    assert_eq!((&document["pending"], &document["applied"]), (&1.into(), &serde_json::json!([])));

    bench.folder.write("003_ticket_escalation.sql", SHOP[2].1);
    let document = bench.run(&["apply", "-o", "json"]).is(0).document();
    assert_eq!((&document["outcome"], &document["version"]), (&"Succeeded".into(), &"003".into()));
    assert_eq!(document["applied"][0]["version"], "003");
}

#[tokio::test]
async fn all_pending_is_all_or_nothing() {
    let bench = Bench::new(SHOP).await;
    bench.folder.write("003_ticket_escalation.sql", "SELECT 1 / 0;");
    let said = bench.run(&["apply", "--transaction", "all-pending"]).is(1);
    assert!(said.err.contains("Nothing of the 3 scripts is applied."), "{}", said.err);
    assert_eq!(bench.versions().await, "");
    assert_eq!(bench.value("SELECT to_regclass('users')::text").await, "");

    bench.folder.write("003_ticket_escalation.sql", SHOP[2].1);
    let plan = bench.run(&["plan", "--transaction", "all-pending"]).is(0);
    assert!(plan.out.contains("in one transaction with the others"), "{}", plan.out);
    let said = bench.run(&["apply", "--transaction", "all-pending"]).is(0);
    assert!(said.out.contains("all of them committed in one transaction"), "{}", said.out);
    assert_eq!(bench.versions().await, "001 002 003");
}

#[tokio::test]
async fn a_target_bounds_what_is_applied() {
    let bench = Bench::new(SHOP).await;
    bench.run(&["apply", "--target", "2"]).is(0);
    assert_eq!(bench.versions().await, "001 002");
}

#[tokio::test]
async fn a_database_with_tables_asks_for_a_baseline_and_records_without_running() {
    let bench = Bench::new(SHOP).await;
    bench.database.admin("CREATE TABLE public.users (id bigint PRIMARY KEY, name text)").await;
    bench.database.admin(&format!("ALTER TABLE public.users OWNER TO {}", bench.database.role)).await;
    bench.refuses(&["apply"], "BaselineRequired", &["public.users", "baseline", "Nothing was run"]);

    let plan = bench.run(&["plan", "--baseline", "1"]).is(0);
    assert!(
        plan.out.contains("1 script to record as present, up to 001; 2 scripts to apply, up to 003"),
        "{}",
        plan.out
    );
    let said = bench.run(&["apply", "--baseline", "1"]).is(0);
    assert!(said.out.contains("recorded, not run"), "{}", said.out);
    assert_eq!(bench.versions().await, "001 002 003");
    assert_eq!(bench.value("SELECT count(*)::text FROM users").await, "0", "001 was not run");
    let history = bench.run(&["history"]).is(0).out;
    assert!(history.contains("baseline"), "{history}");
}

#[tokio::test]
async fn pg_variables_find_the_server_as_psql_does() {
    let bench = Bench::new(SHOP).await;
    let database = &bench.database;
    let mut command = bench.command(&["apply"]);
    command.env_remove("DATABASE_URL").env("PGHOST", "127.0.0.1").env("PGSSLMODE", "disable");
    command.env("PGPORT", crate::support::postgres::Postgres::shared().port.to_string());
    command.env("PGUSER", &database.role).env("PGPASSWORD", &database.password).env("PGDATABASE", &database.name);
    let said = crate::bench::Said::of(command.output().unwrap()).is(0);
    assert!(said.out.contains("3 scripts applied"), "{}", said.out);
}

#[tokio::test]
async fn objects_belong_to_the_role_and_lie_in_the_search_path() {
    let bench = Bench::new(&[("001_a.sql", "CREATE TABLE things (id bigint);")]).await;
    let owner = format!("{}_group", bench.database.role);
    bench.database.admin(&format!("CREATE ROLE {owner}; GRANT {owner} TO {}", bench.database.role)).await;
    bench.database.admin(&format!("GRANT CREATE ON DATABASE {} TO {owner}", bench.database.name)).await;
    bench.database.admin(&format!("CREATE SCHEMA app AUTHORIZATION {owner}")).await;
    bench.run(&["apply", "--role", &owner, "--search-path", "app, public", "--history-schema", "kept"]).is(0);
    let at = bench.value("SELECT schemaname || ' ' || tableowner FROM pg_tables WHERE tablename = 'things'").await;
    assert_eq!(at, format!("app {owner}"));
    assert_eq!(bench.value("SELECT count(*)::text FROM kept.history").await, "1");
}

#[tokio::test]
async fn the_example_goes_from_nothing_to_003() {
    let bench = Bench::new(&[]).await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shop/migrations");
    bench.run(&["apply", example]).is(0);
    assert_eq!(bench.versions().await, "001 002 003");
    let history = bench.run(&["history", "-o", "markdown"]).is(0).out;
    assert_eq!(history.lines().count(), 5, "{history}");
}

#[tokio::test]
async fn what_the_server_says_beside_its_answers_is_told_and_kept_with_the_run() {
    let noisy = "CREATE TABLE a (id int);\nCREATE TABLE IF NOT EXISTS a (id int);\n\
                 DO $$ BEGIN RAISE WARNING 'mind the %', 'gap'; END $$;\nVACUUM a;";
    let outside = format!("-- belay: no-transaction\n{noisy}");
    let outside = outside.replace("gap'; END", "gap'; RAISE WARNING 'was PASSWORD ''hunter2'''; END");
    let quiet = ("002_b.sql", "DO $$ BEGIN FOR i IN 1..300 LOOP RAISE NOTICE '%', i; END LOOP; END $$");
    let bench = Bench::new(&[("001_a.sql", &outside), quiet]).await;
    let said = bench.run(&["apply"]).is(0);
    assert!(said.err.contains("001_a.sql: WARNING: mind the gap"), "{}", said.err);
    assert!(said.err.contains("001_a.sql: NOTICE: relation \"a\" already exists, skipping"), "{}", said.err);
    let kept = "SELECT jsonb_array_length(notices)::text || ' ' || (notices->0->>'severity') FROM belay.run";
    assert_eq!(bench.value(kept).await, "100 NOTICE");
    let kept = bench.value("SELECT notices::text FROM belay.run").await;
    assert!(
        kept.contains("was PASSWORD ********") && !kept.contains("hunter2") && !said.err.contains("hunter2"),
        "{kept}"
    );

    let bench = Bench::new(&[("001_a.sql", &noisy.replace("VACUUM a;", ""))]).await;
    let document = bench.run(&["apply", "-o", "json"]).is(0).document();
    assert_eq!(document["notices"][1]["message"], "mind the gap", "{document}");
}

#[tokio::test]
async fn nothing_that_is_told_of_a_failed_script_has_a_password_of_it() {
    let bench = Bench::new(&[]).await;
    bench.database.admin(&format!("ALTER ROLE {} SUPERUSER", bench.database.role)).await;
    for (script, told) in [
        (
            "SELECT nofn('postgres://u:sekret@h/x');",
            "\n  1 | SELECT nofn('postgres://u:********@h/x');\n    |        ^\n",
        ),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'postgres://u:sekret@h/x' PUBLICATION p, p WITH (connect = off);",
            "'postgres://u:********@h/x'",
        ),
        ("ALTER ROLE nobody PASSWORD\n  'sekret' VALIDX;", "\n  2 |   '********' VALIDX;\n    |              ^\n"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=top sekret' PUBLICATION p WITH (connect = off);",
            "column 1: invalid connection string (SQLSTATE 42601)",
        ),
    ] {
        bench.folder.write("001_a.sql", script);
        let said = bench.run(&["apply"]).is(1);
        assert!(said.err.contains(told), "{}", said.err);
        let document = bench.run(&["apply", "-o", "json"]).is(1);
        assert!(!format!("{said:?}{document:?}").contains("sekret"), "{said:?}{document:?}");
    }
}

#[tokio::test]
async fn a_run_has_an_end_also_where_a_notice_has_characters_that_the_database_lacks() {
    let long = ("001_a.sql", "DO $$ BEGIN RAISE NOTICE '%', repeat('x', 1000); END $$");
    let bench = Bench::new(&[long]).await;
    let bench = Bench { database: bench.database.encoded("LATIN1").await, ..bench };
    bench.run(&["apply"]).is(0);
    let told = "SELECT outcome || ' ' || right(notices->0->>'message', 2) FROM belay.run";
    assert_eq!(bench.value(told).await, "Succeeded x?");
}

#[tokio::test]
async fn memory_is_bounded_by_the_largest_script_and_not_by_the_history() {
    let bench = Bench::new(&[]).await;
    let comment = "x".repeat(4_000_000);
    for n in 1..=50 {
        bench.folder.write(&format!("{n}_big.sql"), format!("CREATE TABLE t_{n} (a int);\n/* {comment} */\n"));
    }
    let most = memory::most_of(bench.command(&["apply"]).stdout(Stdio::null()), Duration::from_secs(120));
    assert_eq!(bench.value("SELECT count(*)::text FROM belay.history").await, "50");
    assert!(most > 0 && most < 100 * 1024, "{most} KiB at its most, for a folder of 200 MB");
}
