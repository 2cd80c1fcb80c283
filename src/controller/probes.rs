//! What is served over HTTP. /healthz: the process answers. /readyz: the watches have read everything once, also on a replica
//! that follows: a rollout waits for it. /metrics: for Prometheus; nothing in it is secret.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Error;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What there is to tell, once there is.
#[derive(Clone, Default)]
pub struct Pages {
    /// Set once the watches have read everything.
    pub ready: Arc<OnceLock<()>>,
    pub metrics: Arc<OnceLock<Registry>>,
}

/// Serves the probes and the metrics until the answer is aborted: also while runs come to their end, lest the kubelet take
/// the process for dead.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, pages: Pages) -> Result<JoinHandle<()>, Error> {
    let cannot = |error| Error::Probes { address, error };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    // The port may have been left to the system.
    tracing::info!(address = %listener.local_addr().map_err(cannot)?, "serving probes and metrics");
    let ready = pages.ready;
    let readyz = move || async move {
        match ready.get() {
            Some(()) => (StatusCode::OK, "ok"),
            None => (StatusCode::SERVICE_UNAVAILABLE, "still reading"),
        }
    };
    let metrics = move || async move { exposition(pages.metrics.get()) };
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics));
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("the probes are not served any more: {error}");
        }
    }))
}

fn exposition(registry: Option<&Registry>) -> Response {
    let mut body = String::new();
    match registry.map(|registry| text::encode(&mut body, registry)) {
        Some(Ok(())) => ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Some(Err(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
