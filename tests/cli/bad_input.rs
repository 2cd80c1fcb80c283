//! Whatever is wrong with a folder or an address: the database is left as it was, and the message says what to do.

use crate::bench::{Bench, SHOP, belay};
use crate::support::postgres::free_port;

#[tokio::test]
async fn a_file_name_that_is_none_is_named_with_one_that_would_do() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write("V4__add_user.sql", "SELECT 1");
    bench.refuses(
        &["apply"],
        "InvalidSource",
        &["V4__add_user.sql", "<version>_<description>.sql", "call it 4_add_user.sql"],
    );
}

#[tokio::test]
async fn every_faulty_file_is_told_at_once() {
    let bench = Bench::new(SHOP).await;
    bench.folder.write("x.sql", "SELECT 1");
    bench.folder.write("4-y.sql", "SELECT 1");
    bench.folder.write("005_z.sql", b"\xff\xfe");
    bench.refuses(&["plan"], "InvalidSource", &["x.sql", "4-y.sql", "005_z.sql", "UTF-16"]);
}

#[tokio::test]
async fn a_script_in_a_deep_folder_where_its_tool_would_find_it_is_not_passed_over() {
    let bench = Bench::new(&[("V1__a.sql", "SELECT 1"), ("V3__c.sql", "SELECT 3")]).await;
    std::fs::create_dir_all(bench.folder.script("2024/q1")).expect("a folder");
    bench.folder.write("2024/q1/V2__b.sql", "SELECT 2");
    for layout in ["flyway", "refinery"] {
        let words = ["2024/q1/V2__b.sql", "put it beside the others"];
        bench.refuses(&["plan", "--layout", layout], "InvalidSource", &words);
    }
}

#[tokio::test]
async fn two_files_of_one_version_are_refused() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write("2_other.sql", "SELECT 1");
    let words = ["2_other.sql", "002_add_user_preferences.sql", "another version"];
    bench.refuses(&["apply"], "InvalidSource", &words);
}

#[tokio::test]
async fn an_edited_script_that_is_applied_is_refused() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write("001_initial_schema.sql", "CREATE TABLE users (id int);");
    let words = ["001_initial_schema.sql was edited", "belay repair", "Nothing was run", "is at 002"];
    bench.refuses(&["apply"], "ChecksumMismatch", &words);
}

#[tokio::test]
async fn a_removed_script_that_is_applied_is_refused() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.remove("001_initial_schema.sql");
    let words = ["001_initial_schema.sql", "no longer in the source", "belay repair", "is at 002"];
    bench.refuses(&["apply"], "MissingScript", &words);
}

#[tokio::test]
async fn a_renamed_script_that_is_applied_is_refused() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.rename("001_initial_schema.sql", "001_first.sql");
    bench.refuses(&["apply"], "MissingScript", &["001_initial_schema.sql", "001_first.sql", "belay repair"]);
}

#[tokio::test]
async fn a_lower_version_after_a_higher_one_is_refused_unless_allowed() {
    let bench = Bench::after(&[SHOP[0], SHOP[2]], 2).await;
    bench.folder.write(SHOP[1].0, SHOP[1].1);
    bench.refuses(
        &["apply"],
        "OutOfOrder",
        &["002_add_user_preferences.sql", "003_ticket_escalation.sql", "--out-of-order"],
    );
    bench.run(&["apply", "--out-of-order"]).is(0);
    assert_eq!(bench.versions().await, "001 002 003");
}

#[tokio::test]
async fn an_unknown_target_is_refused() {
    let bench = Bench::new(SHOP).await;
    bench.refuses(&["apply", "--target", "7"], "UnknownTarget", &["Target 7", "003"]);
    let said = bench.run(&["apply", "--target", "seven"]).is(2);
    assert!(said.err.contains("digits"), "{}", said.err);
}

