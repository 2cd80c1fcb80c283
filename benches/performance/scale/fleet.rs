//! A release for a whole fleet: a Migration for each of many databases, created at once, in turns with `xargs` and psql.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kube::api::{DynamicObject, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{Place, at_once, counted, database, until_ready};
use crate::ready::is_ready;
use crate::sample::Sample;
use crate::support::cluster::Namespace;
use crate::support::operator::Operator;
use crate::support::postgres::{TestDatabase, binaries};

const DATABASES: usize = 300;

const PAIRS: usize = 3;

const SCRIPTS: [(&str, &str); 3] = [
    (
        "001_orders.sql",
        "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, total_cents bigint NOT NULL);\n",
    ),
    (
        "002_items.sql",
        "CREATE TABLE items (order_id bigint NOT NULL REFERENCES orders, sku text NOT NULL, quantity int NOT NULL CHECK (quantity > 0));\n\
         CREATE INDEX items_by_order ON items (order_id);\n",
    ),
    ("003_status.sql", "ALTER TABLE orders ADD COLUMN status text NOT NULL DEFAULT 'new';\n"),
];

/// What is left of it: Migrations that Belay finished, each with its PostgreSQL database.
pub struct Finished {
    pub namespace: Namespace,
    pub databases: Vec<(String, TestDatabase)>,
}

pub async fn measure(place: &Place) -> (String, Finished) {
    let namespace = place.server.cluster.namespace("fleet").await;
    let operator = place.operator(&namespace, &[]).await;
    let files = files();
    let (mut belay, mut psql, mut ratios) = (Sample::default(), Sample::default(), Vec::new());
    let mut asked = Vec::new();
    let mut finished = Vec::new();
    for pair in 0..PAIRS {
        let mut own = Vec::new();
        for n in 0..DATABASES {
            own.push((format!("f{pair}-{n}"), place.postgres.database().await));
        }
        let mut others = Vec::new();
        for _ in 0..DATABASES {
            others.push(place.postgres.database().await);
        }
        at_once(own.iter().map(|(name, one)| database(&namespace, name, one))).await;
        until_ready(&namespace, "PostgresDatabase", DATABASES * (pair + 1)).await;
        let mark = place.server.mark();
        let (mine, theirs) = if pair % 2 == 0 {
            let mine = migrate(&namespace, &own, &operator).await;
            (mine, by_psql(&files, &others))
        } else {
            let theirs = by_psql(&files, &others);
            (migrate(&namespace, &own, &operator).await, theirs)
        };
        asked = counted(&place.server.requests(mark));
        eprintln!("{DATABASES} databases: {mine:?}, psql {theirs:?}; {asked:?}");
        let mut admin = place.postgres.superuser("postgres").await;
        for one in others {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", one.name);
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await.expect("it is dropped");
        }
        ratios.push(mine.as_secs_f64() / theirs.as_secs_f64());
        belay.add(mine);
        psql.add(theirs);
        finished.append(&mut own);
    }
    let _ = std::fs::remove_dir_all(&files);
    ratios.sort_by(f64::total_cmp);
    let asked: String = asked.iter().map(|(what, count)| format!("| `{what}` | {count} |\n")).collect();
    let text = format!(
        "### A fleet\n\n| {DATABASES} databases, {} scripts each | median s |\n| --- | ---: |\n\
         | Migrations created at once → all `Ready=True` | {:.2} |\n| `xargs -P 8 psql` | {:.2} |\n\
         | the ratio within a pair; aimed at: 0.55 | **{:.2}**, from {:.2} to {:.2} |\n\n{PAIRS} pairs, in turns, one operator.\n\n\
         | requests of the operator, the last time | |\n| --- | ---: |\n{asked}",
        SCRIPTS.len(),
        belay.median().as_secs_f64(),
        psql.median().as_secs_f64(),
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1],
    );
    (text, Finished { namespace, databases: finished })
}

/// Until a watch has shown all of them Ready.
async fn migrate(namespace: &Namespace, databases: &[(String, TestDatabase)], operator: &Operator) -> Duration {
    let api = namespace.cluster.api(&namespace.name, "Migration", "migrations");
    let inline: serde_json::Map<_, _> = SCRIPTS.iter().map(|(name, sql)| ((*name).to_owned(), json!(sql))).collect();
    let objects = databases.iter().map(|(name, _)| {
        let object = json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": name },
            "spec": { "databaseRef": { "name": name }, "source": { "inline": inline } },
        });
        serde_json::from_value::<DynamicObject>(object).expect("a Migration")
    });
    let objects: Vec<_> = objects.collect();
    let mut left: std::collections::HashSet<String> = databases.iter().map(|(name, _)| name.clone()).collect();
    let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).applied_objects());
    let started = Instant::now();
    let created = at_once(objects.iter().map(async |object| {
        api.create(&PostParams::default(), object).await.expect("a Migration");
    }));
    let seen = async {
        while !left.is_empty() {
            let object = events.try_next().await.expect("a watch").expect("an object");
            let object: Value = serde_json::to_value(object).expect("an object");
            if is_ready(&object) {
                left.remove(object["metadata"]["name"].as_str().unwrap_or_default());
            }
        }
    };
    let both = tokio::time::timeout(super::LATER, async { tokio::join!(created, seen) }).await;
    assert!(both.is_ok(), "not all became Ready: {}", operator.log());
    started.elapsed()
}

/// The program itself, once a database, 8 at a time; each script between BEGIN and COMMIT.
fn by_psql(files: &Path, databases: &[TestDatabase]) -> Duration {
    let urls: String = databases.iter().map(|database| format!("{}\n", database.url)).collect();
    let list = files.join("urls");
    std::fs::write(&list, urls).expect("a list");
    let started = Instant::now();
    let done = Command::new("xargs")
        .args(["-P", "8", "-n", "1"])
        .arg(binaries().join("psql"))
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file"])
        .arg(files.join("all.psql"))
        .arg("--dbname")
        .stdin(std::fs::File::open(&list).expect("the list"))
        .stdout(Stdio::null())
        .status()
        .expect("xargs");
    let took = started.elapsed();
    assert!(done.success(), "psql failed");
    took
}

fn files() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fleet-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&path).expect("a folder");
    let mut all = String::new();
    for (name, sql) in SCRIPTS {
        std::fs::write(path.join(name), sql).expect("a script");
        all += &format!("BEGIN;\n\\ir {name}\nCOMMIT;\n");
    }
    std::fs::write(path.join("all.psql"), all).expect("a script of scripts");
    path
}
