//! A real Prometheus scrapes an operator, and answers what was asked of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use belay::controller::metrics::table;
use serde_json::{Value, json};

use crate::shop::{SOON, Shop};
use crate::support::postgres::free_port;

/// A Prometheus that scrapes one address; ended when it is dropped.
struct Prometheus {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl Prometheus {
    fn scraping(address: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("belay-prometheus-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).expect("a directory");
        let configuration = directory.join("prometheus.yml");
        let text = json!({
            "global": { "scrape_interval": "200ms", "scrape_timeout": "200ms" },
            "scrape_configs": [{ "job_name": "belay", "static_configs": [{ "targets": [address] }] }],
        });
        std::fs::write(&configuration, text.to_string()).expect("its configuration");
        let port = free_port();
        let log = std::fs::File::create(directory.join("log")).expect("a log file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is missing: tests/cluster/prometheus-packages installs it");
        Self { child, directory, port }
    }

    /// The value of a query that gives one series, once it answers.
    async fn value(&self, query: &str) -> Option<f64> {
        let results = self.query(query).await?;
        match results.as_slice() {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }

    async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let url =
            url::Url::parse_with_params(&format!("http://127.0.0.1:{}/api/v1/query", self.port), [("query", query)]);
        let answer = reqwest::get(url.expect("an address")).await.ok()?.text().await.ok()?;
        let answer: Value = serde_json::from_str(&answer).ok()?;
        Some(answer["data"]["result"].as_array()?.clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.directory.join("log")).unwrap_or_default());
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test]
async fn a_prometheus_answers_where_every_database_is_and_how_every_run_ended() {
    let shop = Shop::new("metrics").await;
    let operator = shop.operator();
    let address = shop.namespace.wait_for("its address", SOON, async || operator.address()).await;
    let prometheus = Prometheus::scraping(&address);
    let answers = async |query: &str, wanted: f64| {
        let what = format!("{wanted} from {query}");
        let look = async || (prometheus.value(query).await == Some(wanted)).then_some(());
        shop.namespace.wait_for(&what, Duration::from_secs(30), look).await;
    };

    answers("up", 1.0).await;
    shop.migrate(&[("001_a.sql", "create table a (); select pg_sleep(2);"), ("002_b.sql", "create table b ();")]).await;
    answers("belay_runs_in_progress", 1.0).await;
    answers("belay_migration_pending_scripts", 2.0).await;
    shop.reason("Succeeded").await;
    for (query, wanted) in [
        ("belay_leader", 1.0),
        (r#"belay_runs_total{namespace=~"metrics-.*", name="shop", outcome="Succeeded"}"#, 1.0),
        (r#"belay_condition{kind="Migration", name="shop", condition="Ready", reason="Succeeded"}"#, 1.0),
        (r#"belay_condition{kind="PostgresDatabase", name="shop", condition="Ready"}"#, 1.0),
        (r#"belay_migration_info{database="shop", version="002", target="002"}"#, 1.0),
        ("belay_migration_pending_scripts", 0.0),
        ("belay_script_duration_seconds_count", 2.0),
        (r#"belay_run_duration_seconds_count{outcome="Succeeded"}"#, 1.0),
        ("belay_script_duration_seconds_sum >= bool 2", 1.0),
        ("time() - belay_migration_last_success_timestamp_seconds < bool 60", 1.0),
        ("belay_database_size_bytes > bool 1000000", 1.0),
        ("belay_runs_in_progress", 0.0),
        ("sum(belay_reconciles_queued)", 0.0),
        ("sum(belay_reconciles_in_progress)", 0.0),
    ] {
        answers(query, wanted).await;
    }

    shop.migrate(&[
        ("001_a.sql", "create table a (); select pg_sleep(2);"),
        ("002_b.sql", "create table b ();"),
        ("003_c.sql", "select 1/0;"),
    ])
    .await;
    shop.reason("ScriptFailed").await;
    answers(r#"belay_condition{kind="Migration", condition="Stalled", reason="ScriptFailed"}"#, 1.0).await;
    answers(r#"belay_runs_total{outcome="ScriptFailed"}"#, 1.0).await;
    exposed_as_documented(&address).await;

    shop.namespace.delete("Migration", "shop").await;
    let gone = r#"count({name="shop", __name__=~"belay_(migration|runs).*"}) or vector(0)"#;
    answers(gone, 0.0).await;
}

/// Every series is in the table, with the table's labels; and what a run without backups shows of the table is there.
async fn exposed_as_documented(address: &str) {
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect(line);
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let metric = table::ALL.iter().find(|metric| metric.exposes(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        let labels: Vec<_> =
            labels.split("\",").filter_map(|label| label.split_once('=')).map(|(key, _)| key).collect();
        let labels: Vec<_> = labels.into_iter().filter(|label| *label != "le").collect();
        assert_eq!(labels, metric.labels, "{line}");
        seen.insert(metric.name);
    }
    let unseen: Vec<_> = table::ALL.iter().map(|metric| metric.name).filter(|name| !seen.contains(name)).collect();
    let only_sometimes =
        [table::RECONCILE_ERRORS, table::BACKUP_DURATION, table::WAITING_ON, table::ATTEMPTS, table::LAST_BACKUP];
    assert_eq!(unseen, only_sometimes.map(|metric| metric.name), "{text}");
}
