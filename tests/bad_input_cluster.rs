//! What people get wrong: each leaves the database untouched, and says what to do. What was missing and comes later is
//! enough: nobody has to tell Belay.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/server.rs"]
mod server;

use serde_json::{Value, json};

use cluster::{Cluster, DEADLINE, Namespace, message};
use server::Database;

async fn fixture(purpose: &str) -> (Namespace, Database) {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace(purpose).await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    (namespace, database)
}

fn says(migration: &Value, parts: &[&str]) {
    let said = message(migration);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// Scripts that are refused before anything is run.
async fn refused(scripts: &[(&str, &str)], fields: Value, reason: &str, parts: &[&str]) {
    let (namespace, database) = fixture("refused").await;
    namespace.migrate(scripts, fields).await;
    says(&namespace.reason("m", reason).await, parts);
    database.is_untouched();
}

/// A first release is applied; the second is refused, and changes nothing.
async fn refused_after(first: &[(&str, &str)], second: &[(&str, &str)], reason: &str, parts: &[&str]) {
    let (namespace, database) = fixture("release").await;
    namespace.migrate(first, json!({})).await;
    namespace.reason("m", "Succeeded").await;
    let before = database.sql("select * from belay.history order by version");
    namespace.migrate(second, json!({})).await;
    says(&namespace.reason("m", reason).await, parts);
    assert_eq!(database.sql("select * from belay.history order by version"), before);
    assert_eq!(database.sql("select to_regclass('never')").trim(), "");
}

const NEVER: &str = "create table never ();";

#[tokio::test]
async fn a_file_name_that_is_no_scripts_is_named_with_the_rule() {
    refused(
        &[("1_a.sql", NEVER), ("first.sql", NEVER)],
        json!({}),
        "InvalidSource",
        &["first.sql", "<version>_<description>.sql"],
    )
    .await;
}

#[tokio::test]
async fn two_files_of_one_version_are_both_named() {
    let scripts = [("001_a.sql", NEVER), ("1_b.sql", NEVER)];
    refused(&scripts, json!({}), "InvalidSource", &["001_a.sql", "1_b.sql", "another version"]).await;
}

#[tokio::test]
async fn an_empty_source_is_refused() {
    refused(&[], json!({}), "InvalidSource", &["no script", "Add one"]).await;
}

#[tokio::test]
async fn a_source_of_other_files_only_counts_as_empty() {
    refused(&[("README.md", "see the wiki")], json!({}), "InvalidSource", &["no script"]).await;
}

#[tokio::test]
async fn an_unknown_target_is_named_with_the_latest_version() {
    refused(&[("1_a.sql", NEVER)], json!({ "target": "7" }), "UnknownTarget", &["7", "latest version is 1"]).await;
}

#[tokio::test]
async fn a_nul_character_is_refused_with_its_place() {
    refused(
        &[("1_a.sql", "create table never ();\nselect '\0';")],
        json!({}),
        "InvalidSource",
        &["1_a.sql", "line 2", "NUL"],
    )
    .await;
}

#[tokio::test]
async fn an_embedded_commit_is_refused_before_the_first_script_runs() {
    let scripts = [("1_a.sql", NEVER), ("2_b.sql", "create table b ();\nCOMMIT;\ncreate table c ();")];
    refused(&scripts, json!({}), "UnsupportedScript", &["2_b.sql", "line 2", "COMMIT"]).await;
}

#[tokio::test]
async fn a_line_of_psql_is_refused_with_its_place() {
    let scripts = [("1_a.sql", "create table never ();\n\\i other.sql\n")];
    refused(&scripts, json!({}), "UnsupportedScript", &["1_a.sql", "line 2"]).await;
}

#[tokio::test]
async fn a_script_of_comments_only_is_refused() {
    refused(&[("1_a.sql", "-- to be written\n")], json!({}), "UnsupportedScript", &["1_a.sql"]).await;
}

#[tokio::test]
async fn an_index_built_concurrently_beside_other_statements_is_refused_before_the_first_script_runs() {
    let mixed = "alter table never add m int;\ncreate index concurrently i on never (m);";
    let scripts = [("1_a.sql", "create table never (n int);"), ("2_b.sql", mixed)];
    refused(&scripts, json!({}), "UnsupportedScript", &["2_b.sql", "line 2", "-- belay: no-transaction"]).await;
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_refused_with_their_place() {
    let (namespace, database) = fixture("encoding").await;
    namespace.scripts(&[("1_a.sql", b"create table never ();\n-- caf\xe9\n")]).await;
    namespace.migrate_from(json!({ "configMaps": [{ "name": "scripts" }] }), json!({})).await;
    says(&namespace.reason("m", "InvalidSource").await, &["1_a.sql", "line 2", "UTF-8"]);
    database.is_untouched();
}

#[tokio::test]
async fn a_byte_order_mark_and_carriage_returns_are_fine() {
    let (namespace, database) = fixture("windows").await;
    let script = b"\xef\xbb\xbf-- Author: Ana\r\nCREATE TABLE a (\r\n  n int\r\n);\r\nINSERT INTO a VALUES (1);\r\n";
    namespace.scripts(&[("1_a.sql", script)]).await;
    namespace.migrate_from(json!({ "configMaps": [{ "name": "scripts" }] }), json!({})).await;
    namespace.reason("m", "Succeeded").await;
    assert_eq!(database.sql("select author, n from belay.history, a").trim(), "Ana|1");
}

#[tokio::test]
async fn a_script_of_a_mebibyte_is_applied() {
    let (namespace, database) = fixture("large").await;
    // A ConfigMap may hold 1 MiB in all, names included.
    let line = format!("insert into a values ('{}');\n", "x".repeat(970));
    let script = format!("create table a (t text);\n{}", line.repeat(1_040_000 / line.len()));
    namespace.scripts(&[("1_a.sql", script.as_bytes())]).await;
    namespace.migrate_from(json!({ "configMaps": [{ "name": "scripts" }] }), json!({})).await;
    namespace.reason("m", "Succeeded").await;
    assert_eq!(database.sql("select count(*) from a").trim(), (1_040_000 / line.len()).to_string());
}

#[tokio::test]
async fn an_edited_script_that_is_applied_is_named() {
    let edited = [("1_a.sql", "create table a (n int);"), ("2_b.sql", NEVER)];
    refused_after(&[("1_a.sql", "create table a ();")], &edited, "ChecksumMismatch", &["1_a.sql", "new script"]).await;
}

#[tokio::test]
async fn a_removed_script_that_is_applied_is_named() {
    let first = [("1_a.sql", "create table a ();"), ("2_b.sql", "create table b ();")];
    refused_after(&first, &[("2_b.sql", "create table b ();"), ("3_c.sql", NEVER)], "MissingScript", &["1_a.sql"])
        .await;
}

#[tokio::test]
async fn a_renamed_script_that_is_applied_is_named_with_both_names() {
    let first = [("1_a.sql", "create table a ();")];
    let second = [("1_z.sql", "create table a ();"), ("2_b.sql", NEVER)];
    refused_after(&first, &second, "MissingScript", &["1_a.sql", "1_z.sql"]).await;
}

#[tokio::test]
async fn a_lower_version_after_a_higher_is_refused() {
    let second = [("1_a.sql", NEVER), ("2_b.sql", "create table b ();")];
    refused_after(&[("2_b.sql", "create table b ();")], &second, "OutOfOrder", &["1_a.sql", "2_b.sql"]).await;
}

#[tokio::test]
async fn a_config_map_that_comes_later_is_enough() {
    let (namespace, database) = fixture("lateconfig").await;
    namespace.migrate_from(json!({ "configMaps": [{ "name": "scripts" }] }), json!({})).await;
    says(&namespace.reason("m", "SourceNotFound").await, &["ConfigMap", "scripts", "Create it"]);
    database.is_untouched();
    namespace.scripts(&[("1_a.sql", b"create table a ();")]).await;
    namespace.reason("m", "Succeeded").await;
}

#[tokio::test]
async fn a_database_that_comes_later_is_enough() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("latedatabase").await, cluster.database().await);
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({})).await;
    says(&namespace.reason("m", "DatabaseNotFound").await, &["PostgresDatabase", "db", "Create it"]);
    namespace.apply(&database.manifests()).await;
    namespace.reason("m", "Succeeded").await;
}

