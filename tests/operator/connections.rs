//! How the operator connects: as Secrets say at that moment, and as nothing else does.

use serde_json::{Value, json};

use crate::shop::{Shop, condition, ready};
use crate::support::certificates::Certificates;
use crate::support::operator::Operator;
use crate::support::postgres::Postgres;

const A: (&str, &str) = ("001_a.sql", "create table a ();");
const B: (&str, &str) = ("002_b.sql", "create table b ();");
const C: (&str, &str) = ("003_c.sql", "create table c ();");

/// A Secret of these keys, in the place of one that may be there.
async fn secret(shop: &Shop, name: &str, keys: Value) {
    shop.namespace.kubectl(&["delete", "secret", name, "--ignore-not-found"]);
    shop.apply(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": keys }))
        .await;
}

#[tokio::test]
async fn a_rotated_password_is_read_when_the_next_connection_is_made() {
    let shop = Shop::new("rotation").await;
    let operator = shop.operator();
    shop.migrate(&[A]).await;
    shop.reason("Succeeded").await;
    let url = |password: &str| shop.database.url.replace(&shop.database.password, password);
    let alter = |password: &str| format!("alter role {} password '{password}'", shop.database.role);

    // Server and Secret, one after the other, while nothing is to be done.
    shop.database.admin(&alter("second-sesame")).await;
    secret(&shop, "shop-postgres", json!({ "uri": url("second-sesame") })).await;
    shop.migrate(&[A, B]).await;
    shop.reason("Succeeded").await;

    // A release that comes between the two waits for the other, and nobody has to ask for it.
    shop.database.admin(&alter("third-sesame")).await;
    shop.migrate(&[A, B, C]).await;
    let status = shop.reason("AuthenticationFailed").await;
    assert_eq!(condition(&status, "Reconciling")["status"], "True", "{status}");
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("Correct the user or the password"), "{message}");
    assert_eq!((shop.tables().await.as_str(), shop.ledger().await.as_str()), ("a,b", "001,002"));
    secret(&shop, "shop-postgres", json!({ "uri": url("third-sesame") })).await;
    shop.reason("Succeeded").await;
    assert_eq!(shop.tables().await, "a,b,c");
    assert!(!operator.log().contains("sesame"), "no password is in the log");
}

#[tokio::test]
async fn what_the_operators_environment_says_of_a_connection_changes_none() {
    let shop = Shop::new("environment").await;
    let hostile = [
        ("BELAY_LOG", "debug"),
        ("PGHOST", "nowhere.invalid"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPORT", "1"),
        ("PGUSER", "nobody"),
        ("PGPASSWORD", "hunter2"),
        ("PGPASSFILE", "/nonexistent"),
        ("PGDATABASE", "nothing"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", "/nonexistent"),
        ("PGSSLCERT", "/nonexistent"),
        ("PGSSLKEY", "/nonexistent"),
        ("PGOPTIONS", "-c default_transaction_read_only=on -c search_path=nowhere"),
        ("PGAPPNAME", "stranger"),
        ("PGSERVICE", "nothing"),
        ("PGTZ", "Asia/Tokyo"),
    ];
    let _operator = Operator::start_as(&shop.namespace, &hostile);
    shop.migrate(&[A]).await;
    shop.reason("Succeeded").await;
    assert_eq!((shop.tables().await.as_str(), shop.ledger().await.as_str()), ("a", "001"));
}

#[tokio::test]
async fn a_client_certificate_comes_from_its_secret_and_each_fault_of_it_is_told_until_it_is_mended() {
    let server = Postgres::start();
    let certificates = Certificates::serve(&server, "client", "hostssl all all 127.0.0.1/32 cert");
    let shop = Shop::on(&server, "certificate").await;
    shop.database.admin(&format!("create role client login in role {}", shop.database.role)).await;
    let text = |file: &str| String::from_utf8(certificates.pem(file)).unwrap();
    let pair = |certificate: &str, key: &str| json!({ "tls.crt": text(certificate), "tls.key": text(key) });
    let ca = json!({ "ca.crt": text("ca.crt") });
    shop.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "ca" }, "data": ca })).await;
    // No password anywhere.
    let uri = format!("postgres://client@localhost:{}/{}", server.port, shop.database.name);
    let connection = json!({
        "clientCertSecretRef": { "name": "client" }, "sslMode": "verify-full",
        "caRef": { "kind": "ConfigMap", "name": "ca", "key": "ca.crt" },
    });
    let role = &shop.database.role;
    shop.apply_database(json!({ "connection": connection, "role": role })).await;
    secret(&shop, "shop-postgres", json!({ "uri": uri })).await;
    let operator = shop.operator();

    let told = async |reason: &str, words: &[&str]| {
        // A new object is looked at at once.
        shop.namespace.kubectl(&["delete", "migration", "shop", "--ignore-not-found"]);
        shop.migrate(&[A]).await;
        let status = shop.reason(reason).await;
        let message = ready(&status)["message"].as_str().unwrap_or_default();
        assert!(words.iter().all(|words| message.contains(words)), "{words:?} are not in {message:?}");
        assert!(!status.to_string().contains("PRIVATE KEY"), "{status}");
        assert_eq!((shop.tables().await, shop.ledger().await), (String::new(), String::new()));
    };
    told("SecretNotFound", &["/client does not exist", "Create it"]).await;
    for (keys, reason, words) in [
        (json!({ "tls.crt": text("client.crt") }), "SecretNotFound", ["has no key tls.key", "clientCertSecretRef"]),
        (
            json!({ "tls.crt": "hunter2", "tls.key": text("client.key") }),
            "TlsFailed",
            ["tls.crt holds no certificate", "/client"],
        ),
        (pair("client.crt", "other-client.key"), "TlsFailed", ["tls.key is not the key", "/client"]),
        (pair("expired-client.crt", "expired-client.key"), "AuthenticationFailed", ["has expired", "Show one"]),
        (pair("other-client.crt", "other-client.key"), "AuthenticationFailed", ["trusts no authority", "Show one"]),
    ] {
        secret(&shop, "client", keys).await;
        told(reason, &words).await;
    }
    // And it recovers by itself.
    secret(&shop, "client", pair("client.crt", "client.key")).await;
    shop.reason("Succeeded").await;
    assert_eq!((shop.tables().await.as_str(), shop.ledger().await.as_str()), ("a", "001"));
    let log = operator.log();
    assert!(!log.contains("PRIVATE KEY") && !log.contains("BEGIN CERTIFICATE"), "no certificate is in the log");
}

