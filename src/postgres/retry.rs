//! How long to wait for locks, and between tries: rule 5 of the design.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::target::Locks;

/// lock_timeout of try `attempt` (from 1): 200 ms, 500 ms, then 1 s, and every third try long enough that the
/// server evicts an autovacuum, which it does only once it looked for deadlocks.
pub(super) fn lock_timeout(attempt: u32, locks: &Locks, deadlock_timeout: Duration) -> Duration {
    if attempt.is_multiple_of(3) {
        return longest_lock_timeout(locks, deadlock_timeout);
    }
    let step = match attempt {
        0 | 1 => return first_lock_timeout(locks),
        2 => Duration::from_millis(500),
        _ => Duration::from_secs(1),
    };
    at_most(locks, step)
}

/// lock_timeout of the first try.
pub(super) fn first_lock_timeout(locks: &Locks) -> Duration {
    at_most(locks, Duration::from_millis(200))
}

fn at_most(locks: &Locks, step: Duration) -> Duration {
    step.min(locks.lock_timeout.max(Duration::from_millis(1)))
}

/// The most that each wait of a try may take, whatever a script SETs.
pub(super) fn longest_lock_timeout(locks: &Locks, deadlock_timeout: Duration) -> Duration {
    locks.lock_timeout.max(deadlock_timeout + Duration::from_secs(1))
}

/// How long try `attempt` (from 1) may wait for locks in all, whatever a script SETs.
pub(super) fn limit(attempt: u32, locks: &Locks, deadlock_timeout: Duration) -> Duration {
    match attempt.is_multiple_of(3) {
        true => longest_lock_timeout(locks, deadlock_timeout),
        false => locks.lock_timeout,
    }
}

/// How long is still tried.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    since: Instant,
    until: Duration,
}

impl Patience {
    pub fn new(until: Duration) -> Self {
        Self { since: Instant::now(), until }
    }

    /// Whether there is time for another try after this pause.
    pub fn lasts(&self, pause: Duration) -> bool {
        self.since.elapsed() + pause <= self.until
    }

    /// What there is left of it.
    pub fn left(&self) -> Duration {
        self.until.saturating_sub(self.since.elapsed())
    }
}

/// Adds up the waits of one message for locks, from looks at the one that goes on.
#[derive(Default)]
pub(super) struct Waits {
    ended: Duration,
    going_on: Duration,
}

impl Waits {
    /// All of them, when the one that goes on has lasted `now`. A shorter one than before is another one.
    pub fn in_all(&mut self, now: Duration) -> Duration {
        if now < self.going_on {
            self.ended += self.going_on;
        }
        self.going_on = now;
        self.ended + now
    }
}

/// How long to stay away after try `attempt` (from 1) failed: about 1 s, growing to about 30 s, so that those who
/// queued behind us get through. `random` is from 0 to 1.
pub(super) fn lock_pause(attempt: u32, random: f64) -> Duration {
    backoff(attempt, random, Duration::from_secs(1), Duration::from_secs(30))
}

/// How long to wait before connecting again.
pub(super) fn reconnect_pause(attempt: u32, random: f64) -> Duration {
    backoff(attempt, random, Duration::from_millis(100), Duration::from_secs(10))
}

/// Doubles every second try, up to `most`, with half of it up to chance.
fn backoff(attempt: u32, random: f64, first: Duration, most: Duration) -> Duration {
    let doublings = attempt.saturating_sub(1) / 2;
    let whole = first.saturating_mul(1 << doublings.min(16)).min(most);
    whole.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
}

/// Stays away for so long. False: somebody has cancelled.
pub(super) async fn pause_unless_cancelled(pause: Duration, cancel: &CancellationToken) -> bool {
    tokio::select! {
        _ = cancel.cancelled() => false,
        _ = tokio::time::sleep(pause) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_try_outlasts_the_deadlock_timeout() {
        let deadlock = Duration::from_secs(1);
        let millis =
            |locks: &Locks| -> Vec<u128> { (1..=6).map(|n| lock_timeout(n, locks, deadlock).as_millis()).collect() };
        assert_eq!(millis(&Locks::default()), [200, 500, 3000, 1000, 1000, 3000]);
        let short = Locks { lock_timeout: Duration::from_millis(300), ..Locks::default() };
        assert_eq!(millis(&short), [200, 300, 2000, 300, 300, 2000]);
        // Zero would mean to wait for ever.
        let zero = Locks { lock_timeout: Duration::ZERO, ..Locks::default() };
        assert_eq!(millis(&zero), [1, 1, 2000, 1, 1, 2000]);
    }

    #[test]
    fn no_try_but_every_third_waits_longer_than_lock_timeout_in_all_and_none_tries_for_longer() {
        for lock_timeout_ms in [300, 3000, 60_000] {
            let locks = Locks { lock_timeout: Duration::from_millis(lock_timeout_ms), ..Locks::default() };
            for attempt in 1..=6 {
                let deadlock = Duration::from_secs(1);
                let limit = limit(attempt, &locks, deadlock);
                let most = if attempt % 3 == 0 { lock_timeout_ms.max(2000) } else { lock_timeout_ms };
                assert_eq!(limit.as_millis(), u128::from(most));
                assert!(lock_timeout(attempt, &locks, deadlock) <= limit);
            }
        }
    }

    #[test]
    fn waits_for_several_locks_add_up() {
        let mut waits = Waits::default();
        let seconds = [0, 1, 2, 0, 1, 3].map(|second| waits.in_all(Duration::from_secs(second)).as_secs());
        assert_eq!(seconds, [0, 1, 2, 2, 3, 5]);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(lock_pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(lock_pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(lock_pause(1000, 1.0), Duration::from_secs(30));
        assert_eq!(reconnect_pause(1, 1.0), Duration::from_millis(100));
    }
}