#[tokio::test]
async fn a_secret_that_comes_later_is_enough() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("latesecret").await, cluster.database().await);
    namespace.apply(&database.object("backup: {when: Never}")).await;
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({})).await;
    says(&namespace.reason("m", "SecretNotFound").await, &["Secret", "db", "Create it"]);
    namespace.apply(&database.secret("belay")).await;
    namespace.reason("m", "Succeeded").await;
}

/// A connection that does not come about, and then its correction.
async fn cannot_connect(secret: impl FnOnce(&str) -> String, reason: &str, parts: &[&str]) {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("connect").await, cluster.database().await);
    let right = database.secret("belay");
    namespace.apply(&secret(&right)).await;
    namespace.apply(&database.object("backup: {when: Never}")).await;
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({})).await;
    let migration = namespace.reason("m", reason).await;
    says(&migration, parts);
    assert!(!migration.to_string().contains("wr0ng-passw0rd"), "a password in {migration}");
    assert!(!cluster.report(&namespace.name).contains("wr0ng-passw0rd"), "a password in events or logs");
    database.is_untouched();
    namespace.apply(&right).await;
    namespace.reason("m", "Succeeded").await;
}

#[tokio::test]
async fn a_key_missing_in_the_secret_is_named_and_its_addition_is_enough() {
    cannot_connect(
        |right| right.replace("username: belay", "login: belay"),
        "SecretNotFound",
        &["Secret", "db", "username"],
    )
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_told_and_its_correction_is_enough() {
    let wrong = |right: &str| right.replace("password: belay", "password: wr0ng-passw0rd");
    cannot_connect(wrong, "AuthenticationFailed", &["refused", "password"]).await;
}

#[tokio::test]
async fn a_host_that_is_not_there_is_told_and_its_correction_is_enough() {
    cannot_connect(
        |right| right.replace("host: postgres.", "host: nowhere."),
        "ConnectionFailed",
        &["nowhere.", "host"],
    )
    .await;
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_told_and_its_correction_is_enough() {
    cannot_connect(|right| right.replace("5432", "5499"), "ConnectionFailed", &[":5499"]).await;
}

#[tokio::test]
async fn a_database_name_that_is_not_there_is_told_and_its_correction_is_enough() {
    cannot_connect(|right| right.replace("dbname: t", "dbname: x"), "ConnectionFailed", &["does not exist", "dbname"])
        .await;
}

/// Until the script's statement runs on the server.
async fn in_mid_run(namespace: &Namespace, database: &Database) {
    let running = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and query ~ 'pg_sleep' and pid <> pg_backend_pid()",
        database.name
    );
    let look = async || (database.sql(&running).trim() != "0").then_some(());
    namespace.wait_for("the script on the server", DEADLINE, look).await;
}

async fn no_longer_runs(namespace: &Namespace, database: &Database) {
    let running = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid()",
        database.name
    );
    let look = async || (database.sql(&running).trim() == "0").then_some(());
    namespace.wait_for("the end of the run's sessions on the server", DEADLINE, look).await;
}

