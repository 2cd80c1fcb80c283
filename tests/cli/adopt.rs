//! Ledgers that the tools themselves wrote, taken over. goose, golang-migrate and dbmate run here; what the others wrote was
//! recorded by tests/ledgers/record.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, Executor as _};

use crate::bench::{Bench, Said};

/// A tool whose programs tests/tools/install has installed, by then at the latest.
fn tool(name: &str) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/install");
        let done = Command::new(&install).stderr(Stdio::inherit()).output().expect("tests/tools/install runs");
        assert!(done.status.success(), "{}: {}", install.display(), done.status);
        PathBuf::from(String::from_utf8(done.stdout).expect("a path").trim())
    });
    Command::new(folder.join(name))
}

/// Runs a tool to its end; it must succeed.
#[track_caller]
fn ran(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn goose(bench: &Bench, command: &str) {
    let folder = bench.folder.script("");
    ran(tool("goose").arg("-dir").arg(folder).args(["postgres", &bench.database.url, command]));
}

fn dbmate(bench: &Bench) {
    let folder = bench.folder.script("");
    ran(tool("dbmate").args(["--url", &bench.database.url, "--no-dump-schema", "-d"]).arg(folder).arg("up"));
}

/// A script that needs both before it, for the end.
const LAST: &str = "INSERT INTO users (id, name, email) VALUES (1, 'Ada', 'ada@example.org');\n";

/// Belay sees what the tool applied, records it without running it, and applies one script more.
async fn taken_over(bench: &Bench, layout: &str, tool: &str, versions: &str) {
    let said = bench.refuses(&["apply", "--layout", layout], "BaselineRequired", &["--adopt auto"]);
    assert!(said.err.contains(tool), "{}", said.err);
    let arguments = ["--layout", layout, "--adopt", "auto"];
    let with = |command: &'static str| [&[command][..], &arguments].concat();
    let before = bench.dump();
    let plan = bench.run(&with("plan")).is(0);
    assert!(plan.out.contains("2 scripts to record as present, up to"), "{}", plan.out);
    assert!(plan.out.contains(&format!("of {tool} has them; 1 script to apply")), "{}", plan.out);
    let document = bench.run(&[&with("plan")[..], &["-o", "json"]].concat()).is(0).document();
    for recorded in document["baseline"].as_array().expect("scripts") {
        let told = (recorded["mode"].as_str(), recorded.get("locks"), recorded.get("destructive"));
        assert_eq!(told, (Some("Adopt"), None, None), "what is only recorded does nothing: {recorded}");
    }
    assert_eq!(bench.dump(), before, "a plan changes nothing");

    let said = bench.run(&with("apply")).is(0);
    assert!(said.out.contains("recorded, not run") && said.out.contains("1 script applied"), "{}", said.out);
    assert_eq!(bench.versions().await, versions);
    let modes = "SELECT string_agg(mode, ' ' ORDER BY number) FROM belay.history";
    assert_eq!(bench.value(modes).await, "adopted adopted transaction");
    assert_eq!(bench.value("SELECT detail->>'tool' FROM belay.event WHERE kind = 'adopted'").await, tool);
    assert_eq!(bench.value("SELECT email FROM users").await, "ada@example.org");
    assert!(bench.run(&["history", "--layout", layout]).is(0).out.contains("adopted"));

    let again = bench.run(&with("plan")).is(0);
    assert!(again.out.contains("nothing to apply"), "{}", again.out);
}

#[tokio::test]
async fn what_goose_applied_is_taken_over() {
    let bench = Bench::new(&[
        (
            "00001_users.sql",
            "-- +goose Up\nCREATE TABLE users (id bigint PRIMARY KEY, name text);\n-- +goose Down\nDROP TABLE users;\n",
        ),
        (
            "00002_emails.sql",
            "-- +goose Up\nALTER TABLE users ADD COLUMN email text;\n-- +goose StatementBegin\n\
             CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN\n  RETURN 1;\nEND $$;\n-- +goose StatementEnd\n\
             -- +goose Down\nDROP FUNCTION f();\nALTER TABLE users DROP COLUMN email;\n",
        ),
    ])
    .await;
    goose(&bench, "up");
    goose(&bench, "redo");
    bench.folder.write("00003_ada.sql", format!("-- +goose Up\n{LAST}"));
    taken_over(&bench, "goose", "goose", "00001 00002 00003").await;
}

#[tokio::test]
async fn what_goose_took_back_is_applied_again() {
    let up = |sql: &str| format!("-- +goose Up\n{sql};\n-- +goose Down\nDROP TABLE b;\n");
    let bench = Bench::new(&[]).await;
    bench.folder.write("1_a.sql", up("CREATE TABLE a (id int)"));
    bench.folder.write("2_b.sql", up("CREATE TABLE b (id int)"));
    goose(&bench, "up");
    goose(&bench, "down");
    bench.run(&["apply", "--layout", "goose", "--adopt", "auto"]).is(0);
    assert_eq!(
        bench.value("SELECT string_agg(mode, ' ' ORDER BY number) FROM belay.history").await,
        "adopted transaction"
    );
}

fn golang_migrate(bench: &Bench) -> Command {
    let mut command = tool("migrate");
    command.arg("-path").arg(bench.folder.script("")).args(["-database", &bench.database.url]);
    command
}

#[tokio::test]
async fn what_golang_migrate_applied_is_taken_over() {
    let bench = Bench::new(&[
        ("1_users.up.sql", "CREATE TABLE users (id bigint PRIMARY KEY, name text);\n"),
        ("1_users.down.sql", "DROP TABLE users;\n"),
        ("2_emails.up.sql", "ALTER TABLE users ADD COLUMN email text;\n"),
    ])
    .await;
    ran(golang_migrate(&bench).arg("up"));
    bench.folder.write("3_ada.up.sql", LAST);
    taken_over(&bench, "golang-migrate", "golang-migrate", "1 2 3").await;
}

#[tokio::test]
async fn what_golang_migrate_left_dirty_is_not_taken_over() {
    let bench =
        Bench::new(&[("1_a.up.sql", "CREATE TABLE a (id int);\n"), ("2_b.up.sql", "CREATE TABLE b (id nothing);\n")])
            .await;
    let failed = golang_migrate(&bench).arg("up").output().expect("it starts");
    assert!(!failed.status.success());
    bench.refuses(
        &["apply", "--layout", "golang-migrate", "--adopt", "auto"],
        "AdoptionRefused",
        &["The ledger public.schema_migrations (golang-migrate) says that version 2 failed", "Nothing was run"],
    );
}

#[tokio::test]
async fn what_dbmate_applied_is_taken_over() {
    let up = |sql: &str| format!("-- migrate:up\n{sql};\n\n-- migrate:down\nDROP TABLE users;\n");
    let bench = Bench::new(&[]).await;
    bench.folder.write("20240101000000_users.sql", up("CREATE TABLE users (id bigint PRIMARY KEY, name text)"));
    bench.folder.write("20240102000000_emails.sql", up("ALTER TABLE users ADD COLUMN email text"));
    dbmate(&bench);
    bench.folder.write("20240103000000_ada.sql", format!("-- migrate:up\n{LAST}-- migrate:down\n"));
    taken_over(&bench, "dbmate", "dbmate or Rails", "20240101000000 20240102000000 20240103000000").await;
}

#[tokio::test]
async fn a_ledger_of_another_tool_than_the_layouts_or_outside_of_the_search_path_is_refused() {
    let bench = Bench::new(&[("1_a.sql", "-- +goose Up\nCREATE TABLE a (id int);\n")]).await;
    bench.folder.write("2_b.sql", "-- +goose Up\nCREATE TABLE b (id int);\n");
    let apply = ["apply", "--layout", "goose", "--adopt", "auto"];
    let mut owner = bench.database.owner().await;
    let other = "CREATE TABLE schema_migrations (version bigint, dirty boolean); INSERT INTO schema_migrations VALUES (2, false)";
    owner.execute(other).await.expect("a ledger of golang-migrate's");
    let words = ["public.schema_migrations (golang-migrate)", "the layout goose", "--layout golang-migrate"];
    bench.refuses(&apply, "AdoptionRefused", &words);

    owner.execute("DROP TABLE schema_migrations").await.expect("it goes");
    let own = "CREATE SCHEMA app; CREATE TABLE app.a (id int); CREATE TABLE app.goose_db_version (id int, version_id bigint, \
               is_applied boolean); INSERT INTO app.goose_db_version VALUES (1, 0, true), (2, 1, true)";
    owner.execute(own).await.expect("a ledger of goose's");
    bench.refuses(&apply, "AdoptionRefused", &["app.goose_db_version (goose)", "--search-path app"]);
    bench.run(&[&apply[..], &["--search-path", "app"]].concat()).is(0);
    assert_eq!(
        bench.value("SELECT string_agg(mode, ' ' ORDER BY number) FROM belay.history").await,
        "adopted transaction"
    );
}

#[tokio::test]
async fn a_file_of_goose_or_dbmate_is_not_run_whole_where_its_layout_is_not_named() {
    for (layout, up, down) in
        [("goose", "-- +goose Up", "-- +goose Down"), ("dbmate", "-- migrate:up", "-- migrate:down")]
    {
        let bench = Bench::new(&[]).await;
        let file =
            |table: &str| format!("-- Why.\n{up}\nCREATE TABLE {table} (id int);\n{down}\nDROP TABLE {table};\n");
        let named = format!("--layout {layout}");
        bench.folder.write("1_users.sql", file("users"));
        bench.refuses(&["apply"], "UnsupportedScript", &["1_users.sql, line 2, column 1", &named]);

        match layout {
            "goose" => goose(&bench, "up"),
            _ => dbmate(&bench),
        }
        bench.folder.write("2_orders.sql", file("orders"));
        bench.refuses(&["apply"], "BaselineRequired", &["--adopt auto", &named]);
        let adopting = ["apply", "--adopt", "auto"];
        bench.refuses(&adopting, "UnsupportedScript", &["2_orders.sql, line 2, column 1", &named]);
        bench.run(&[&adopting[..], &["--layout", layout]].concat()).is(0);
        assert_eq!(bench.value("SELECT to_regclass('orders')::text").await, "orders", "{layout}");
    }
}

#[tokio::test]
async fn what_rails_applied_is_taken_over() {
    let bench = recorded("rails", "20240103000000_ada.sql").await;
    taken_over(&bench, "belay", "dbmate or Rails", "20240101000000 20240102000000 20240103000000").await;
}

#[tokio::test]
async fn what_a_tool_would_run_outside_a_transaction_is_run_so() {
    let block = "DO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; END $$;\n";
    for (layout, files) in [
        ("golang-migrate", vec![("2_i.up.sql", block.to_owned())]),
        (
            "goose",
            vec![(
                "2_i.sql",
                format!("-- +goose NO TRANSACTION\n-- +goose Up\n{block}-- +goose Down\nDELETE FROM t;\n"),
            )],
        ),
        (
            "dbmate",
            vec![("2_i.sql", format!("-- migrate:up transaction:false\n{block}-- migrate:down\nDELETE FROM t;\n"))],
        ),
        (
            "diesel",
            vec![("2_i__up.sql", block.to_owned()), ("2_i__metadata.toml", "run_in_transaction = false\n".to_owned())],
        ),
        ("sqlx", vec![("2_i.sql", format!("-- no-transaction\n{block}"))]),
        ("refinery", vec![("V2__i.sql", format!("{block}-- refinery:noTransaction\n"))]),
        (
            "flyway",
            vec![("V2__i.sql", block.to_owned()), ("V2__i.sql.conf", "executeInTransaction=false\n".to_owned())],
        ),
    ] {
        let bench = Bench::new(&[]).await;
        bench.database.owner().await.execute("CREATE TABLE t (id int)").await.expect("a table");
        for (name, text) in files {
            bench.folder.write(name, text);
        }
        bench.run(&["apply", "--layout", layout, "--baseline", "0"]).is(0);
        let state = "SELECT h.mode || ' ' || t.id FROM belay.history h, t";
        assert_eq!(bench.value(state).await, "no-transaction 1", "{layout}");
    }
}

/// A database as the tool left it, and the scripts that it had, one more beside them.
async fn recorded(tool: &str, last: &str) -> Bench {
    let bench = Bench::new(&[]).await;
    let ledgers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledgers");
    let dump = std::fs::read_to_string(ledgers.join(format!("{tool}.sql"))).expect("a dump");
    assert!(dump.starts_with(&format!("-- Written by {tool} ")), "{}", dump.lines().next().unwrap_or_default());
    let mut owner = bench.database.owner().await;
    sqlx::raw_sql(AssertSqlSafe(dump)).execute(&mut owner).await.expect("the dump can be read back");
    copy(&ledgers.join(tool), &bench.folder.script(""));
    if let Some((folder, _)) = last.split_once('/') {
        std::fs::create_dir(bench.folder.script(folder)).expect("a folder");
    }
    bench.folder.write(last, LAST);
    bench
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).expect("a folder");
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a file");
        }
    }
}