#[tokio::test]
async fn an_empty_source_is_refused() {
    let bench = Bench::new(&[("README.md", "nothing")]).await;
    bench.refuses(&["apply"], "InvalidSource", &["no script", "001_initial_schema.sql"]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let bench = Bench::new(SHOP).await;
    bench.refuses(&["apply", "elsewhere"], "SourceNotFound", &["elsewhere"]);
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_refused_with_their_place() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write("004_x.sql", b"SELECT 1;\nSELECT '\xe9';\n");
    bench.refuses(&["apply"], "InvalidSource", &["004_x.sql, line 2", "not UTF-8"]);
}

#[tokio::test]
async fn a_nul_is_refused_with_its_place() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write("004_x.sql", "SELECT 1;\nSELECT '\0';\n");
    bench.refuses(&["apply"], "InvalidSource", &["004_x.sql, line 2, column 9", "NUL"]);
}

#[tokio::test]
async fn a_byte_order_mark_and_crlf_are_fine_and_change_no_checksum() {
    let bench = Bench::new(&[]).await;
    let text = SHOP[0].1.replace('\n', "\r\n");
    bench.folder.write(SHOP[0].0, format!("\u{feff}{text}"));
    bench.run(&["apply"]).is(0);
    bench.folder.write(SHOP[0].0, SHOP[0].1);
    bench.run(&["plan", "--exit-code"]).is(0);
}

#[tokio::test]
async fn a_script_of_comments_only_is_refused() {
    let bench = Bench::after(SHOP, 2).await;
    bench.folder.write("004_x.sql", "-- Description: nothing\n/* yet */\n");
    bench.refuses(&["apply"], "UnsupportedScript", &["004_x.sql"]);
}

#[tokio::test]
async fn a_script_of_one_mebibyte_is_applied() {
    let bench = Bench::new(&[]).await;
    let row = "INSERT INTO big VALUES ('0123456789 é 0123456789');\n";
    let text = format!("CREATE TABLE big (t text);\n{}", row.repeat((1 << 20) / row.len() + 1));
    assert!(text.len() > 1 << 20);
    bench.folder.write("001_big.sql", &text);
    bench.run(&["apply"]).is(0);
    let rows = bench.value("SELECT count(*)::text FROM big").await;
    assert_eq!(rows, ((1 << 20) / row.len() + 1).to_string());
}

#[tokio::test]
async fn an_embedded_commit_is_refused_before_the_first_script_is_run() {
    let bench = Bench::new(SHOP).await;
    bench.folder.write("004_x.sql", "CREATE TABLE a (i int);\nCOMMIT;\nCREATE TABLE b (i int);\n");
    bench.refuses(
        &["apply"],
        "UnsupportedScript",
        &["004_x.sql, line 2, column 1", "COMMIT", "has no version yet", "\n  2 | COMMIT;\n    | ^\n"],
    );
}

