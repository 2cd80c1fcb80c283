//! Stopping a statement that runs: the protocol's own cancel request needs a key that sqlx keeps to itself, so a
//! second connection asks the server.

use std::time::Duration;

use sqlx::Connection;
use tokio::time::{Instant, timeout_at};

use super::connect::open;
use super::session::{Backend, Fault, as_login, query};
use super::target::Target;

/// A cancel that comes between two statements of a message hits nothing: it is sent again this often.
const AGAIN: Duration = Duration::from_millis(250);

/// How long the server is asked before that is given up.
const ASKING: Duration = Duration::from_secs(10);

/// Asks the server to cancel what `backend` runs.
pub(super) fn cancel(backend: &Backend) -> String {
    let sql = format!(
        "SELECT pg_catalog.pg_cancel_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE {}",
        backend.is_it()
    );
    as_login(&sql)
}

/// Cancels what `backend` runs, if the server can be asked.
pub(super) async fn cancel_once(target: &Target, application: &str, backend: &Backend) {
    if let Ok(mut connection) = open(target, application, false).await {
        let _ = query(&mut connection, cancel(backend)).await;
        let _ = connection.close_hard().await;
    }
}

/// Cancels what `backend` runs, again and again until it is dropped. Ends only when the server cannot be asked: all that is
/// left is to hang up.
pub(super) async fn cancel_until_dropped(target: &Target, application: &str, backend: &Backend) -> Fault {
    let sql = cancel(backend);
    let mut until = Instant::now() + ASKING;
    loop {
        let error = match timeout_at(until, open(target, application, false)).await {
            Ok(Ok(mut connection)) => {
                while let Ok(Ok(_)) = timeout_at(until, query(&mut connection, sql.clone())).await {
                    until = Instant::now() + ASKING;
                    tokio::time::sleep(AGAIN).await;
                }
                None
            }
            Ok(Err(error)) => Some(super::connect::connect_error(target, error)),
            Err(_) => None,
        };
        if Instant::now() >= until {
            let why = error.map_or("no answer".to_owned(), |error| error.to_string());
            tracing::warn!(%why, "the statement cannot be cancelled: hanging up");
            return Fault::Lost { why };
        }
        tokio::time::sleep(AGAIN).await;
    }
}
