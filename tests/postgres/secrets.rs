//! Secrets that other operators write, key for key: CloudNativePG 1.28 (pkg/specs/secrets.go), PGO 5
//! (internal/controller/postgrescluster/postgres.go), Zalando's (pkg/cluster/k8sres.go).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use belay::api::Reason;
use belay::postgres::{Engine, Overrides, PostgresError, SslMode, Target};

use crate::support::certificates::Certificates;
use crate::support::postgres::{Postgres, TestDatabase};

/// A server as those operators run it: it speaks TLS, by an authority of its own, and asks for a password.
fn server() -> &'static (Postgres, Certificates) {
    static SERVER: OnceLock<(Postgres, Certificates)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::start();
        let certificates = Certificates::serve(&server, "nobody", "hostssl all all 127.0.0.1/32 scram-sha-256");
        (server, certificates)
    })
}

/// With characters that have to be escaped in a URI.
const PASSWORD: &str = "a^/:;<>,{}|[]@?&=+ %é'";

/// The same, as Go's url.UserPassword writes it.
const ESCAPED: &str = "a%5E%2F%3A;%3C%3E,%7B%7D%7C%5B%5D%40%3F&=+%20%25%C3%A9%27";

async fn database() -> TestDatabase {
    let database = server().0.database().await;
    database.admin(&format!("ALTER ROLE {} PASSWORD '{}'", database.role, PASSWORD.replace('\'', "''"))).await;
    database
}

fn secret(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
}

/// What spec.connection says besides: the authority that those operators publish.
fn with_ca() -> Overrides {
    Overrides { ca: Some(server().1.ca()), ..Overrides::default() }
}

async fn connects(secret: &BTreeMap<String, Vec<u8>>, overrides: &Overrides, database: &TestDatabase) {
    let target = Target::from_secret(secret, overrides).unwrap();
    let shown = format!("{target:?}");
    let engine = Engine::connect(target, "belay/test").await.unwrap();
    assert_eq!(engine.identity().database, database.name);
    assert_eq!(engine.target().user(), database.role);
    assert!(!shown.contains(PASSWORD) && !shown.contains(ESCAPED), "{shown}");
}

#[tokio::test]
async fn cloudnative_pgs_secret_works_as_it_is() {
    let database = database().await;
    let (name, user, port) = (&database.name, &database.role, server().0.port);
    let written = |dbname: &str| {
        secret(&[
            ("username", user),
            ("user", user),
            ("password", PASSWORD),
            ("dbname", dbname),
            // The Service's name alone: reachable from its own namespace only, and not what Belay takes.
            ("host", "shop-rw.invalid"),
            ("port", &port.to_string()),
            ("pgpass", &format!("shop-rw.invalid:{port}:{dbname}:{user}:{PASSWORD}\n")),
            ("uri", &format!("postgresql://{user}:{ESCAPED}@localhost:{port}/{dbname}")),
            ("jdbc-uri", &format!("jdbc:postgresql://localhost:{port}/{dbname}?password=x&user={user}")),
            ("fqdn-uri", &format!("postgresql://{user}:{ESCAPED}@shop-rw.invalid:{port}/{dbname}")),
            ("fqdn-jdbc-uri", &format!("jdbc:postgresql://shop-rw.invalid:{port}/{dbname}?password=x&user={user}")),
        ])
    };
    connects(&written(name), &with_ca(), &database).await;
    // The superuser's is for every database, and says so with a star.
    connects(&written("*"), &Overrides { dbname: Some(name.clone()), ..with_ca() }, &database).await;
    // And a user of spec.managed.roles has what people wrote: a kubernetes.io/basic-auth Secret.
    let basic = secret(&[("username", user), ("password", PASSWORD)]);
    let place = Overrides { host: Some("localhost".into()), port: Some(port), dbname: Some(name.clone()), ..with_ca() };
    connects(&basic, &place, &database).await;
}

#[tokio::test]
async fn crunchys_secret_works_as_it_is_and_never_by_its_pooler() {
    let database = database().await;
    let (name, user, port) = (&database.name, &database.role, server().0.port);
    let mut written = secret(&[
        ("host", "localhost"),
        ("port", &port.to_string()),
        ("user", user),
        ("password", PASSWORD),
        ("verifier", "SCRAM-SHA-256$4096:c2FsdA==$a:b"),
        ("dbname", name),
        ("uri", &format!("postgresql://{user}:{ESCAPED}@localhost:{port}/{name}")),
        ("jdbc-uri", &format!("jdbc:postgresql://localhost:{port}/{name}?password=x&user={user}")),
        ("pgbouncer-host", "hippo-pgbouncer.invalid"),
        ("pgbouncer-port", "5432"),
        ("pgbouncer-uri", &format!("postgresql://{user}:{ESCAPED}@hippo-pgbouncer.invalid:5432/{name}")),
        ("pgbouncer-jdbc-uri", "jdbc:postgresql://hippo-pgbouncer.invalid:5432/x?password=x&prepareThreshold=0&user=x"),
    ]);
    connects(&written, &with_ca(), &database).await;
    // A user without databases of its own has neither dbname nor URIs.
    for key in ["dbname", "uri", "jdbc-uri", "pgbouncer-uri", "pgbouncer-jdbc-uri"] {
        written.remove(key);
    }
    let error = PostgresError::from(Target::from_secret(&written, &with_ca()).unwrap_err());
    assert_eq!(error.reason(), Reason::SecretNotFound);
    assert!(error.to_string().contains("spec.connection.dbname"), "{error}");
    connects(&written, &Overrides { dbname: Some(name.clone()), ..with_ca() }, &database).await;
}

#[tokio::test]
async fn zalandos_secret_works_with_host_and_dbname_from_the_spec() {
    let database = database().await;
    let written = secret(&[("username", &database.role), ("password", PASSWORD)]);
    let missing = PostgresError::from(Target::from_secret(&written, &Overrides::default()).unwrap_err());
    assert_eq!(missing.reason(), Reason::SecretNotFound);
    assert!(missing.to_string().contains("spec.connection.host"), "{missing}");
    let overrides = Overrides {
        host: Some("localhost".into()),
        port: Some(server().0.port),
        dbname: Some(database.name.clone()),
        // Its certificate is signed by itself, unless somebody gives it another.
        ssl_mode: Some(SslMode::Require),
        ..Overrides::default()
    };
    connects(&written, &overrides, &database).await;
}