#[tokio::test]
async fn secrets_of_other_operators_connect_as_they_are() {
    let server = Postgres::start();
    let certificates = Certificates::serve(&server, "nobody", "hostssl all all 127.0.0.1/32 scram-sha-256");
    let shop = Shop::on(&server, "secrets").await;
    let (user, password, name, port) =
        (&shop.database.role, &shop.database.password, &shop.database.name, server.port.to_string());
    // As CloudNativePG and PGO publish it.
    let ca = json!({ "ca.crt": String::from_utf8(certificates.ca()).unwrap() });
    secret(&shop, "shop-ca", ca).await;
    let ca_ref = json!({ "kind": "Secret", "name": "shop-ca", "key": "ca.crt" });
    let uri = format!("postgresql://{user}:{password}@localhost:{port}/{name}");
    let jdbc = format!("jdbc:postgresql://localhost:{port}/{name}?password={password}&user={user}");
    let operators = [
        (
            "CloudNativePG",
            json!({
                "username": user, "user": user, "password": password, "dbname": name, "host": "shop-rw.invalid",
                "port": port, "pgpass": format!("shop-rw.invalid:{port}:{name}:{user}:{password}\n"), "uri": uri,
                "jdbc-uri": jdbc, "fqdn-uri": "postgresql://shop-rw.invalid/x", "fqdn-jdbc-uri": jdbc,
            }),
            json!({ "caRef": ca_ref }),
        ),
        (
            "PGO",
            json!({
                "host": "localhost", "port": port, "user": user, "password": password, "dbname": name, "uri": uri,
                "verifier": "SCRAM-SHA-256$4096:c2FsdA==$a:b", "jdbc-uri": jdbc, "pgbouncer-host": "pooler.invalid",
                "pgbouncer-port": "5432", "pgbouncer-uri": "postgresql://pooler.invalid/x", "pgbouncer-jdbc-uri": jdbc,
            }),
            json!({ "caRef": ca_ref }),
        ),
        (
            "Zalando",
            json!({ "username": user, "password": password }),
            json!({ "host": "localhost", "port": server.port, "dbname": name, "sslMode": "require" }),
        ),
    ];
    let _operator = shop.operator();
    let mut scripts = Vec::new();
    for ((operator, keys, connection), script) in operators.into_iter().zip([A, B, C]) {
        shop.apply_database(json!({ "connection": connection })).await;
        secret(&shop, "shop-postgres", keys).await;
        scripts.push(script);
        shop.migrate(&scripts).await;
        let status = shop.reason("Succeeded").await;
        assert_eq!(ready(&status)["status"], "True", "{operator}: {status}");
    }
    assert_eq!(shop.ledger().await, "001,002,003");
}