#[tokio::test]
async fn a_line_of_psqls_is_refused_before_the_first_script_is_run() {
    let bench = Bench::new(SHOP).await;
    bench.folder.write("004_x.sql", "SELECT 1;\n\\i other.sql\n");
    bench.refuses(&["apply"], "UnsupportedScript", &["004_x.sql, line 2", "\\i"]);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_repeated() {
    let bench = Bench::new(SHOP).await;
    let wrong = bench.database.url.replace(&bench.database.password, "hunter2");
    for arguments in [&["apply"][..], &["apply", "-vv"], &["plan", "-o", "json"], &["status", "-o", "yaml"]] {
        let mut command = bench.command(arguments);
        let said = crate::bench::Said::of(command.env("DATABASE_URL", &wrong).output().unwrap()).is(1);
        assert!(said.err.contains("refused the login"), "{}", said.err);
        assert!(!format!("{said:?}").contains("hunter2"), "{said:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let bench = Bench::new(SHOP).await;
    let wrong = bench.database.url.replace(&format!("/{}?", bench.database.name), "/nowhere?");
    let said = bench.run(&["apply", "--database-url", &wrong]).is(1);
    assert!(said.err.contains("/nowhere does not exist. Create it"), "{}", said.err);
    assert!(!said.err.contains(&bench.database.password), "{}", said.err);
}

#[tokio::test]
async fn a_wrong_host_or_port_is_named_and_may_be_tried_again() {
    let bench = Bench::new(SHOP).await;
    let port = free_port();
    for url in [format!("postgres://u:hunter2@127.0.0.1:{port}/d"), "postgres://u:hunter2@host.invalid/d".to_owned()] {
        let said = bench.run(&["apply", "--database-url", &url]).is(4);
        let address = url.split('@').next_back().unwrap().split('/').next().unwrap();
        assert!(said.err.contains(address) && said.err.contains("Check host, port"), "{}", said.err);
        assert!(!said.err.contains("hunter2"), "{}", said.err);
    }
}

#[test]
fn no_mistake_in_the_arguments_repeats_a_url() {
    let url = "postgres://u:hunter2@h/d";
    for arguments in [
        vec!["plan", url],
        vec!["plan", "migrations", url],
        vec!["plan", "--databse-url", url],
        vec!["plan", "--databse-url=postgres://u:hunter2@h/d"],
        vec!["plan", "--target", url],
        vec!["plan", "--database-url", "mysql://u:hunter2@h/d"],
        vec!["plan", "--database-url", "postgres://u:hunter2@h:port/d"],
        vec![url],
        vec!["status", "host=h password=hunter2"],
        vec!["status", "migrations", "host=h password=hunter2"],
        vec!["plan", "PGPASSWORD=hunter2"],
        vec!["plan", "--databse-url=host=h password=hunter2"],
    ] {
        let said = crate::bench::Said::of(belay(&arguments).output().unwrap());
        assert!(matches!(said.code, Some(1 | 2)), "{arguments:?}: {said:?}");
        assert!(!said.err.contains("hunter2") && !said.out.contains("hunter2"), "{arguments:?}: {said:?}");
        assert!(!said.err.is_empty());
    }
}

#[tokio::test]
async fn a_url_that_asks_for_a_schema_is_refused_until_the_search_path_is_given() {
    let bench = Bench::new(SHOP).await;
    let url = format!("{}&schema=tenant1", bench.database.url);
    let said = bench.run(&["apply", "--database-url", &url]).is(1);
    assert!(
        said.err.contains("the parameter schema of the database URL") && said.err.contains("--search-path"),
        "{said:?}"
    );
    bench.run(&["apply", "--database-url", &url, "--search-path", "public"]).is(0);
}

#[tokio::test]
async fn a_port_or_an_sslmode_in_a_variable_that_is_none_is_refused_as_psql_does() {
    let bench = Bench::new(SHOP).await;
    let server = crate::support::postgres::Postgres::shared();
    let run = |port: &str, mode: &str| {
        let mut command = belay(&["status"]);
        command.envs([
            ("PGHOST", "127.0.0.1"),
            ("PGPORT", port),
            ("PGSSLMODE", mode),
            ("PGDATABASE", &bench.database.name),
        ]);
        command.envs([("PGUSER", &bench.database.role), ("PGPASSWORD", &bench.database.password)]);
        crate::bench::Said::of(command.output().unwrap())
    };
    run(&format!(" {} ", server.port), "disable").is(0);
    for (port, mode, variable) in [
        ("548310", "disable", "PGPORT"),
        ("abc", "disable", "PGPORT"),
        ("0", "disable", "PGPORT"),
        ("5432", "requires", "PGSSLMODE"),
    ] {
        let said = run(port, mode).is(1);
        assert!(said.err.contains(&format!("the variable {variable} is not usable")), "{said:?}");
    }
}

#[tokio::test]
async fn a_folder_that_is_called_like_a_script_is_named_as_it_is() {
    let bench = Bench::new(SHOP).await;
    std::fs::create_dir(bench.folder.script("004_x.sql")).unwrap();
    bench.refuses(&["plan"], "SourceNotFound", &["belay: migrations/004_x.sql: a folder can't be a script"]);
}

#[tokio::test]
async fn a_right_that_a_script_lacks_is_told_with_whose_it_is() {
    let bench = Bench::new(&[("001_a.sql", "CREATE TABLE a (id int);\nINSERT INTO vault VALUES (1);")]).await;
    bench.database.admin("CREATE TABLE vault (id int)").await;
    let said = bench.run(&["apply", "--baseline", "0"]).is(1);
    let role = format!("as the role {:?}. Nothing of 001 is applied.", bench.database.role);
    assert!(said.err.contains(&role) && said.err.contains("Grant the role that right"), "{}", said.err);
}
