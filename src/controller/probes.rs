//! /healthz: the process answers. /readyz: the watches have read everything once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Error;

/// Serves the probes until `stop`.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, Error> {
    let listener = TcpListener::bind(address).await.map_err(|error| Error::Probes { address, error })?;
    let readyz = move || async move {
        if ready.load(Ordering::SeqCst) {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "still reading")
        }
    };
    let router = Router::new().route("/healthz", get(async || "ok")).route("/readyz", get(readyz));
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
            tracing::error!("the probes are not served any more: {error}");
        }
    }))
}