/// The script that the tool applied second differs from what it was: by a blank.
async fn edited_is_refused(tool: &str, layout: &str, file: &str, last: &str) {
    let bench = recorded(tool, last).await;
    let text = std::fs::read_to_string(bench.folder.script(file)).expect("a script");
    bench.folder.write(file, text.replacen("ADD COLUMN", "ADD  COLUMN", 1));
    bench.refuses(
        &["apply", "--layout", layout, "--adopt", "auto"],
        "ChecksumMismatch",
        &[&format!("{file} is not what was applied"), "Nothing was run"],
    );
}

#[tokio::test]
async fn what_sqlx_applied_is_taken_over_and_its_checksums_are_compared() {
    let last = "20240103000000_ada.up.sql";
    let bench = recorded("sqlx", last).await;
    taken_over(&bench, "sqlx", "sqlx", "20240101000000 20240102000000 20240103000000").await;
    edited_is_refused("sqlx", "sqlx", "20240102000000_emails.up.sql", last).await;
}

#[tokio::test]
async fn what_refinery_applied_is_taken_over_and_its_checksums_are_compared() {
    let bench = recorded("refinery", "V3__ada.sql").await;
    taken_over(&bench, "refinery", "refinery", "1 2 3").await;
    edited_is_refused("refinery", "refinery", "V2__emails.sql", "V3__ada.sql").await;
}

