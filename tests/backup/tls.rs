use belay::backup::take;

use super::fixture::{Folder, request, with_ledger};
use crate::support::postgres::{Postgres, run, unprivileged};

/// A certificate authority, and a certificate of it for `localhost`.
const CERTIFICATES: &str = r#"set -e
cd "$0"
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=Test CA" -keyout ca.key -out ca.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
echo 'subjectAltName=DNS:localhost' > server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.crt"#;

#[tokio::test]
async fn pg_dump_trusts_whom_the_operator_trusts_and_verifies_as_much() {
    let server = Postgres::start();
    run(unprivileged("sh").args(["-c", CERTIFICATES]).arg(server.directory()));
    let files = server.directory().display().to_string();
    server.write(
        "postgresql.auto.conf",
        &format!("ssl = on\nssl_cert_file = '{files}/server.crt'\nssl_key_file = '{files}/server.key'\n"),
    );
    server.write("pg_hba.conf", "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    server.stop_fast();
    server.start_again();
    let database = server.database().await;
    with_ledger(&database, &["1"]).await;

    let own = Folder::new();
    let ca = own.path().join("ca.crt");
    std::fs::write(&ca, unprivileged("cat").arg(server.directory().join("ca.crt")).output().unwrap().stdout).unwrap();
    for (host, mode, given, good) in [
        ("localhost", "verify-full", true, true),
        ("127.0.0.1", "verify-ca", true, true),
        ("127.0.0.1", "require", false, true),
        ("127.0.0.1", "verify-full", true, false),
        ("localhost", "verify-full", false, false),
    ] {
        let store = Folder::new();
        let mut wanted = request(&database, &store);
        wanted.connection.url = Some(database.url.replace("127.0.0.1", host).replace("disable", mode));
        wanted.connection.ca = given.then(|| ca.clone());
        let taken = take(&wanted).await;
        assert_eq!(taken.is_ok(), good, "{host} {mode} {given}: {taken:?}");
    }
    // As a person gives it.
    let store = Folder::new();
    let mut wanted = request(&database, &store);
    let root = format!("verify-full&sslrootcert={}", ca.display());
    wanted.connection.url = Some(database.url.replace("127.0.0.1", "localhost").replace("disable", &root));
    take(&wanted).await.unwrap();
}
