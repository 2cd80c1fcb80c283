//! Turns at a server: a fleet whose databases share one does not take all its connections at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

/// So many at once: a server has a hundred connections unless told otherwise, and a few busy ones keep it busy.
const AT_ONCE: usize = 8;

/// Who is not done by then goes on, and the next one begins: a long script, or a backup, holds nobody up.
const LONGEST: Duration = Duration::from_secs(10);

/// Gives out turns, server by server, in the order in which they are asked for.
#[derive(Debug)]
pub struct Turns {
    longest: Duration,
    servers: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { longest: LONGEST, servers: Mutex::default() }
    }
}

/// A turn, until it is dropped, or has lasted its time.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "that it is gone is what tells")] oneshot::Sender<()>);

impl Turns {
    /// Waits for a turn at `server`.
    pub async fn take(&self, server: &str) -> Turn {
        let permit = self.of(server).acquire_owned().await;
        let (turn, done) = oneshot::channel();
        let longest = self.longest;
        tokio::spawn(async move {
            let _ = tokio::time::timeout(longest, done).await;
            drop(permit);
        });
        Turn(turn)
    }

    fn of(&self, server: &str) -> Arc<Semaphore> {
        let mut all = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = all.get(server).and_then(Weak::upgrade) {
            return turns;
        }
        // Nobody is at a server that is not held on to.
        all.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        all.insert(server.to_owned(), Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_server_has_so_many_at_once_and_another_server_has_its_own() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for _ in 0..AT_ONCE {
            taken.push(turns.take("a:5432").await);
        }
        assert!(turns.take("a:5432").now_or_never().is_none());
        assert!(turns.take("b:5432").now_or_never().is_some());
        taken.pop();
        turns.take("a:5432").await;
        drop(taken);
    }

    #[tokio::test]
    async fn one_that_takes_its_time_holds_nobody_up_for_long() {
        let turns = Turns { longest: Duration::from_millis(1), ..Turns::default() };
        let mut taken = Vec::new();
        for _ in 0..3 * AT_ONCE {
            taken.push(turns.take("a:5432").await);
        }
        assert_eq!(taken.len(), 3 * AT_ONCE);
    }
}
