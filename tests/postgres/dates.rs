//! TimeZone and DateStyle decide what a date in a script means: they are what any other client's would be.

use belay::api::TransactionMode;
use belay::postgres::{Engine, Target};

use super::scripts::{apply_as, claimed};
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, TestDatabase};

/// What each script leaves depends on both.
const SCRIPTS: &[(&str, &str)] = &[
    (
        "001_a.sql",
        "CREATE TABLE a (n int, at timestamp, day date, said text); \
         INSERT INTO a VALUES (1, '2024-03-04 12:00', '03/04/2024', timestamptz '2024-07-01 00:00+00')",
    ),
    ("002_b.sql", "INSERT INTO a VALUES (2, '04/03/2024 12:00', '05/04/2024', timestamptz '2024-07-01 00:00+00')"),
    ("003_c.sql", "ALTER TABLE a ALTER at TYPE timestamptz"),
    ("004_d.sql", "INSERT INTO a VALUES (3, '2024-07-04 12:00', '06/04/2024', timestamptz '2024-07-01 00:00+00')"),
];

/// The same in a script that is not run in one transaction.
const APART: (&str, &str) = (
    "005_e.sql",
    "-- belay: no-transaction\nINSERT INTO a VALUES (4, '2024-07-05 12:00', '07/04/2024', current_setting('DateStyle'));",
);

/// What they left.
async fn left(database: &TestDatabase) -> String {
    let rows = "SELECT string_agg(concat_ws(' | ', n, extract(epoch FROM at), day, said), E'\n' ORDER BY n) FROM a";
    database.value(rows).await.unwrap()
}

/// Runs the scripts with psql in one database and with Belay in another, both `set` up alike, and compares.
async fn compare(server: &Postgres, set: impl Fn(&TestDatabase) -> Vec<String>, superuser: bool) -> String {
    let mut lefts = Vec::new();
    for mode in [None, Some(TransactionMode::PerScript), Some(TransactionMode::AllPending)] {
        let database = match superuser {
            true => server.superuser_database().await,
            false => server.database().await,
        };
        for sql in set(&database) {
            database.admin(&sql).await;
        }
        let apart = [APART];
        match mode {
            None => SCRIPTS.iter().chain(&apart).for_each(|(_, script)| database.psql(script.as_bytes())),
            Some(mode) => {
                let mut engine = claimed(database.engine().await).await;
                apply_as(&mut engine, SCRIPTS, mode).await.unwrap();
                apply_as(&mut engine, &apart, TransactionMode::PerScript).await.unwrap();
            }
        }
        lefts.push(left(&database).await);
    }
    assert_eq!(lefts[1], lefts[0], "not as psql leaves it");
    assert_eq!(lefts[2], lefts[0], "not as psql leaves it");
    lefts.swap_remove(0)
}

#[tokio::test]
async fn scripts_read_dates_as_the_database_says() {
    let set = |database: &TestDatabase| {
        let name = &database.name;
        vec![
            format!("ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'"),
            format!("ALTER DATABASE {name} SET datestyle = 'SQL, DMY'"),
        ]
    };
    let left = compare(Postgres::shared(), set, false).await;
    assert!(left.contains("2024-04-03 | 01/07/2024 05:30:00 IST"), "{left}");
}

#[tokio::test]
async fn so_they_do_behind_a_pool_in_session_mode_and_belay_keeps_its_own_times() {
    let database = Postgres::shared().database().await;
    for set in ["timezone = 'Asia/Jakarta'", "datestyle = 'SQL, DMY'"] {
        database.admin(&format!("ALTER DATABASE {} SET {set}", database.name)).await;
    }
    let pooler = PgBouncer::start(Postgres::shared(), &database, "session", "").await;
    let target = Target::from_url(&pooler.url).unwrap();
    let mut engine = claimed(Engine::connect(target, "belay/test").await.unwrap()).await;
    // The session is ended by its own script, once: the ledger's times are then compared with the run's beginning, which in WIB is none
    // that PostgreSQL reads.
    database.admin("CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC").await;
    let dies =
        "DO $$ BEGIN IF nextval('tries') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; END $$";
    let scripts: Vec<_> = SCRIPTS.iter().copied().chain([("005_x.sql", dies)]).collect();
    apply_as(&mut engine, &scripts, TransactionMode::PerScript).await.unwrap();
    let left = left(&database).await;
    assert!(left.contains("2024-04-03 | 01/07/2024 07:00:00 WIB"), "{left}");
}

#[tokio::test]
async fn where_nothing_is_said_scripts_read_dates_as_the_server_does() {
    compare(Postgres::shared(), |_| Vec::new(), false).await;
}

#[tokio::test]
async fn a_login_that_may_read_the_servers_files_has_its_scripts_read_dates_as_they_say() {
    let server = Postgres::start_with(&["timezone = 'Asia/Tokyo'", "datestyle = 'iso, dmy'"]);
    let left = compare(&server, |_| Vec::new(), true).await;
    assert!(left.contains("2024-07-01 09:00:00+09"), "{left}");
    let granted = |database: &TestDatabase| {
        vec![format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_show_all_file_settings() TO {}", database.role)]
    };
    assert_eq!(compare(&server, granted, false).await, left);
}

#[tokio::test]
async fn what_is_set_for_the_login_goes_before_what_is_set_for_the_database() {
    let database = Postgres::shared().database().await;
    let (name, role) = (&database.name, &database.role);
    database.admin("CREATE TABLE said (zone text); GRANT ALL ON said TO PUBLIC").await;
    let zones = [
        (format!("ALTER DATABASE {name}"), "Asia/Kolkata"),
        (format!("ALTER ROLE {role}"), "America/Lima"),
        (format!("ALTER ROLE {role} IN DATABASE {name}"), "Asia/Tokyo"),
        (format!("ALTER ROLE {role} IN DATABASE {name}"), "UTC"),
    ];
    for (n, (whose, zone)) in zones.iter().enumerate() {
        database.admin(&format!("{whose} SET timezone = '{zone}'")).await;
        let mut engine = claimed(Engine::connect(database.target(), "belay/test").await.unwrap()).await;
        let file = format!("{}_x.sql", n + 1);
        let script = [(file.as_str(), "INSERT INTO said VALUES (current_setting('TimeZone'))")];
        apply_as(&mut engine, &script, TransactionMode::PerScript).await.unwrap();
        engine.close().await;
        let said = format!("SELECT zone FROM said OFFSET {n}");
        assert_eq!(database.value(&said).await.as_deref(), Some(*zone), "after {whose}");
    }
}
