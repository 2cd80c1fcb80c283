use std::process::Command;

use belay::backup::{Outcome, take};

use super::fixture::{Folder, belay, clients, request, with_ledger};
use crate::support::certificates::Certificates;
use crate::support::postgres::{Postgres, unprivileged};

#[tokio::test]
async fn pg_dump_trusts_whom_the_operator_trusts_and_verifies_as_much() {
    let server = Postgres::start();
    let certificates = Certificates::serve(&server, "nobody", "hostssl all all 127.0.0.1/32 scram-sha-256");
    let database = server.database().await;
    with_ledger(&database, &["1"]).await;

    let own = Folder::new();
    let ca = own.path().join("ca.crt");
    std::fs::write(&ca, certificates.ca()).unwrap();
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

/// A server that knows its clients by their certificates, and what a Job's Pod mounts for one of them.
async fn certified(folder: &Folder) -> (Postgres, String, Vec<String>) {
    let server = Postgres::start();
    let certificates = Certificates::serve(&server, "client", "hostssl all all 127.0.0.1/32 cert");
    let database = server.database().await;
    with_ledger(&database, &["041"]).await;
    database.admin(&format!("CREATE ROLE client LOGIN SUPERUSER IN ROLE {}", database.role)).await;
    let write = |file: &str, bytes: &[u8]| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let uri = format!("postgres://client@localhost:{}/{}", server.port, database.name);
    write("secret/uri", uri.as_bytes());
    write("ca.crt", &certificates.ca());
    write("client/tls.crt", &certificates.pem("client.crt"));
    write("client/tls.key", &certificates.pem("client.key"));
    let place = folder.path().display();
    let arguments = vec![
        format!("--secret={place}/secret"),
        format!("--ca={place}/ca.crt"),
        format!("--client-certificate={place}/client"),
        format!("--termination-log={place}/message"),
    ];
    (server, uri, arguments)
}

#[tokio::test]
async fn a_jobs_pod_shows_the_server_its_certificate_and_so_does_pg_dump() {
    let (store, folder) = (Folder::new(), Folder::new());
    let (_server, uri, arguments) = certified(&folder).await;
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let mut command = belay();
    command
        .args(["backup", "--location=b.dump"])
        .args(&arguments)
        .arg(format!("--store={}", store.path().display()))
        .arg(format!("--scratch={}", scratch.display()))
        .arg(format!("--clients={}", clients().display()))
        // What a Pod's environment could hold must change nothing.
        .envs([("PGSSLCERT", "/nonexistent"), ("PGSSLKEY", "/nonexistent"), ("PGOPTIONS", "-c search_path=nowhere")])
        .envs([("PGHOSTADDR", "192.0.2.1"), ("PGSSLROOTCERT", "/nonexistent")]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let mode = |file: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(scratch.join(file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("client.key"), 0o600);
    let record = std::fs::read_to_string(store.path().join("b.dump.json")).unwrap();
    assert!(!record.contains("client.key") && !record.contains("PRIVATE"), "{record}");

    // As a person gives it.
    let (client, ca) = (folder.path().join("client"), folder.path().join("ca.crt"));
    let of_files = format!(
        "{uri}?sslmode=verify-full&sslrootcert={}&sslcert={client}/tls.crt&sslkey={client}/tls.key",
        ca.display(),
        client = client.display()
    );
    std::fs::set_permissions(client.join("tls.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (subcommand, environment) in [
        (vec!["backup", "--location=c.dump"], vec![("DATABASE_URL", of_files)]),
        (
            vec!["backup", "--location=d.dump"],
            vec![
                ("DATABASE_URL", format!("{uri}?sslmode=verify-full")),
                ("PGSSLROOTCERT", ca.display().to_string()),
                ("PGSSLCERT", client.join("tls.crt").display().to_string()),
                ("PGSSLKEY", client.join("tls.key").display().to_string()),
            ],
        ),
    ] {
        let mut command = belay();
        command.args(subcommand).envs(environment).arg(format!("--store={}", store.path().display()));
        command.arg(format!("--clients={}", clients().display()));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test]
async fn a_teams_own_script_finds_the_certificate_where_libpq_looks_for_it() {
    let folder = Folder::new();
    let (_server, _, arguments) = certified(&folder).await;
    let connection = folder.path().join("connection");
    std::fs::create_dir(&connection).unwrap();
    let mut command = belay();
    command.arg("credentials").args(&arguments).arg(format!("--folder={}", connection.display()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let message = std::fs::read_to_string(folder.path().join("message")).unwrap();
    assert!(matches!(Outcome::read(&message), Some(Outcome::Prepared(_))), "{message}");
    let mut psql = Command::new(clients().join("15/bin/psql"));
    psql.env("PGSERVICEFILE", connection.join("pg_service.conf"))
        .env("PGPASSFILE", connection.join("pgpass"))
        .env("PGSERVICE", "belay")
        .current_dir("/")
        .args(["--no-password", "-XAtc", "select current_user"]);
    let output = tokio::task::spawn_blocking(move || psql.output().unwrap()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "client", "{output:?}");
    // The key is for whom the files were written as, and for nobody else.
    let cat = unprivileged("cat").arg(connection.join("client.key")).output().unwrap();
    assert!(!cat.status.success());
}
