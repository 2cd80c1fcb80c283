use std::path::Path;

use belay::api::Reason;
use belay::postgres::{Engine, PostgresError, Target};

use crate::support::postgres::{Postgres, run, unprivileged};

/// A certificate authority, and certificates of it for the server `localhost` and the client `tls_client`.
const CERTIFICATES: &str = r#"set -e
cd "$0"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=Test CA" -keyout ca.key -out ca.crt
for pair in server:localhost client:tls_client; do
  name=${pair%%:*} cn=${pair##*:}
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$cn" -keyout $name.key -out $name.csr
  printf 'subjectAltName=DNS:%s\n' "$cn" > $name.ext
  openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile $name.ext -out $name.crt
done"#;

fn read(directory: &Path, name: &str) -> Vec<u8> {
    unprivileged("cat").arg(directory.join(name)).output().expect("cat").stdout
}

async fn connect(target: Target) -> Result<Engine, PostgresError> {
    Engine::connect(target, "belay/test").await
}

#[tokio::test]
async fn certificates_are_verified_as_far_as_the_mode_says() {
    let server = Postgres::start();
    run(unprivileged("sh").args(["-c", CERTIFICATES]).arg(server.directory()));
    let files = server.directory().display().to_string();
    let database = server.database().await;
    server.write(
        "postgresql.auto.conf",
        &format!("ssl = on\nssl_cert_file = '{files}/server.crt'\nssl_key_file = '{files}/server.key'\nssl_ca_file = '{files}/ca.crt'\n"),
    );
    server.write(
        "pg_hba.conf",
        "local all postgres trust\nhostssl all tls_client 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
    );
    server.stop_fast();
    server.start_again();
    let ca = read(server.directory(), "ca.crt");
    let target = |host: &str, mode: &str| {
        let url = database.url.replace("127.0.0.1", host).replace("disable", mode);
        Target::from_url(&url).unwrap()
    };

    connect(target("localhost", "verify-full").with_ca(&ca)).await.unwrap();
    connect(target("127.0.0.1", "verify-ca").with_ca(&ca)).await.unwrap();
    connect(target("127.0.0.1", "require")).await.unwrap();
    for (wrong, why) in [
        (target("127.0.0.1", "verify-full").with_ca(&ca), "another name"),
        (target("localhost", "verify-full"), "an unknown authority"),
        (target("localhost", "verify-ca"), "an unknown authority"),
        (
            target("localhost", "verify-full")
                .with_ca(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "no certificate",
        ),
    ] {
        let error = connect(wrong).await.expect_err(why);
        assert_eq!(error.reason(), Reason::TlsFailed, "{why}: {error}");
    }
    // A server that does not take plain text says so itself.
    let error = connect(target("127.0.0.1", "disable")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AuthenticationFailed, "{error}");

    database.admin("CREATE ROLE tls_client LOGIN").await;
    let url = format!("postgres://tls_client@localhost:{}/{}?sslmode=verify-full", server.port, database.name);
    let with_certificate = Target::from_url(&url)
        .unwrap()
        .with_ca(&ca)
        .with_client_certificate(&read(server.directory(), "client.crt"), &read(server.directory(), "client.key"));
    assert_eq!(connect(with_certificate).await.unwrap().target().user(), "tls_client");
    let without = Target::from_url(&url).unwrap().with_ca(&ca);
    assert_eq!(connect(without).await.unwrap_err().reason(), Reason::AuthenticationFailed);
}
