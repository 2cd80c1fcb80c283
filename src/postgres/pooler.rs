//! Whether something between Belay and PostgreSQL hands one server session to several clients.
//!
//! Through such a pooler two clients both "hold" the advisory lock, and a SET leaks into strangers' sessions.
//! From one client alone it cannot be told for sure: a pooler with nothing else to do gives the same backend
//! every time. So the question is asked in two steps. Poolers do not pass startup options on: PgBouncer refuses
//! the connection or drops them. A server that took them is spoken to directly, and no more is asked: that costs
//! nothing. Otherwise a second connection is opened, and both ask in turn for their backend: if ever they are given
//! the same one, or one of them is moved, sessions are shared. A pool in session mode passes.

use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::connect::{connect_error, open};
use super::error::PostgresError;
use super::session::{Fault, query, text};
use super::target::Target;

/// How often both ask. A pooler that takes the server session that was used last shows at once; one that goes
/// round shows when the first is moved.
const ROUNDS: usize = 4;

/// A pool in session mode that has no second session to give lets us wait: that is not the case looked for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Refuses a pooler that shares sessions, before anything is SET through it.
pub(super) async fn refuse(target: &Target, application: &str, first: &mut PgConnection) -> Result<(), PostgresError> {
    let pooler = |evidence: String| PostgresError::Pooler { address: target.address.clone(), evidence };
    let mut second = open(target, application, false).await.map_err(|error| connect_error(target, error))?;
    let home = backend(target, first).await?;
    for _ in 0..ROUNDS {
        let other = match tokio::time::timeout(PATIENCE, backend(target, &mut second)).await {
            Ok(other) => other?,
            // It is not shared, or it would have been free: the first connection rests.
            Err(_) => return Ok(()),
        };
        if other == home {
            return Err(pooler(format!("two connections were given the same server process, {home}")));
        }
        let now = backend(target, first).await?;
        if now != home {
            return Err(pooler(format!("one connection was moved from server process {home} to {now}")));
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), second.close()).await;
    Ok(())
}

async fn backend(target: &Target, connection: &mut PgConnection) -> Result<String, PostgresError> {
    let fault = |fault: Fault| PostgresError::from_fault(&target.address, "looking for a pooler", fault);
    let rows = query(connection, "SELECT pg_catalog.pg_backend_pid()::text".into()).await.map_err(fault)?;
    Ok(rows.first().map(|row| text(row, 0).to_owned()).unwrap_or_default())
}
