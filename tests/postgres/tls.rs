use std::collections::BTreeMap;

use belay::api::Reason;
use belay::postgres::{ClientCertificate, Engine, Overrides, PostgresError, Target, TargetError};

use crate::support::certificates::Certificates;
use crate::support::postgres::Postgres;

async fn connect(target: Target) -> Result<Engine, PostgresError> {
    Engine::connect(target, "belay/test").await
}

/// It is refused for this reason, and in these words: what is wrong, and what to do.
async fn refused(target: Target, reason: Reason, words: [&str; 2]) {
    let shown = format!("{target:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains("CERTIFICATE"), "{shown}");
    let error = connect(target).await.expect_err(words[0]);
    let text = error.to_string();
    assert_eq!(error.reason(), reason, "{text}");
    assert!(words.iter().all(|words| text.contains(words)), "{words:?} are not in {text:?}");
    for text in [text, format!("{error:?}")] {
        assert!(!text.contains("PRIVATE") && !text.contains("sesame"), "{text}");
    }
}

#[tokio::test]
async fn certificates_are_verified_as_far_as_the_mode_says() {
    let server = Postgres::start();
    let hba = "hostssl all all 127.0.0.1/32 scram-sha-256";
    let certificates = Certificates::serve(&server, "nobody", hba);
    let database = server.database().await;
    let ca = certificates.ca();
    let target = |host: &str, mode: &str| {
        let url = database.url.replace("127.0.0.1", host).replace("disable", mode);
        Target::from_url(&url).unwrap()
    };

    connect(target("localhost", "verify-full").with_ca(&ca)).await.unwrap();
    connect(target("127.0.0.1", "verify-ca").with_ca(&ca)).await.unwrap();
    connect(target("127.0.0.1", "require")).await.unwrap();

    let name = ["not valid for name \"127.0.0.1\"", "Connect by a name of the certificate's"];
    refused(target("127.0.0.1", "verify-full").with_ca(&ca), Reason::TlsFailed, name).await;
    let unknown = ["signed by an authority that is not trusted", "Name that authority (caRef"];
    refused(target("localhost", "verify-full"), Reason::TlsFailed, unknown).await;
    refused(target("localhost", "verify-ca"), Reason::TlsFailed, unknown).await;
    let other = certificates.pem("other-ca.crt");
    refused(target("localhost", "verify-full").with_ca(&other), Reason::TlsFailed, unknown).await;
    let unreadable = ["the CA cannot be read", "Correct the CA"];
    let broken = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    refused(target("localhost", "verify-full").with_ca(broken), Reason::TlsFailed, unreadable).await;
    // A server that does not take plain text says so itself.
    let plain = ["no pg_hba.conf entry", "TLS (sslMode)"];
    refused(target("127.0.0.1", "disable"), Reason::AuthenticationFailed, plain).await;

    certificates.present(&server, "expired-server");
    for mode in ["verify-full", "verify-ca"] {
        let expired = ["certificate has expired", "Renew it"];
        refused(target("localhost", mode).with_ca(&ca), Reason::TlsFailed, expired).await;
    }
    connect(target("localhost", "require")).await.unwrap();

    certificates.present(&server, "self-signed");
    let own = certificates.pem("self-signed.crt");
    let authority = ["an authority's own", "sslMode require"];
    refused(target("localhost", "verify-full").with_ca(&own), Reason::TlsFailed, authority).await;
    connect(target("localhost", "require")).await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_every_mode_that_asks_for_it() {
    let database = Postgres::shared().database().await;
    for mode in ["require", "verify-ca", "verify-full"] {
        let target = Target::from_url(&database.url.replace("disable", mode)).unwrap();
        let words = ["server does not support TLS", "Turn ssl on at the server"];
        refused(target, Reason::TlsFailed, words).await;
    }
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says_and_each_other_one_is_refused_with_its_reason() {
    let server = Postgres::start();
    let hba = "hostssl all passworded 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n\
               hostssl all nobody 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n\
               hostssl all all 127.0.0.1/32 cert clientcert=verify-full";
    let certificates = Certificates::serve(&server, "passworded", hba);
    let database = server.database().await;
    database
        .admin("CREATE ROLE passworded LOGIN PASSWORD 'sesame'; CREATE ROLE nobody LOGIN PASSWORD 'sesame'; CREATE ROLE other LOGIN")
        .await;
    let target = |login: &str, mode: &str| {
        let url = format!("postgres://{login}:sesame@localhost:{}/{}?sslmode={mode}", server.port, database.name);
        Target::from_url(&url).unwrap().with_ca(&certificates.ca())
    };
    let shows =
        |login: &str, name: &str| target(login, "verify-full").with_client_certificate(certificates.client(name));

    let engine = connect(shows("passworded", "client")).await.unwrap();
    assert_eq!(engine.target().user(), "passworded");
    let unverified = target("passworded", "require").with_client_certificate(certificates.client("client"));
    connect(unverified).await.unwrap();

    let next = "Show one (clientCertSecretRef";
    for (name, why) in [("other-client", "trusts no authority"), ("expired-client", "has expired")] {
        refused(shows("passworded", name), Reason::AuthenticationFailed, [why, next]).await;
    }
    let without = ["requires a valid client certificate", "a client certificate"];
    refused(target("passworded", "verify-full"), Reason::AuthenticationFailed, without).await;
    // Where it could not be shown, it is not left out in silence.
    let secret = BTreeMap::from([("uri".to_owned(), database.url.clone().into_bytes())]);
    let overrides = Overrides { client_certificate: Some(certificates.client("client")), ..Overrides::default() };
    let error = Target::from_secret(&secret, &overrides).unwrap_err().to_string();
    assert!(error.contains("over TLS only, and sslMode is disable"), "{error}");
    // It is somebody else's.
    let others = ["certificate authentication failed", "a client certificate"];
    refused(shows("other", "client"), Reason::AuthenticationFailed, others).await;
    let others = ["password authentication failed", "whose CN may have to be the user"];
    refused(shows("nobody", "client"), Reason::AuthenticationFailed, others).await;
}

#[tokio::test]
async fn a_certificate_that_no_server_could_be_shown_is_refused_before() {
    let server = Postgres::start();
    let certificates = Certificates::serve(&server, "someone", "");
    let pem = |file: &str| certificates.pem(file);
    let mut chain = pem("client.crt");
    chain.extend(pem("ca.crt"));
    ClientCertificate::new(chain, pem("client.key")).unwrap();
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let der = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (certificate, key, words) in [
        (pem("client.key"), pem("client.key"), "tls.crt holds no certificate"),
        (b"hunter2".to_vec(), pem("client.key"), "tls.crt holds no certificate"),
        (der.to_vec(), pem("client.key"), "tls.crt holds no certificate"),
        (pem("client.crt"), pem("client.crt"), "tls.key holds no private key"),
        (pem("client.crt"), encrypted.to_vec(), "a passphrase"),
        (pem("client.crt"), pem("other-client.key"), "tls.key is not the key of the certificate"),
    ] {
        let error = ClientCertificate::new(certificate, key).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
        let error = PostgresError::from(TargetError::from(error));
        assert_eq!(error.reason(), Reason::TlsFailed, "{error}");
    }
}

#[tokio::test]
async fn scram_takes_any_password_with_and_without_tls() {
    let server = Postgres::start_with(&["password_encryption = 'scram-sha-256'"]);
    let hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 scram-sha-256";
    let certificates = Certificates::serve(&server, "nobody", hba);
    let database = server.database().await;
    let role = &database.role;
    // Spaces, what URIs escape, what SASLprep maps (a soft hyphen goes, a no-break space is a space), another script.
    for (password, escaped) in [
        ("p:a/s?s @#%&", "p%3Aa%2Fs%3Fs%20%40%23%25%26"),
        ("x\u{ad}y\u{a0}z", "x%C2%ADy%C2%A0z"),
        ("пароль", "%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C"),
    ] {
        database.admin(&format!("ALTER ROLE {role} PASSWORD '{password}'")).await;
        let stored = format!("SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname = '{role}'");
        assert_eq!(database.value(&stored).await.as_deref(), Some("SCRAM-SHA-256$"));
        let url = database.url.replace(&database.password, escaped);
        connect(Target::from_url(&url).unwrap()).await.unwrap();
        let url = url.replace("127.0.0.1", "localhost").replace("disable", "verify-full");
        // Over TLS the server offers channel binding too.
        connect(Target::from_url(&url).unwrap().with_ca(&certificates.ca())).await.unwrap();
    }
    let forbidden = database.url.replace(&database.password, "a%01b");
    refused(Target::from_url(&forbidden).unwrap(), Reason::InvalidSpec, ["the user or the password", "SCRAM"]).await;
}
