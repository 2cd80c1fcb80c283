//! Places where a test can stop this process dead, or hold it, to see what the database is left with.
//!
//! `BELAY_FAILPOINT=before-commit` ends the process with SIGKILL the first time that it gets there, and
//! `before-commit:3` the third time; `before-commit:sleep` holds it there for a minute. Without the variable
//! nothing happens. The names: `after-lock`, `before-script`, `before-commit`, `after-commit`; of a statement outside a
//! script's transaction `before-statement`, `before-statement-commit`, `after-statement-commit`, or `after-intent`,
//! `before-conclusion`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(PartialEq, Eq, Debug)]
enum Action {
    Kill { at: u32 },
    Sleep,
}

/// Passes a place by its name.
pub(super) async fn pass(name: &str) {
    static ARMED: OnceLock<Option<(String, Action)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let armed = ARMED.get_or_init(|| parse(&std::env::var("BELAY_FAILPOINT").ok()?));
    match armed {
        Some((armed, Action::Kill { at })) if armed == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *at => {
            kill_this_process();
        }
        Some((armed, Action::Sleep)) if armed == name => {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        _ => {}
    }
}

fn parse(text: &str) -> Option<(String, Action)> {
    let (name, action) = text.split_once(':').unwrap_or((text, "1"));
    let action = match action {
        "sleep" => Action::Sleep,
        n => Action::Kill { at: n.parse().ok()? },
    };
    Some((name.to_owned(), action))
}

/// SIGKILL, so that nothing is tidied up; without `unsafe`, through the shell.
fn kill_this_process() -> ! {
    let pid = std::process::id().to_string();
    let _ = std::process::Command::new("sh").args(["-c", "kill -9 \"$0\"", &pid]).status();
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_name_and_what_to_do() {
        assert_eq!(parse("before-commit"), Some(("before-commit".into(), Action::Kill { at: 1 })));
        assert_eq!(parse("after-commit:3"), Some(("after-commit".into(), Action::Kill { at: 3 })));
        assert_eq!(parse("after-commit:sleep"), Some(("after-commit".into(), Action::Sleep)));
        assert_eq!(parse("after-commit:x"), None);
    }
}