#[tokio::test]
async fn what_flyway_applied_is_taken_over_and_its_checksums_are_compared() {
    let bench = recorded("flyway", "V2__ada.sql").await;
    taken_over(&bench, "flyway", "Flyway", "1000000 1001000 2000000").await;
    edited_is_refused("flyway", "flyway", "V1.1__emails.sql", "V2__ada.sql").await;
}

#[tokio::test]
async fn what_diesel_applied_is_taken_over() {
    let bench = recorded("diesel", "2024-02-01-000000_ada/up.sql").await;
    taken_over(&bench, "diesel", "diesel", "00000000000000 20240102030405 20240201000000").await;
}

#[tokio::test]
async fn what_prisma_applied_is_taken_over_and_its_checksums_are_compared() {
    let last = "20240103000000_ada/migration.sql";
    let bench = recorded("prisma", last).await;
    taken_over(&bench, "prisma", "Prisma", "20240101000000 20240102000000 20240103000000").await;
    edited_is_refused("prisma", "prisma", "20240102000000_emails/migration.sql", last).await;
}

#[tokio::test]
async fn the_keys_of_a_config_map_are_the_same_files() {
    let bench = recorded("diesel", "2024-02-01-000000_ada/up.sql").await;
    let keys = Bench::new(&[]).await;
    for (folder, file) in
        [("00000000000000_setup", "up"), ("00000000000000_setup", "down"), ("2024-01-02-030405_emails", "up")]
    {
        let text = std::fs::read(bench.folder.script(folder).join(format!("{file}.sql"))).expect("a script");
        keys.folder.write(&format!("{folder}__{file}.sql"), text);
    }
    keys.folder.write("2024-01-02-030405_emails__down.sql", "ALTER TABLE users DROP COLUMN email;\n");
    keys.folder.write("2024-02-01-000000_ada__up.sql", LAST);
    let digest = |said: Said| said.is(0).out;
    let of = |bench: &Bench| digest(bench.run(&["digest", "--layout", "diesel"]));
    assert_eq!(of(&keys), of(&bench));
    assert_eq!(digest(keys.run(&["digest", "--layout", "auto"])), of(&bench));
}
