//! A line for each script while it is applied: begun when it begins, ended when it is over.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{output, summary};
use crate::api::TransactionMode;
use crate::plan::PlannedScript;
use crate::postgres::{Blocker, Progress};

/// Prints the lines of one run.
pub struct Printer {
    lines: Vec<String>,
    /// One transaction for all: a script is not in the database before the last one is.
    together: bool,
    /// For people; a program waits for its document.
    shown: bool,
    state: Mutex<Option<Current>>,
}

/// The line that is begun.
struct Current {
    /// From 1.
    number: usize,
    attempt: u32,
    /// Whom it was said to wait for, by pid.
    waits_for: Option<i32>,
    since: Instant,
}

impl Printer {
    pub fn new(scripts: &[PlannedScript], transaction: TransactionMode, shown: bool) -> Self {
        let rows: Vec<_> = scripts.iter().filter(|_| shown).map(|script| summary::name(script)).collect();
        let lines: Vec<String> = output::table(None, &rows, "  ").lines().map(str::to_owned).collect();
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
        let lines = lines.iter().map(|line| format!("{line:width$}  ")).collect();
        let together = transaction == TransactionMode::AllPending && scripts.len() > 1;
        Self { lines, together, shown, state: Mutex::new(None) }
    }

    /// A statement is about to run.
    pub fn tell(&self, progress: &Progress<'_>) {
        if !self.shown {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut over = String::new();
        if let Some(current) = &mut *state {
            if current.number == progress.number {
                if current.attempt != progress.attempt {
                    current.attempt = progress.attempt;
                    write(&format!("try {}… ", progress.attempt));
                }
                if let Some(blocker) = progress.waiting_on.first()
                    && current.waits_for != Some(blocker.pid)
                {
                    current.waits_for = Some(blocker.pid);
                    write(&output::printable(&format!("waits for {}… ", told(blocker))));
                }
                return;
            }
            let back = progress.number < current.number;
            over = if back { "to be run again\n".to_owned() } else { self.over(current.since.elapsed()) };
        }
        let line = self.lines.get(progress.number - 1).map(String::as_str).unwrap_or_default();
        let again = if progress.attempt > 1 { format!("try {}… ", progress.attempt) } else { String::new() };
        write(&format!("{over}{line}{again}"));
        let since = Instant::now();
        *state = Some(Current { number: progress.number, attempt: progress.attempt, waits_for: None, since });
    }

    /// The run is over.
    pub fn end(&self, well: bool, took: Duration) {
        let current = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(current) = current.filter(|_| self.shown) else { return };
        if !well {
            return write("not applied\n");
        }
        write(&self.over(current.since.elapsed()));
        if self.together {
            write(&format!("  all of them committed in one transaction, {}\n", seconds(took)));
        }
    }

    fn over(&self, took: Duration) -> String {
        format!("{}, {}\n", if self.together { "run" } else { "applied" }, seconds(took))
    }
}

/// Who keeps a script waiting, in a few words.
fn told(blocker: &Blocker) -> String {
    match (&blocker.gid, &blocker.command) {
        (Some(gid), _) => format!("prepared transaction {gid:?}"),
        (None, Some(command)) if command.starts_with("autovacuum") => format!("{command}, pid {}", blocker.pid),
        (None, _) => format!("pid {} ({}, user {})", blocker.pid, blocker.application, blocker.user),
    }
}

fn write(text: &str) {
    // That nobody reads it any more does not stop a migration.
    let _ = output::print(text);
}

fn seconds(took: Duration) -> String {
    match took.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", took.as_secs_f64()),
    }
}
