//! Many Migrations at rest: what an operator holds in memory for them, and how it starts with them.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::fleet::Finished;
use super::{LATER, Place, at_once, counted};
use crate::support::cluster::Namespace;
use crate::support::operator::Operator;
use crate::support::{eventually, memory};

/// So many Migrations, each with a Database of its own.
const COUNTS: [usize; 2] = [1_000, 10_000];

/// So many of the finished ones are copied, again and again.
const SOURCES: usize = 50;

pub async fn measure(place: &Place, finished: Finished) -> String {
    let mut text = format!(
        "### Many at rest\n\n| Migrations, each with its Database | none | {} |\n| --- | ---: | {}\n",
        COUNTS.map(|count| count.to_string()).join(" | "),
        "---: |".repeat(COUNTS.len()),
    );
    let none = place.server.cluster.namespace("none").await;
    let mut columns = vec![Column::measure(place, &none, 0).await];
    drop(none);
    let namespace = place.server.cluster.namespace("rest").await;
    let mut made = 0;
    for count in COUNTS {
        copies(&namespace, &finished, made..count).await;
        made = count;
        columns.push(Column::measure(place, &namespace, count).await);
    }
    let mut row = |what: &str, value: &dyn Fn(&Column) -> String| {
        text += &format!("| {what} | {} |\n", columns.iter().map(value).collect::<Vec<_>>().join(" | "));
    };
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    row("MiB resident, all looked at; aimed at: 45 with 10,000", &|column| format!("**{}**", mib(column.rest)));
    row("MiB resident, the most until then", &|column| mib(column.most));
    row("s from the start until it watches", &|column| format!("{:.2}", column.watches.as_secs_f64()));
    row("s from the start until it has seen to each once", &|column| format!("{:.2}", column.seen.as_secs_f64()));
    row("s from the start until it has looked at every server", &|column| {
        format!("{:.0}", column.looked.as_secs_f64())
    });
    row("CPU s until then", &|column| format!("{:.1}", column.cpu));
    row("requests to the API server until then", &|column| column.requests.to_string());
    row("of these, writes", &|column| column.writes.to_string());
    text + &format!(
        "\nBelay finished {SOURCES} of them itself, in the fleet above, each on its own PostgreSQL database. The others are copies of \
         these: spec and status as Belay wrote them, under other names, and each with a ledger of its own, in a schema beside the \
         original's, with the claim in its own name.\n",
    )
}

#[derive(Debug)]
struct Column {
    rest: u64,
    most: u64,
    watches: Duration,
    seen: Duration,
    looked: Duration,
    cpu: f64,
    requests: usize,
    writes: usize,
}

impl Column {
    /// A new operator, with all of them there.
    async fn measure(place: &Place, namespace: &Namespace, count: usize) -> Self {
        let (mark, started) = (place.server.mark(), Instant::now());
        let operator = place.operator(namespace, &[]).await;
        let watches = started.elapsed();
        let address = operator.address().expect("an address");
        eventually("a look at every object", LATER, async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let page = reqwest::get(format!("http://{address}/metrics")).await.ok()?.text().await.ok()?;
            let known = page.lines().filter(|line| line.starts_with("belay_migration_info{")).count();
            let mut waits = page.lines().filter(|line| line.starts_with("belay_reconciles_"));
            (known == count && waits.all(|line| line.ends_with(" 0"))).then_some(())
        })
        .await;
        let seen = started.elapsed();
        // Each look at a server reads its Secret: once a Migration, which tells its Database what it saw.
        let mut looked = seen;
        let mut requests = Vec::new();
        eventually("a look at every server", LATER, async || {
            tokio::time::sleep(Duration::from_secs(2)).await;
            requests = place.server.requests(mark);
            let secrets = requests.iter().filter(|request| request["objectRef"]["resource"] == "secrets").count();
            looked = started.elapsed();
            (secrets >= count).then_some(())
        })
        .await;
        let writes = requests.iter().filter(|r| !matches!(r["verb"].as_str(), Some("get" | "list" | "watch"))).count();
        let column = Self {
            rest: memory::now(operator.id()).expect("the operator runs"),
            most: memory::most(operator.id()).expect("the operator runs"),
            watches,
            seen,
            looked,
            cpu: cpu(&operator),
            requests: requests.len(),
            writes,
        };
        eprintln!("{count} at rest: {column:?}; {:?}", counted(&requests));
        column
    }
}

/// Copies of the finished Migrations, with their Databases and ledgers.
async fn copies(namespace: &Namespace, finished: &Finished, which: std::ops::Range<usize>) {
    let sources = &finished.databases[..SOURCES];
    let originals = &finished.namespace;
    let ledgers = sources.iter().enumerate().map(async |(at, (name, database))| {
        let mut owner = database.owner().await;
        let numbers: Vec<_> = which.clone().filter(|n| n % SOURCES == at).collect();
        for n in numbers {
            let sql = LEDGER.replace("NEW", &format!("c{n}")).replace("CLAIMANT", &format!("{}/c{n}", namespace.name));
            let sql = sql.replace("ORIGINAL", &format!("{}/{name}", originals.name));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut owner).await.expect("a ledger");
        }
    });
    futures::stream::iter(ledgers).buffer_unordered(4).collect::<Vec<_>>().await;
    let mut kinds = Vec::new();
    for (name, database) in sources {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "uri": database.url },
        });
        namespace.apply(&secret.to_string()).await;
        let database = originals.get("PostgresDatabase", name).await.expect("the Database");
        kinds.push((database, originals.get("Migration", name).await.expect("the Migration")));
    }
    let all = which.map(async |n| {
        let (database, migration) = &kinds[n % SOURCES];
        let (mut database, mut migration, name) = (database.clone(), migration.clone(), format!("c{n}"));
        database["spec"]["historySchema"] = json!(name);
        migration["spec"]["databaseRef"]["name"] = json!(name);
        copy(namespace, "PostgresDatabase", &name, &database).await;
        copy(namespace, "Migration", &name, &migration).await;
    });
    at_once(all).await;
}

async fn copy(namespace: &Namespace, kind: &str, name: &str, of: &Value) {
    let api = namespace.cluster.api(&namespace.name, kind, &format!("{}s", kind.to_lowercase()));
    let object = json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": of["spec"],
    });
    let object: DynamicObject = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.expect("a copy");
    let status = Patch::Merge(json!({ "status": of["status"] }));
    api.patch_status(name, &PatchParams::default(), &status).await.expect("its status");
}

/// Everything that the ledger has, in another schema.
const LEDGER: &str = "DO $$
DECLARE
    named text;
    fields text;
BEGIN
    CREATE SCHEMA NEW;
    FOR named IN SELECT relname FROM pg_class WHERE relnamespace = 'belay'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('CREATE TABLE NEW.%1$I (LIKE belay.%1$I INCLUDING ALL)', named);
        SELECT string_agg(quote_ident(attname), ', ') INTO fields FROM pg_attribute
            WHERE attrelid = ('belay.' || quote_ident(named))::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
        EXECUTE format('INSERT INTO NEW.%1$I (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM belay.%1$I', named, fields);
    END LOOP;
    UPDATE NEW.meta SET value = replace(value, 'ORIGINAL', 'CLAIMANT');
    UPDATE NEW.run SET holder = replace(holder, 'ORIGINAL', 'CLAIMANT');
END $$";

/// User and system time, by clock ticks of a hundredth.
fn cpu(operator: &Operator) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", operator.id())).expect("the operator runs");
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}
