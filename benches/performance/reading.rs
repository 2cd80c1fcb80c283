//! How fast SQL is read: text → statements with their places, classes, header, rollback and checksum. No server, no cluster.

use std::time::{Duration, Instant};

use belay::script::History;

/// How large each text is: as much as a ConfigMap holds.
const BYTES: usize = 1 << 20;

/// How often each is read.
const RUNS: usize = 30;

/// Tables of a shop: what a migration looks like.
const TABLES: &str = include_str!("../../examples/shop/migrations/001_initial_schema.sql");

/// Bodies, quotes and comments of every kind.
const HARD: &[&str] = &[
    include_str!("../../tests/corpus/runs/atomic.sql"),
    include_str!("../../tests/corpus/runs/plpgsql.sql"),
    include_str!("../../tests/corpus/runs/quoting.sql"),
    include_str!("../../tests/corpus/runs/pg_dump.sql"),
];

/// Measures three kinds of text, and gives the table.
pub fn measure() -> String {
    let rows = "INSERT INTO orders (id, name, total) VALUES (42, 'Anna; ''A''', 12.50);\n";
    let mut table = format!(
        "| 1 MiB of | statements | least ms | median ms | MB/s |\n| --- | ---: | ---: | ---: | ---: |\n{}{}{}",
        row("tables with their columns", &[TABLES]),
        row("`INSERT` of one row each", &[rows]),
        row("function bodies, quotes, a dump", HARD),
    );
    table.push_str(&format!("\n{RUNS} readings each, one thread; the speed is the median's.\n"));
    table
}

fn row(what: &str, parts: &[&str]) -> String {
    let mut text = String::new();
    while text.len() < BYTES {
        parts.iter().for_each(|part| text.push_str(part));
    }
    let mut statements = 0;
    let mut durations: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let file = ("001_text.sql".to_owned(), text.clone().into_bytes());
            let started = Instant::now();
            let history = History::from_files([file]).expect("it is text");
            let took = started.elapsed();
            statements = history.latest().map_or(0, |script| script.statements.len());
            took
        })
        .collect();
    durations.sort();
    let median = durations[RUNS / 2].as_secs_f64();
    let speed = text.len() as f64 / 1e6 / median;
    let least = durations[0].as_secs_f64() * 1e3;
    format!("| {what} | {statements} | {least:.1} | {:.1} | **{speed:.0}** |\n", median * 1e3)
}
