//! What processes have resident, in KiB, as Linux tells it.

use std::process::Command;
use std::time::{Duration, Instant};

/// Now. None: there is no such process any more.
pub fn now(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

/// At its most, so far.
pub fn most(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|one| one.strip_prefix(line))?.split_whitespace().next()?.parse().ok()
}

/// Runs a command to its end, and gives the most that it had: looked at all the time, so that only what came in its last moment
/// can be missed.
///
/// # Panics
/// When it fails, or takes longer than `limit`.
pub fn most_of(command: &mut Command, limit: Duration) -> u64 {
    let mut child = command.spawn().expect("it starts");
    let started = Instant::now();
    let mut most_yet = 0;
    let ended = loop {
        most_yet = most_yet.max(most(child.id()).unwrap_or_default());
        if let Some(ended) = child.try_wait().expect("its state") {
            break ended;
        }
        if started.elapsed() > limit {
            let _ = child.kill().and_then(|()| child.wait());
            panic!("{command:?} did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    assert!(ended.success(), "{command:?}: {ended}");
    most_yet
}