#[tokio::test]
async fn a_migration_deleted_in_mid_run_is_cancelled_on_the_server_rolled_back_and_then_gone() {
    let (namespace, database) = fixture("deleted").await;
    namespace.migrate(&[("1_a.sql", "create table never (); select pg_sleep(600);")], json!({})).await;
    in_mid_run(&namespace, &database).await;
    namespace.delete("Migration", "m").await;
    let gone = async || namespace.get("Migration", "m").await.is_none().then_some(());
    namespace.wait_for("the end of the Migration", DEADLINE, gone).await;
    no_longer_runs(&namespace, &database).await;
    assert_eq!(database.sql("select to_regclass('never'), count(*) from belay.history").trim(), "|0");
}

#[tokio::test]
async fn a_database_deleted_in_mid_run_lets_the_run_finish_and_is_then_missed() {
    let (namespace, database) = fixture("orphan").await;
    // Out of the search path: tables there would ask for a baseline.
    database.sql("create schema gate; create table gate.opened (at timestamptz)");
    let script = "create table a ();\ndo $$ begin while not exists (select from gate.opened) loop perform pg_sleep(0.05); end loop; end $$;";
    namespace.migrate(&[("1_a.sql", script)], json!({})).await;
    in_mid_run(&namespace, &database).await;
    namespace.delete("PostgresDatabase", "db").await;
    database.sql("insert into gate.opened values (now())");
    let migration = namespace.reason("m", "DatabaseNotFound").await;
    says(&migration, &["PostgresDatabase", "db"]);
    assert_eq!(migration["status"]["version"], "1", "{migration}");
    assert_eq!(database.sql("select version from belay.history").trim(), "1");
}

#[tokio::test]
async fn a_namespace_deleted_in_mid_run_goes_and_leaves_nothing_half_done() {
    let (namespace, database) = fixture("gone").await;
    namespace.migrate(&[("1_a.sql", "create table never (); select pg_sleep(600);")], json!({})).await;
    in_mid_run(&namespace, &database).await;
    let name = namespace.name.clone();
    namespace.cluster.kubectl(["delete", "namespace", &name, "--wait=false"]);
    let gone = async || {
        let there = namespace.cluster.kubectl(["get", "namespace", &name, "--ignore-not-found", "--output", "name"]);
        there.stdout.is_empty().then_some(())
    };
    namespace.wait_for("the end of the namespace", DEADLINE, gone).await;
    no_longer_runs(&namespace, &database).await;
    assert_eq!(database.sql("select to_regclass('never'), count(*) from belay.history").trim(), "|0");
}
