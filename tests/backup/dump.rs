use belay::api::Verified;
use belay::backup::{BackupError, Clients, delete, take, verify};
use sqlx::AssertSqlSafe;

use super::fixture::{Folder, belay, clients, clients_without_pg_restore, request, with_ledger};
use crate::support::postgres::{Postgres, TestDatabase, run};
use crate::support::{SOON, eventually};

/// Restores a dump into a fresh database.
async fn restored(dump: &std::path::Path) -> TestDatabase {
    let into = Postgres::shared().database().await;
    let server = Postgres::shared();
    run(std::process::Command::new(clients().join("15/bin/pg_restore"))
        .args(["--no-owner", "--exit-on-error", "-h"])
        .arg(server.directory())
        .args(["-p", &server.port.to_string(), "-U", "postgres", "-d", &into.name])
        .arg(dump));
    into
}

#[tokio::test]
async fn a_dump_restores_and_its_record_says_what_it_is() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1", "002", "010"]).await;
    let store = Folder::new();
    let record = take(&request(&database, &store)).await.unwrap();
    assert_eq!(store.files(), ["shop/b.dump", "shop/b.dump.json"]);
    assert_eq!((record.taken.ledger_version.as_deref(), record.taken.verified), (Some("010"), Verified::Read));
    assert_eq!(record.taken.bytes, std::fs::metadata(store.path().join("shop/b.dump")).unwrap().len());
    let beside = std::fs::read_to_string(store.path().join("shop/b.dump.json")).unwrap();
    assert_eq!(serde_json::from_str::<belay::backup::Record>(&beside).unwrap(), record);
    assert!(!beside.contains(&database.password), "{beside}");
    let oid = database.value("select oid::text from pg_database where datname = current_database()").await;
    assert_eq!(Some(record.taken.database.oid.to_string()), oid);

    let copy = restored(&store.path().join("shop/b.dump")).await;
    assert_eq!(copy.value("select count(*)::text from orders").await.as_deref(), Some("20000"));
    assert_eq!(copy.value("select string_agg(version, ' ') from belay.history").await.as_deref(), Some("1 002 010"));
}

#[tokio::test]
async fn rows_that_row_level_security_hides_are_never_left_out() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let hide = "alter table orders enable row level security; alter table orders force row level security; \
                create policy none on orders using (false)";
    database.admin(hide).await;
    let store = Folder::new();
    let error = take(&request(&database, &store)).await.unwrap_err();
    let told = matches!(&error, BackupError::RowSecurity { relation } if relation == "public.orders");
    assert!(told && error.to_string().contains("BYPASSRLS"), "{error}");
    assert!(store.files().is_empty(), "{:?}", store.files());
    // And what it says to do is enough.
    database.admin(&format!("alter role {} bypassrls", database.role)).await;
    take(&request(&database, &store)).await.unwrap();
    let copy = restored(&store.path().join("shop/b.dump")).await;
    assert_eq!(copy.value("select count(*)::text from orders").await.as_deref(), Some("20000"));
}

#[tokio::test]
async fn the_ledgers_version_and_the_moment_are_those_of_the_dumps_own_snapshot() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["001"]).await;
    let store = Folder::new();
    let mut other = database.owner().await;
    // pg_dump waits for this lock, its snapshot taken.
    sqlx::raw_sql("begin; lock table orders in access exclusive mode").execute(&mut other).await.unwrap();
    let before = database.value("select to_json(clock_timestamp() at time zone 'UTC')::text").await.unwrap();
    let wanted = request(&database, &store);
    let taking = tokio::spawn(async move { take(&wanted).await });
    eventually("pg_dump waits", SOON, async || {
        database.value("select pid::text from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())").await
    })
    .await;
    database.admin("insert into belay.history values ('002')").await;
    sqlx::raw_sql("insert into orders values (0, 'late'); commit").execute(&mut other).await.unwrap();
    let record = taking.await.unwrap().unwrap();
    assert_eq!(record.taken.ledger_version.as_deref(), Some("001"));
    assert!(format!("\"{}\"", record.taken.snapshot_at) >= before, "{} {before}", record.taken.snapshot_at);
    let copy = restored(&store.path().join("shop/b.dump")).await;
    assert_eq!(copy.value("select string_agg(version, ' ') from belay.history").await.as_deref(), Some("001"));
    assert_eq!(copy.value("select note from orders where id = 0").await, None);
}

#[tokio::test]
async fn a_database_without_a_ledger_has_no_version() {
    let database = Postgres::shared().database().await;
    let store = Folder::new();
    assert_eq!(take(&request(&database, &store)).await.unwrap().taken.ledger_version, None);
}

