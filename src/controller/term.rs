//! What a replica knows of objects, by UID, while it leads. Another may have led since: what was known in a former term may be out
//! of date, and is forgotten. What the objects' own status says counts then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::lease::Lead;

/// What is known of each object in this term.
pub struct Known<T> {
    lead: Lead,
    known: Mutex<(u64, HashMap<String, T>)>,
}

impl<T> Known<T> {
    pub fn new(lead: Lead) -> Self {
        Self { known: Mutex::new((lead.term(), HashMap::new())), lead }
    }

    /// Reads or changes it; the term is the one that it is of.
    pub fn with<R>(&self, change: impl FnOnce(u64, &mut HashMap<String, T>) -> R) -> R {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let term = self.lead.term();
        if known.0 != term {
            *known = (term, HashMap::new());
        }
        change(term, &mut known.1)
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.with(|_, known| known.remove(uid));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn what_was_known_before_another_may_have_led_is_forgotten() {
        let lead = Lead::elected_only();
        lead.lead_until(Instant::now());
        let known = Known::new(lead.clone());
        known.with(|_, known| known.insert("a".to_owned(), 1));
        lead.lead_until(Instant::now());
        assert_eq!(known.with(|_, known| known.get("a").copied()), Some(1), "a renewal is no election");
        lead.give_up();
        assert_eq!(known.with(|_, known| known.get("a").copied()), Some(1), "it is still the last that was heard");
        lead.lead_until(Instant::now());
        assert_eq!(known.with(|_, known| known.get("a").copied()), None);
    }
}
