//! What is well needs no hurry: after a start, the first looks at it are spread, and not taken all at once.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Between two first looks, each of which opens a connection: some thirty a second, as 10,000 Databases and their Migrations need at
/// the default interval anyway.
const EVERY: SignedDuration = SignedDuration::from_millis(30);

/// Gives out moments, one after the other.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Timestamp>);

impl Pace {
    /// The next moment that is free: now, if nobody else has asked for a while.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let given = now.max(*free);
        *free = given.saturating_add(EVERY).unwrap_or(Timestamp::MAX);
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_alone_waits_for_nobody_and_a_thousand_take_their_time() {
        let (pace, now) = (Pace::default(), Timestamp::now());
        assert_eq!(pace.next(now), now);
        let last = (1..1000).map(|_| pace.next(now)).last().unwrap();
        assert_eq!(last.duration_since(now), EVERY * 999);
        let later = last + EVERY * 2;
        assert_eq!(pace.next(later), later);
    }
}
