//! Scripts and runs for tests.

use belay::api::TransactionMode;
use belay::plan::{Ledger, PlannedScript, Policy, plan};
use belay::postgres::{ApplyError, Engine, RunContext};
use belay::script::History;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// These files as a plan for an empty database has them.
pub fn scripts(files: &[(&str, &str)]) -> Vec<PlannedScript> {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    let history = History::from_files(files).unwrap_or_else(|faults| panic!("{faults:?}"));
    plan(&history, &Ledger::default(), &Policy::default()).unwrap_or_else(|refusal| panic!("{refusal}")).pending
}

pub fn run() -> RunContext {
    RunContext::new(Uuid::new_v4(), "test/test")
}

/// Takes the lock and claims the ledger.
pub async fn claimed(mut engine: Engine) -> Engine {
    assert!(engine.try_lock().await.unwrap());
    engine.claim("cluster/test/test").await.unwrap();
    engine
}

/// Applies files, each in its transaction.
pub async fn apply(engine: &mut Engine, files: &[(&str, &str)]) -> Result<(), ApplyError> {
    apply_as(engine, files, TransactionMode::PerScript).await
}

pub async fn apply_as(engine: &mut Engine, files: &[(&str, &str)], mode: TransactionMode) -> Result<(), ApplyError> {
    engine.apply(&scripts(files), mode, &run(), &|_| {}, &CancellationToken::new()).await
}
