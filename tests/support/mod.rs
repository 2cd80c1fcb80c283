//! What the tests share: a throwaway PostgreSQL, and waiting without sleeping.
#![allow(dead_code)]

pub mod apiserver;
pub mod audit;
pub mod certificates;
pub mod cluster;
pub mod gitops;
pub mod invariants;
pub mod link;
pub mod memory;
pub mod operator;
pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod server;

use std::time::{Duration, Instant};

use belay::script;

/// Polls until `condition` gives something; panics with `what` after `limit`.
pub async fn eventually<T>(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The limit for what should take no time at all, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(30);
