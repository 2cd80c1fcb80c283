//! docs/performance.md: the parts of it that are measured, each between two marks.

use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use crate::support::postgres::Postgres;

/// The load averages of 1, 5 and 15 minutes.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// What it was measured with, on which machine, under which load. `also` names what else took part.
pub fn circumstances(server: &Postgres, also: &str, before: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let postgres = said(server.tool("postgres").arg("--version"));
    let postgres = postgres.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let commit = said(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root()));
    format!(
        "`make bench` at {commit}, {:.0}: release build; {cores} cores, Linux {}; {also}PostgreSQL {}, without \
         fsync. Load average (1, 5, 15 minutes) before: {before}; after: {}.\n",
        Timestamp::now(),
        kernel.trim(),
        postgres.unwrap_or("?"),
        load(),
    )
}

/// The build and the machine, for what needs neither server nor cluster.
#[allow(dead_code, reason = "each benchmark uses another part")]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let commit = said(Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root()));
    format!("The release build of {commit}, {:.0}; {cores} cores; load average: {}.\n", Timestamp::now(), load())
}

/// Puts the figures in the place of the former ones, between the marks of this name.
///
/// # Panics
/// When the document has lost its marks.
pub fn write(name: &str, figures: &str) {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let path = Path::new(root()).join("docs/performance.md");
    let text = std::fs::read_to_string(&path).expect("docs/performance.md");
    let (head, rest) = text.split_once(&begin).expect("the first mark");
    let (_, tail) = rest.split_once(&end).expect("the second mark");
    std::fs::write(&path, format!("{head}{begin}\n{figures}{end}{tail}")).expect("docs/performance.md");
    eprintln!("written to docs/performance.md");
}

fn root() -> &'static str {
    env!("CARGO_MANIFEST_DIR")
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
