//! Measures the engine alone, which needs no cluster: `belay apply` on a throwaway PostgreSQL, in turns with psql, and what a
//! script that waits for locks costs the sessions beside it. Writes its part of docs/performance.md.
//!
//! Nothing is asserted about time. Every figure comes with the load that the machine had.

#[path = "../shared/document.rs"]
mod document;
mod history;
mod locks;
mod pairs;
mod peer;
#[path = "../shared/sample.rs"]
mod sample;
#[path = "../../tests/support/mod.rs"]
mod support;

use pairs::Case;
use support::postgres::Postgres;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` runs benches too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let server = Postgres::start();
    let before = document::load();
    // (what, files, pairs, psql for each file, aim)
    let cases = [
        ("300 scripts of 1 to 3 statements", history::many(300, 1), 15, true, 0.90),
        ("300 scripts of 2 to 4 statements", history::many(300, 2), 15, false, 0.90),
        ("300 scripts of 14 statements", history::many(300, 10), 9, true, 0.90),
        ("5,000 scripts of 1 to 3 statements", history::many(5000, 1), 5, false, 0.90),
        ("5,000 scripts of 2 to 4 statements", history::many(5000, 2), 5, false, 0.90),
        ("one script of 20 MB", history::big(20_000_000), 5, false, 1.02),
        ("COPY of 1,000,000 rows", history::copy(1_000_000), 9, false, 1.02),
    ];
    let mut cases: Vec<_> =
        cases.map(|(what, files, pairs, per_file, aim)| Case { what, files, pairs, per_file, aim }).into();
    match history::real() {
        Some(files) => {
            cases.insert(0, Case { what: "Coder's 343 scripts", files, pairs: 15, per_file: false, aim: 0.90 })
        }
        None => eprintln!("the history of a real project is not to be had here"),
    }
    let mut figures = pairs::HEAD.to_owned();
    for case in &cases {
        let row = case.measure(&server).await;
        eprint!("{row}");
        figures.push_str(&row);
    }
    let planned = pairs::nothing_to_do(&server, 5000).await;
    let waiting = locks::measure(&server).await;
    eprintln!("{planned}\n{waiting}");
    let files = if std::env::temp_dir().starts_with("/dev/shm") { "files in memory; " } else { "" };
    document::write(
        "engine",
        &format!("{}\n{figures}\n{planned}\n{waiting}", document::circumstances(&server, files, &before)),
    );
}
