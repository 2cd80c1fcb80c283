//! Inputs that are missing, wrong, or come late. Each leaves the database untouched and says what to do.

use serde_json::json;

use crate::shop::{SOON, Shop, condition, ready};
use crate::support::postgres::Postgres;

const ONE: [(&str, &str); 1] = [("001_a.sql", "create table a ();")];

/// Refused with this reason, and with these words; the database is untouched.
async fn refused(scripts: &[(&str, &str)], fields: serde_json::Value, reason: &str, words: &[&str]) {
    let shop = Shop::new("refused").await;
    let _operator = shop.operator();
    shop.migrate_with(scripts, fields).await;
    let status = shop.reason(reason).await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert_eq!(condition(&status, "Stalled")["status"], "True");
    assert_eq!((shop.tables().await, shop.ledger().await), (String::new(), String::new()), "the database is untouched");
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_before_the_first_script() {
    for (sql, words) in [
        ("create table b (); commit; create table c ();", "COMMIT"),
        ("select 1; create index concurrently i on a (id);", "CREATE INDEX CONCURRENTLY"),
        ("\\i other.sql", "\\i"),
        ("copy a from stdin;\n1\n", "COPY"),
        ("-- nothing but a comment\n", "no statement"),
    ] {
        refused(&[ONE[0], ("002_b.sql", sql)], json!({}), "UnsupportedScript", &["002_b.sql, line", words]).await;
    }
}

#[tokio::test]
async fn sources_that_are_no_history_are_refused() {
    for (scripts, fields, reason, words) in [
        (
            vec![("initial.sql", "select 1")],
            json!({}),
            "InvalidSource",
            vec!["initial.sql", "<version>_<description>.sql"],
        ),
        (
            vec![("1_a.sql", "select 1"), ("001_b.sql", "select 1")],
            json!({}),
            "InvalidSource",
            vec!["1_a.sql", "001_b.sql"],
        ),
        (vec![("README.md", "no script")], json!({}), "InvalidSource", vec!["no script"]),
        (vec![ONE[0]], json!({ "target": "7" }), "UnknownTarget", vec!["arget 7", "001"]),
        (vec![ONE[0]], json!({ "baseline": "7" }), "UnknownTarget", vec!["aseline 7"]),
        (
            vec![ONE[0]],
            json!({ "source": { "digest": format!("sha256:{}", "0".repeat(64)) } }),
            "InvalidSource",
            vec!["digest"],
        ),
    ] {
        refused(&scripts, fields, reason, &words).await;
    }
}

#[tokio::test]
async fn applied_scripts_that_changed_are_refused_by_name() {
    let shop = Shop::new("drift").await;
    let _operator = shop.operator();
    let (a, b) = (("001_a.sql", "create table a ();"), ("003_c.sql", "create table c ();"));
    shop.migrate(&[a, b]).await;
    shop.reason("Succeeded").await;
    for (scripts, reason, word) in [
        (vec![("001_a.sql", "create table aa ();"), b], "ChecksumMismatch", "001_a.sql"),
        (vec![b], "MissingScript", "001_a.sql"),
        (vec![("001_other.sql", a.1), b], "MissingScript", "001_other.sql"),
        (vec![a, ("002_b.sql", "create table b ();"), b], "OutOfOrder", "002_b.sql"),
    ] {
        shop.migrate(&scripts).await;
        let status = shop.reason(reason).await;
        let message = ready(&status)["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{word:?} is not in {message:?}");
        assert_eq!((shop.tables().await, shop.ledger().await), ("a,c".to_owned(), "001,003".to_owned()));
    }
    shop.migrate_with(&[a, ("002_b.sql", "create table b ();"), b], json!({ "outOfOrder": "Allow" })).await;
    shop.reason("Succeeded").await;
    assert_eq!(shop.tables().await, "a,b,c");
}

#[tokio::test]
async fn a_database_with_tables_and_no_ledger_needs_a_baseline() {
    let shop = Shop::new("baseline").await;
    shop.database.admin(&format!("set role {}; create table a ()", shop.database.role)).await;
    let _operator = shop.operator();
    let scripts = [ONE[0], ("002_b.sql", "create table b ();")];
    shop.migrate(&scripts).await;
    let status = shop.reason("BaselineRequired").await;
    assert!(ready(&status)["message"].as_str().is_some_and(|message| message.contains("public.a")), "{status}");
    shop.migrate_with(&scripts, json!({ "baseline": "1" })).await;
    shop.reason("Succeeded").await;
    assert_eq!((shop.tables().await, shop.ledger().await), ("a,b".to_owned(), "001,002".to_owned()));
}

#[tokio::test]
async fn what_is_missing_is_named_and_recovers_by_itself_when_it_comes() {
    let shop = Shop::on(Postgres::shared(), "missing").await;
    let _operator = shop.operator();
    shop.migrate_config_map(json!({})).await;
    let status = shop.reason("DatabaseNotFound").await;
    assert_eq!(condition(&status, "Reconciling")["status"], "True", "for five minutes it may still come: {status}");

    shop.apply(&json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": "shop" },
        "spec": { "connection": { "secretRef": { "name": "shop-postgres" } }, "backup": { "when": "Never" } },
    }))
    .await;
    let status = shop.reason("SourceNotFound").await;
    assert!(ready(&status)["message"].as_str().is_some_and(|message| message.contains("/scripts")), "{status}");

    shop.config_map(&ONE).await;
    let status = shop.reason("SecretNotFound").await;
    assert!(ready(&status)["message"].as_str().is_some_and(|message| message.contains("/shop-postgres")), "{status}");

    shop.apply_secret().await;
    shop.reason("Succeeded").await;
}

