use std::path::Path;
use std::process::{Child, Stdio};

use belay::backup::Outcome;

use super::fixture::{Folder, belay, clients, clients_without_pg_restore, with_ledger};
use crate::support::postgres::{Postgres, TestDatabase, run};
use crate::support::{SOON, eventually};

/// A backup as a Job's Pod takes it.
fn job(database: &TestDatabase, store: &Folder, other: &Folder) -> Child {
    job_with(database, store, other, &clients())
}

/// The same, by these programs.
fn job_with(database: &TestDatabase, store: &Folder, other: &Folder, clients: &Path) -> Child {
    let mut command = belay();
    command
        .args(["backup", "--location=b.dump"])
        .arg(format!("--secret={}", other.secret(database).display()))
        .arg(format!("--store={}", store.path().display()))
        .arg(format!("--termination-log={}/message", other.path().display()))
        .arg(format!("--clients={}", clients.display()))
        // What a Pod's environment could hold must change no connection.
        .env("PGHOST", "nowhere.invalid")
        .env("PGDATABASE", "nothing")
        .env("PGPASSWORD", "not this one")
        .env("PGSERVICEFILE", "/nonexistent")
        .env("PGSSLMODE", "verify-full")
        .env("PGOPTIONS", "-c role=nobody")
        .env("BELAY_BACKUP", "b")
        .env("BELAY_BACKUP_UID", "u")
        .env("BELAY_DATABASE", "shop")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The pids below this one.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .flat_map(|task| {
            std::fs::read_to_string(task.path().join("children"))
                .unwrap_or_default()
                .split(' ')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Waits until pg_dump waits for a lock.
async fn waiting(database: &TestDatabase) {
    eventually("pg_dump waits for the lock", SOON, async || {
        database
            .value(
                "select l.pid::text from pg_locks l join pg_stat_activity using (pid)
                 where not granted and datname = current_database()",
            )
            .await
    })
    .await;
}

#[tokio::test]
async fn a_jobs_pod_takes_its_connection_from_the_secret_and_no_process_shows_it() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let (store, other) = (Folder::new(), Folder::new());
    let mut blocker = database.owner().await;
    sqlx::raw_sql("begin; lock table orders in access exclusive mode").execute(&mut blocker).await.unwrap();
    let child = job(&database, &store, &other);
    waiting(&database).await;
    let pids = [vec![child.id()], children(child.id())].concat();
    assert!(pids.len() >= 2, "pg_dump is running: {pids:?}");
    for pid in pids {
        for file in ["cmdline", "environ"] {
            let shown = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let shown = String::from_utf8_lossy(&shown).into_owned();
            assert!(!shown.contains(&database.password), "{file} of {pid}: {shown}");
        }
    }
    sqlx::raw_sql("rollback").execute(&mut blocker).await.unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !log.contains(&database.password), "{log}");
    let message = std::fs::read_to_string(other.path().join("message")).unwrap();
    let Some(Outcome::Taken(taken)) = Outcome::read(&message) else { panic!("{message}") };
    assert_eq!((taken.location.as_str(), taken.ledger_version.as_deref()), ("b.dump", Some("1")));
    let record = std::fs::read_to_string(store.path().join("b.dump.json")).unwrap();
    assert!(record.contains(r#""database": "shop""#) && record.contains(r#""uid": "u""#), "{record}");
}

#[tokio::test]
async fn a_pod_that_is_stopped_leaves_neither_a_file_nor_a_session() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let (store, other) = (Folder::new(), Folder::new());
    let mut blocker = database.owner().await;
    sqlx::raw_sql("begin; lock table orders in access exclusive mode").execute(&mut blocker).await.unwrap();
    let child = job(&database, &store, &other);
    waiting(&database).await;
    assert_eq!(store.files(), ["b.dump.partial"]);
    run(std::process::Command::new("kill").arg("-TERM").arg(child.id().to_string()));
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(store.files().is_empty(), "{:?}", store.files());
    let message = std::fs::read_to_string(other.path().join("message")).unwrap();
    assert!(message.contains("stopped by a signal"), "{message}");
    sqlx::raw_sql("rollback").execute(&mut blocker).await.unwrap();
    eventually("no session is left", SOON, async || {
        let left = "select count(*)::text from pg_stat_activity where datname = current_database()
                    and (application_name like 'belay/%' or application_name like 'pg_dump%')";
        database.value(left).await.filter(|left| left == "0")
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_stopped_while_it_reads_back_leaves_no_file() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let (store, other) = (Folder::new(), Folder::new());
    let reading = other.path().join("reading");
    let script = format!("echo > {}; exec tail -f /dev/null", reading.display());
    let clients = clients_without_pg_restore(&other, Some(&script));
    let child = job_with(&database, &store, &other, &clients);
    eventually("it reads back", SOON, async || reading.exists().then_some(())).await;
    assert_eq!(store.files(), ["b.dump.partial"]);
    run(std::process::Command::new("kill").arg("-TERM").arg(child.id().to_string()));
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(store.files().is_empty(), "{:?}", store.files());
}
