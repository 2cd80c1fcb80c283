//! Measures what docs/performance.md claims, and writes the figures into it. `tests/bench` runs it, with a cluster, the
//! release build, and the deployed operator away; what is measured is an operator that this program starts.
//!
//! Nothing is asserted about time. Every figure comes with the load that the machine had.

mod audit;
mod backup;
#[path = "../shared/document.rs"]
mod document;
mod reading;
mod ready;
#[path = "../shared/sample.rs"]
mod sample;
mod scale;
#[path = "../../tests/support/mod.rs"]
mod support;
mod watched;

use support::cluster::Cluster;
use support::postgres::Postgres;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // `cargo bench --bench performance scale` has an API server of its own.
    if std::env::args().any(|argument| argument == "scale") {
        scale::measure().await;
        return;
    }
    let reading = format!("{}\n{}", document::machine(), reading::measure());
    eprintln!("{reading}");
    document::write("reading", &reading);
    // `cargo bench --bench performance reading` needs no cluster.
    if std::env::args().any(|argument| argument == "reading") {
        return;
    }
    let cluster = Cluster::connect().await;
    let address = backup::node_address(&cluster).await;
    let server = server(address.as_deref()).await;
    let before = document::load();
    eprintln!("created -> ready, {} runs", ready::RUNS);
    let ready = ready::measure(&cluster, &server).await;
    eprintln!("{}", ready.markdown());
    let backed_up = match address {
        Some(address) => {
            eprintln!("with a backup, beside a bare Job, {} pairs", backup::PAIRS);
            backup::measure(&cluster, &server, &address).await.markdown()
        }
        None => "Not measured: the cluster's node is another machine, whose Pods cannot reach a server here.\n".into(),
    };
    eprintln!("{backed_up}");
    let figures = format!(
        "{}\n{}\n### With a backup\n\n{backed_up}",
        document::circumstances(&server, &kubernetes(&cluster).await, &before),
        ready.markdown(),
    );
    document::write("measured", &figures);
}

async fn kubernetes(cluster: &Cluster) -> String {
    let version = cluster.client.apiserver_version().await.map_or_else(|_| "?".to_owned(), |info| info.git_version);
    format!("Kubernetes {version}; ")
}

/// A throwaway server; where the cluster's node is this machine, its Pods reach it too.
async fn server(address: Option<&str>) -> Postgres {
    let Some(address) = address else { return Postgres::start() };
    let server = Postgres::start_with(&[&format!("listen_addresses = '127.0.0.1, {address}'")]);
    server.write("pg_hba.conf", "local all postgres trust\nhost all all 0.0.0.0/0 scram-sha-256\n");
    let mut admin = server.superuser("postgres").await;
    sqlx::raw_sql("select pg_reload_conf()").execute(&mut admin).await.expect("the rules are read again");
    server
}
