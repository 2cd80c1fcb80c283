use std::process::Command;

use belay::backup::Outcome;

use super::fixture::{Folder, belay, clients, with_ledger};
use crate::support::postgres::Postgres;

/// In a mount namespace of its own, a volume of a few pages; then what is left on it, and the exit status.
const SMALL_VOLUME: &str = r#"mount -t tmpfs -o size=64k none "$STORE" || exit 99
"$@" 2> "$OUT/stderr"; status=$?
find "$STORE" -type f > "$OUT/left"
exit "$status""#;

#[tokio::test]
async fn a_full_volume_says_so_and_nothing_is_left_on_it() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let (store, out) = (Folder::new(), Folder::new());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--map-root-user", "sh", "-c", SMALL_VOLUME, "sh", env!("CARGO_BIN_EXE_belay"), "backup"])
        .arg(format!("--store={}", store.path().display()))
        .arg(format!("--clients={}", clients().display()))
        .arg(format!("--termination-log={}/message", out.path().display()))
        .args(["--location=deep/b.dump", "--compression=none", "--uid=u"])
        .env("DATABASE_URL", &database.url)
        .env("STORE", store.path())
        .env("OUT", out.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let stderr = std::fs::read_to_string(out.path().join("stderr")).unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{output:?} {stderr}");
    assert!(stderr.contains("the volume is full"), "{stderr}");
    assert_eq!(std::fs::read_to_string(out.path().join("left")).unwrap(), "");
    let message = std::fs::read_to_string(out.path().join("message")).unwrap();
    let Some(Outcome::Failed(failed)) = Outcome::read(&message) else { panic!("{message}") };
    assert!(failed.message.contains("the volume is full") && failed.message.contains("larger"), "{message}");
}

#[tokio::test]
async fn a_volume_that_is_not_ours_to_write_says_what_to_set() {
    let database = Postgres::shared().database().await;
    let store = Folder::new();
    let file = store.path().join("not-a-folder");
    std::fs::write(&file, "").unwrap();
    let mut command = belay();
    command
        .args(["backup", "--location=b.dump", "--store"])
        .arg("/proc/self")
        .arg("--clients")
        .arg(clients())
        .env("DATABASE_URL", &database.url);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("/proc/self/b.dump"), "{stderr}");
}