#[tokio::test]
async fn each_fault_of_a_connection_has_its_reason_and_no_secret_in_its_words() {
    let shop = Shop::on(Postgres::shared(), "connection").await;
    shop.apply_database(json!({})).await;
    let _operator = shop.operator();
    let good = shop.database.url.clone();
    let port = crate::support::postgres::free_port();
    let cases = [
        (json!({ "uri": good.replace(&shop.database.password, "wrong-hunter2") }), "AuthenticationFailed"),
        (json!({ "uri": good.replace(&format!("/{}?", shop.database.name), "/nowhere?") }), "ConnectionFailed"),
        (
            json!({ "uri": good.replace(&format!(":{}/", Postgres::shared().port), &format!(":{port}/")) }),
            "ConnectionFailed",
        ),
        (json!({ "uri": good.replace("127.0.0.1", "no-such-host.invalid") }), "ConnectionFailed"),
        (json!({ "uri": good.replace("sslmode=disable", "sslmode=verify-full") }), "TlsFailed"),
        (json!({ "password": "wrong-hunter2" }), "SecretNotFound"),
    ];
    for (data, reason) in cases {
        shop.namespace.kubectl(&["delete", "secret", "shop-postgres", "--ignore-not-found"]);
        shop.apply(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "shop-postgres" }, "stringData": data })).await;
        shop.namespace.kubectl(&["delete", "migration", "shop", "--ignore-not-found"]);
        shop.migrate(&ONE).await;
        let status = shop.reason(reason).await;
        let text = status.to_string();
        assert!(!text.contains("hunter2") && !text.contains(&shop.database.password), "{text}");
    }
    shop.apply_secret().await;
    shop.namespace.kubectl(&["delete", "secret", "shop-postgres"]);
    shop.apply_secret().await;
    shop.reason("Succeeded").await;
}

