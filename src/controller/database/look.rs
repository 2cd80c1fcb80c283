//! One look at a server: identity, size, and what the ledger shows. Nothing is locked, made or changed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Asked;
use crate::api::{PostgresDatabase, conditions};
use crate::controller::migration::Trouble;
use crate::controller::{Context, connection};
use crate::postgres::{Engine, Identity, PostgresError};
use crate::script::Version;

/// How soon a server that could not be looked at is looked at again.
const RETRY: Duration = Duration::from_secs(30);

/// What one look saw.
#[derive(Clone, Debug)]
pub struct Look {
    pub generation: Option<i64>,
    /// What had been asked for when it began.
    pub asked: Asked,
    /// Since when the server has been out of reach.
    pub failing_since: Option<Timestamp>,
    /// It holds until then.
    pub until: Timestamp,
    pub seen: Result<Seen, Trouble>,
}

/// What there is to see.
#[derive(Clone, Debug)]
pub struct Seen {
    pub identity: Identity,
    pub size_bytes: i64,
    /// The version that the ledger shows.
    pub version: Option<Version>,
}

impl Look {
    /// A look, and what it saw; one that saw something holds for that long.
    fn new(
        database: &PostgresDatabase,
        asked: Asked,
        seen: Result<Seen, Trouble>,
        holds: Duration,
        context: &Context,
        now: Timestamp,
    ) -> Self {
        let seen = seen.and_then(|seen| super::pinned(database, seen, context));
        // A server that fails is looked at often.
        let wait = if seen.is_ok() { holds } else { RETRY };
        let told = || database.status.as_ref().and_then(|status| conditions::missing_since(&status.conditions));
        let before = context.looks.failing_since(&database.uid().unwrap_or_default()).or_else(told);
        Self {
            generation: database.metadata.generation,
            asked,
            failing_since: seen.is_err().then(|| before.unwrap_or(now)),
            until: now
                .saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX))
                .unwrap_or(Timestamp::MAX),
            seen,
        }
    }

    /// What a run of its Migration saw. It holds until that one's next look, and a little longer.
    pub fn by_run(database: &PostgresDatabase, seen: Seen, context: &Context, now: Timestamp) -> Self {
        let asked = context.looks.asked(&database.uid().unwrap_or_default());
        Self::new(database, asked, Ok(seen), by_migration(database), context, now)
    }
}

/// How long a Database waits for the next look of its Migration, which comes at the interval, spread by a tenth either way.
pub fn by_migration(database: &PostgresDatabase) -> Duration {
    database.spec.interval.get().mul_f64(1.25).max(Duration::from_secs(2))
}

/// Looks at the server.
pub async fn look(database: &PostgresDatabase, context: &Context, now: Timestamp) -> Look {
    let asked = context.looks.asked(&database.uid().unwrap_or_default());
    let seen = see(database, context).await;
    let interval = database.spec.interval.get().mul_f64(0.9 + 0.2 * rand::random::<f64>()).max(Duration::from_secs(1));
    Look::new(database, asked, seen, interval, context, now)
}

async fn see(database: &PostgresDatabase, context: &Context) -> Result<Seen, Trouble> {
    let namespace = database.namespace().unwrap_or_default();
    let target = connection::target(&context.client, &namespace, database).await?;
    let application = format!("belay/look/{namespace}/{}", database.name_any());
    let _turn = context.turns.take(&target.address().server()).await;
    let mut engine = Engine::connect(target, &application).await.map_err(Trouble::from)?;
    let seen = read(&mut engine).await.map_err(Trouble::from);
    engine.close().await;
    seen
}

async fn read(engine: &mut Engine) -> Result<Seen, PostgresError> {
    let ledger = engine.ledger().await?;
    Ok(Seen {
        identity: engine.identity().clone(),
        size_bytes: engine.size_bytes().await?,
        version: ledger.current().map(|row| row.version.clone()),
    })
}
