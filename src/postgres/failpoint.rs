//! Places where a test can stop this process dead, or hold it, to see what the database is left with.
//!
//! `BELAY_FAILPOINT=before-commit` ends the process with SIGKILL the first time that it gets there, and
//! `before-commit:3` the third time; `before-commit:sleep` holds it there for a minute. `before-commit:3:hold=<file>`
//! makes that file the third time, and goes on when somebody has removed it: so a test does there whatever it wants to
//! the server. Without the variable nothing happens.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// Every place, in the order in which a run comes by. The fault injection goes through them all, and fails for one that no
/// run reaches.
pub const FAILPOINTS: &[&str] = &[
    "after-connect",
    "after-lock",
    "before-ledger",
    "after-ledger",
    "before-run",
    "after-run",
    "before-baseline-commit",
    "after-baseline",
    "before-script",
    "before-commit",
    "after-commit",
    "before-statement",
    "before-statement-commit",
    "after-statement-commit",
    "after-intent",
    "before-conclusion",
    "before-finish",
    "after-finish",
];

#[derive(PartialEq, Eq, Debug)]
enum Action {
    Kill,
    Sleep,
    Hold(PathBuf),
}

#[derive(PartialEq, Eq, Debug)]
struct Armed {
    name: String,
    /// Which time, from 1; None: every time.
    at: Option<u32>,
    action: Action,
}

/// Passes a place by its name, one of [`FAILPOINTS`].
pub(super) async fn pass(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    debug_assert!(FAILPOINTS.contains(&name), "{name} is not in the list");
    let armed = ARMED.get_or_init(|| parse(&std::env::var("BELAY_FAILPOINT").ok()?));
    let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else { return };
    let passed = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if armed.at.is_some_and(|at| at != passed) {
        return;
    }
    match &armed.action {
        Action::Kill => kill_this_process(),
        Action::Sleep => tokio::time::sleep(Duration::from_secs(60)).await,
        Action::Hold(file) => {
            if std::fs::write(file, "").is_ok() {
                while file.exists() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }
    }
}

fn parse(text: &str) -> Option<Armed> {
    let mut parts = text.splitn(3, ':');
    let name = parts.next()?.to_owned();
    let (at, action) = match (parts.next(), parts.next()) {
        (None, _) => (Some(1), Action::Kill),
        (Some("sleep"), None) => (None, Action::Sleep),
        (Some(n), None) => (Some(n.parse().ok()?), Action::Kill),
        (Some(n), Some(action)) => (Some(n.parse().ok()?), Action::Hold(action.strip_prefix("hold=")?.into())),
    };
    Some(Armed { name, at, action })
}

/// SIGKILL, so that nothing is tidied up.
fn kill_this_process() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_name_when_and_what_to_do() {
        let armed = |name: &str, at, action| Some(Armed { name: name.into(), at, action });
        assert_eq!(parse("before-commit"), armed("before-commit", Some(1), Action::Kill));
        assert_eq!(parse("after-commit:3"), armed("after-commit", Some(3), Action::Kill));
        assert_eq!(parse("after-commit:sleep"), armed("after-commit", None, Action::Sleep));
        assert_eq!(parse("after-commit:2:hold=/a:b"), armed("after-commit", Some(2), Action::Hold("/a:b".into())));
        assert_eq!(parse("after-commit:x"), None);
        assert_eq!(parse("after-commit:1:wait=/a"), None);
    }
}
