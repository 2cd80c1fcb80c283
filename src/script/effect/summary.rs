use std::collections::{HashMap, HashSet};

use super::LockMode;
use crate::script::{Position, Script};

/// The most locks that are listed for a script.
const MOST_LOCKS: usize = 10;

/// How a script locks a relation at its strongest, and the first statement that does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptLock<'a> {
    /// `ALTER TABLE`
    pub command: &'a str,
    pub relation: &'a str,
    pub mode: LockMode,
}

impl Script {
    /// What it locks of what was there before, the strongest first. A relation that it makes itself is left out: nobody waits for
    /// that.
    pub fn locks(&self) -> Vec<ScriptLock<'_>> {
        let mut made: HashSet<&str> = HashSet::new();
        let mut strongest: HashMap<&str, (usize, ScriptLock<'_>)> = HashMap::new();
        for (number, statement) in self.statements.iter().enumerate() {
            for lock in statement.effect.locks.iter().filter(|lock| !made.contains(lock.relation.as_str())) {
                let (relation, mode) = (lock.relation.as_str(), lock.mode);
                if strongest.get(relation).is_none_or(|(_, known)| known.mode < mode) {
                    strongest.insert(relation, (number, ScriptLock { command: &statement.command, relation, mode }));
                }
            }
            made.extend(statement.effect.creates.as_deref());
        }
        let mut locks: Vec<_> = strongest.into_values().collect();
        locks.sort_by(|(a, one), (b, other)| (other.mode, a, one.relation).cmp(&(one.mode, b, other.relation)));
        locks.into_iter().map(|(_, lock)| lock).collect()
    }

    /// The same for a status: `tickets: ACCESS EXCLUSIVE`, and behind them what no statement names; ten at most.
    pub fn lock_lines(&self) -> Vec<String> {
        let named = self.locks().into_iter().map(|lock| format!("{}: {}", lock.relation, lock.mode));
        let more = self.more_locks().into_iter().map(|what| format!("not named: {what}"));
        named.chain(more).take(MOST_LOCKS).map(short).collect()
    }

    /// The first statement after which data that was there could be gone, for a status: `line 3: DROP TABLE`.
    pub fn destructive_line(&self) -> Option<String> {
        self.destructive().map(|(at, how)| short(format!("line {}: {how}", at.line)))
    }

    /// What else it locks, which its text does not name, each once.
    pub fn more_locks(&self) -> Vec<&'static str> {
        let mut more = Vec::new();
        for what in self.statements.iter().filter_map(|statement| statement.effect.more) {
            if !more.contains(&what) {
                more.push(what);
            }
        }
        more
    }

    /// The first statement after which data that was there could be gone, or not be what it was: where it is, and how.
    pub fn destructive(&self) -> Option<(Position, &str)> {
        self.statements.iter().find_map(|one| Some((one.start, one.effect.destructive.as_deref()?)))
    }
}

/// A script's names can be of any length; the server cuts them.
fn short(line: String) -> String {
    line.chars().take(200).collect()
}