#[tokio::test]
async fn a_flipped_byte_and_a_cut_off_end_are_found() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let store = Folder::new();
    let record = take(&request(&database, &store)).await.unwrap();
    let (dump, target) = (store.path().join("shop/b.dump"), database.target());
    let client = Clients::new(clients()).newest().unwrap();
    let good = std::fs::read(&dump).unwrap();
    assert_eq!(verify(&dump, &record.taken.sha256, &client, &target).await.unwrap(), good.len() as u64);

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bad in [&flipped[..], &good[..good.len() - 100], b""] {
        std::fs::write(&dump, bad).unwrap();
        let error = verify(&dump, &record.taken.sha256, &client, &target).await.unwrap_err();
        assert!(matches!(error, BackupError::HashDiffers { .. }), "{error}");
        // And were the hash of the damaged bytes the one that is asked for, pg_restore still reads them all.
        let hash = std::process::Command::new("sha256sum").arg(&dump).output().unwrap().stdout;
        let hash = String::from_utf8(hash[..64].to_vec()).unwrap();
        let error = verify(&dump, &hash, &client, &target).await.unwrap_err();
        assert!(matches!(error, BackupError::Unreadable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_backup_that_is_there_is_read_back_and_not_taken_again_and_another_ones_is_not_overwritten() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let store = Folder::new();
    let wanted = request(&database, &store);
    let first = take(&wanted).await.unwrap();
    database.admin("insert into belay.history values ('2')").await;
    assert_eq!(take(&wanted).await.unwrap(), first, "the Pod that follows an evicted one");
    let mut other = wanted.clone();
    other.origin.uid = Some("uid-2".to_owned());
    let error = take(&other).await.unwrap_err();
    assert!(matches!(error, BackupError::Exists { .. }), "{error}");
    assert!(delete(store.path(), "shop/b.dump", Some("uid-2")).is_err());
    assert_eq!(store.files().len(), 2);
    delete(store.path(), "shop/b.dump", Some("uid-1")).unwrap();
    assert!(store.files().is_empty());
}

#[tokio::test]
async fn a_backup_that_is_there_goes_only_when_it_was_read_and_is_bad() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let (store, other) = (Folder::new(), Folder::new());
    let wanted = request(&database, &store);
    take(&wanted).await.unwrap();
    let mut again = wanted.clone();
    again.clients = Clients::new(clients_without_pg_restore(&other, None));
    let error = take(&again).await.unwrap_err();
    assert!(matches!(error, BackupError::Program { .. }), "{error}");
    assert_eq!(store.files(), ["shop/b.dump", "shop/b.dump.json"]);

    std::fs::write(store.path().join("shop/b.dump"), "something else").unwrap();
    let error = take(&wanted).await.unwrap_err();
    assert!(matches!(error, BackupError::HashDiffers { .. }), "{error}");
    assert!(store.files().is_empty(), "{:?}", store.files());
}

#[tokio::test]
async fn pg_dump_works_as_the_role_that_owns_the_objects() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["7"]).await;
    let (login, owner) = (format!("{}_login", database.role), &database.role);
    database.admin(&format!("create role {login} login password 'l' noinherit; grant {owner} to {login}")).await;
    let store = Folder::new();
    let mut wanted = request(&database, &store);
    wanted.connection.url =
        Some(database.url.replace(&format!("{owner}:{}", database.password), &format!("{login}:l")));
    let error = take(&wanted).await.unwrap_err().to_string();
    assert!(error.contains("permission denied"), "{error}");
    assert!(store.files().is_empty());
    wanted.connection.role = Some(owner.clone());
    assert_eq!(take(&wanted).await.unwrap().taken.ledger_version.as_deref(), Some("7"));
}

#[tokio::test]
async fn what_pg_dump_says_is_in_the_message() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    database.admin("create table secret (x int); revoke all on secret from public").await;
    let store = Folder::new();
    let error = take(&request(&database, &store)).await.unwrap_err();
    assert!(matches!(error, BackupError::Dump { .. }), "{error}");
    assert!(error.to_string().contains("permission denied for table secret"), "{error}");
    assert!(store.files().is_empty(), "{:?}", store.files());
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_client_are_told_before_anything_is_written() {
    let database = Postgres::shared().database().await;
    let store = Folder::new();
    let mut wanted = request(&database, &store);
    wanted.connection.url = Some(database.url.replace(&database.password, "wrong"));
    let error = take(&wanted).await.unwrap_err().to_string();
    assert!(error.contains("password authentication failed") && !error.contains("wrong"), "{error}");

    let mut wanted = request(&database, &store);
    wanted.clients = Clients::new("/nonexistent");
    let error = take(&wanted).await.unwrap_err().to_string();
    assert!(error.starts_with("no client for the server: there is no pg_dump, the server is 15"), "{error}");
    assert!(store.files().is_empty());
}

#[tokio::test]
async fn a_person_backs_up_to_the_present_folder() {
    let database = Postgres::shared().database().await;
    with_ledger(&database, &["1"]).await;
    let store = Folder::new();
    let mut command = belay();
    command.arg("backup").current_dir(store.path()).env("DATABASE_URL", &database.url);
    command.env("BELAY_POSTGRES_CLIENTS", clients());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let files = store.files();
    assert!(files[0].starts_with(&database.name) && files[0].ends_with(".dump"), "{files:?}");
    let copy = restored(&store.path().join(&files[0])).await;
    assert_eq!(copy.value("select count(*)::text from orders").await.as_deref(), Some("20000"));
}

#[tokio::test]
async fn a_name_with_quotes_is_a_name() {
    let database = Postgres::shared().database().await;
    let schema = r#"we"ird"#;
    let quoted = r#""we""ird""#;
    let sql = format!("create schema {quoted}; create table {quoted}.history (version text); insert into {quoted}.history values ('3');
        grant all on schema {quoted} to public; grant all on all tables in schema {quoted} to public");
    database.admin(AssertSqlSafe(sql).0.as_str()).await;
    let store = Folder::new();
    let mut wanted = request(&database, &store);
    wanted.connection.history_schema = schema.to_owned();
    assert_eq!(take(&wanted).await.unwrap().taken.ledger_version.as_deref(), Some("3"));
}