#[tokio::test]
async fn what_has_been_missing_for_five_minutes_is_stalled_though_belay_was_restarted_meanwhile() {
    let shop = Shop::on(Postgres::shared(), "patience").await;
    let operator = shop.operator();
    shop.migrate(&ONE).await;
    shop.apply(&json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": "other" },
        "spec": { "connection": { "secretRef": { "name": "nowhere" } }, "backup": { "when": "Never" } },
    }))
    .await;
    let objects = [("Migration", "shop", "DatabaseNotFound"), ("PostgresDatabase", "other", "SecretNotFound")];
    let until = async |kind: &str, state: &str| {
        for (_, name, reason) in objects.iter().filter(|(of, ..)| *of == kind) {
            let look = async || {
                let status = shop.namespace.get(kind, name).await?["status"].clone();
                let told = condition(&status, state);
                (told["status"] == "True" && told["reason"] == *reason).then_some(())
            };
            shop.namespace.wait_for(&format!("{state} of {kind} {name}"), SOON, look).await;
        }
    };
    for (kind, ..) in objects {
        until(kind, "Reconciling").await;
    }
    operator.kill();
    // As if this had been said five minutes ago.
    let ago = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(5)).strftime("%FT%TZ").to_string();
    for (kind, name, _) in objects {
        let mut status = shop.namespace.get(kind, name).await.unwrap()["status"].clone();
        for condition in status["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = json!(ago);
        }
        let patch = json!({ "status": { "conditions": status["conditions"] } }).to_string();
        shop.namespace.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "--patch", &patch]);
    }
    let _operator = shop.operator();
    for (kind, ..) in objects {
        until(kind, "Stalled").await;
    }
    // It is looked for all the same.
    shop.apply_database(json!({})).await;
    shop.reason("Succeeded").await;
}

#[tokio::test]
async fn the_ledger_is_read_again_at_the_interval_though_nothing_has_changed() {
    let shop = Shop::new("interval").await;
    shop.apply_database(json!({ "interval": "1s" })).await;
    let _operator = shop.operator();
    shop.migrate(&[ONE[0], ("002_b.sql", "create table b ();")]).await;
    shop.reason("Succeeded").await;
    let pinned = async || {
        let database = shop.namespace.get("PostgresDatabase", "shop").await?;
        (database["status"]["version"] == "002").then_some(())
    };
    shop.namespace.wait_for("version 002 of the PostgresDatabase", SOON, pinned).await;
    shop.database.admin("drop table b; delete from belay.history where version = '002'").await;
    shop.reason("LedgerWentBack").await;
}

#[tokio::test]
async fn a_config_map_that_changed_while_no_operator_was_there_or_while_one_is_is_applied() {
    let shop = Shop::new("config-map").await;
    let at = async |version: &str| {
        let look = async || (shop.ledger().await == version).then_some(());
        shop.namespace.wait_for(&format!("the versions {version}"), SOON, look).await;
        shop.reason("Succeeded").await;
    };
    let (b, c) = (("002_b.sql", "create table b ();"), ("003_c.sql", "create table c ();"));
    shop.config_map(&ONE).await;
    let operator = shop.operator();
    shop.migrate_config_map(json!({})).await;
    at("001").await;
    shop.config_map(&[ONE[0], b]).await;
    at("001,002").await;
    operator.kill();
    shop.config_map(&[ONE[0], b, c]).await;
    let _operator = shop.operator();
    at("001,002,003").await;
}

#[tokio::test]
async fn only_the_content_of_the_digest_is_run() {
    let shop = Shop::new("digest").await;
    let _operator = shop.operator();
    let folder = std::env::temp_dir().join(&shop.namespace.name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(ONE[0].0), ONE[0].1).unwrap();
    let printed = std::process::Command::new(env!("CARGO_BIN_EXE_belay")).arg("digest").arg(&folder).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let digest = String::from_utf8(printed.stdout).unwrap().trim().to_owned();
    assert!(digest.starts_with("sha256:"), "{digest}");

    shop.config_map(&ONE).await;
    shop.migrate_config_map(json!({ "digest": digest })).await;
    let status = shop.reason("Succeeded").await;
    assert_eq!(status["sourceDigest"], digest);
    shop.config_map(&[ONE[0], ("002_b.sql", "create table b ();")]).await;
    let status = shop.reason("InvalidSource").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("digest") && message.contains(&digest), "{message}");
    assert_eq!((shop.tables().await, shop.ledger().await), ("a".to_owned(), "001".to_owned()));
}
