use std::fmt;

use super::Policy;
use crate::script::{Checksum, Script};

/// Names a plan by its content: the whole history up to the target, and the policy that it runs under.
///
/// A plan that failed is held in the database by this name, whatever restarts or is made again.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PlanHash(String);

impl PlanHash {
    /// The hash as the ledger has it.
    pub fn from_ledger(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the ledger and annotations have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn of<'a>(scripts: impl Iterator<Item = &'a Script>, policy: &Policy) -> Self {
        let mut text = format!("{policy:?}\n");
        for script in scripts {
            text.push_str(&format!("{} {} {}\n", script.version.number(), script.checksum, script.file_name));
        }
        Self(Checksum::of([text.as_bytes()]).to_string())
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
