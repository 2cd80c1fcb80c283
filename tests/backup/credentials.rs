use std::process::Command;

use belay::backup::Outcome;

use super::fixture::{Folder, belay, clients, with_ledger};
use crate::support::postgres::{Postgres, unprivileged};

#[tokio::test]
async fn a_teams_own_script_connects_by_the_files_whoever_it_runs_as() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["041"]).await;
    let folder = Folder::new();
    let connection = folder.path().join("connection");
    std::fs::create_dir(&connection).unwrap();
    let mut command = belay();
    command
        .arg("credentials")
        .arg(format!("--secret={}", folder.secret(&database).display()))
        .arg(format!("--folder={}", connection.display()))
        .arg(format!("--termination-log={}/message", folder.path().display()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let message = std::fs::read_to_string(folder.path().join("message")).unwrap();
    let Some(Outcome::Prepared(prepared)) = Outcome::read(&message) else { panic!("{message}") };
    assert_eq!(prepared.ledger_version.as_deref(), Some("041"));
    assert!(prepared.server_version.starts_with("15."), "{prepared:?}");

    let psql = clients().join("15/bin/psql");
    // As this user by the password file, and as another by the service file.
    for mut command in [Command::new(&psql), unprivileged(&psql)] {
        command
            .env("PGSERVICEFILE", connection.join("pg_service.conf"))
            .env("PGPASSFILE", connection.join("pgpass"))
            .env("PGSERVICE", "belay")
            .current_dir("/")
            .args(["--no-password", "-XAtc", "select current_user"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), database.role, "{output:?}");
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_had_is_told_before_the_script_runs() {
    let database = Postgres::shared().database().await;
    let folder = Folder::new();
    let secret = folder.secret(&database);
    std::fs::write(secret.join("uri"), database.url.replace(&database.password, "hunter2")).unwrap();
    let mut command = belay();
    command
        .arg("credentials")
        .arg(format!("--secret={}", secret.display()))
        .arg(format!("--folder={}", folder.path().display()))
        .arg(format!("--termination-log={}/message", folder.path().display()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = std::fs::read_to_string(folder.path().join("message")).unwrap();
    assert!(message.contains("password authentication failed") && !message.contains("hunter2"), "{message}");
}
