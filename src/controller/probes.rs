//! What is served over HTTP. /healthz: the process answers. /readyz: the watches have read everything once, also on a replica
//! that follows: a rollout waits for it. /metrics: for Prometheus; nothing in it is secret.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{StreamExt as _, stream};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Error;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// As much of a page is in memory at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// Whoever takes longer for a chunk is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let metrics = move || async move { exposition(pages.metrics) };
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

fn exposition(metrics: Arc<OnceLock<Registry>>) -> Response {
    if metrics.get().is_none() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let body = page(move |page| text::encode(page, metrics.get().ok_or(fmt::Error)?));
    ([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response()
}

/// What `write` writes, sent meanwhile: of ten thousand objects it is many megabytes.
fn page(write: impl FnOnce(&mut Page) -> fmt::Result + Send + 'static) -> Body {
    let (to, chunks) = mpsc::channel(1);
    let written = tokio::task::spawn_blocking(move || {
        let mut page = Page { chunk: String::new(), to };
        write(&mut page)?;
        page.send()
    });
    let chunks = stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
    // Behind the last chunk, so that a page that is cut off is told from a whole one.
    let fault = stream::once(written).filter_map(async |ended| ended.unwrap_or(Err(fmt::Error)).err());
    Body::from_stream(chunks.map(Ok).chain(fault.map(Err)))
}

/// A page on its way to whoever asked for it.
struct Page {
    chunk: String,
    to: mpsc::Sender<String>,
}

impl Page {
    /// Sends what was written so far; fails when nobody takes it.
    fn send(&mut self) -> fmt::Result {
        let chunk = std::mem::take(&mut self.chunk);
        let sent = Handle::current().block_on(async { tokio::time::timeout(PATIENCE, self.to.send(chunk)).await });
        sent.ok().and_then(Result::ok).ok_or(fmt::Error)
    }
}

impl fmt::Write for Page {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.chunk.push_str(text);
        if self.chunk.len() < CHUNK { Ok(()) } else { self.send() }
    }
}

#[cfg(test)]
mod tests {
    use fmt::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_page_of_any_length_arrives_whole_and_is_never_in_memory_as_a_whole() {
        let (to, mut chunks) = mpsc::channel(1);
        let line = "belay_condition{name=\"shop\"} 1\n";
        let writer = tokio::task::spawn_blocking(move || {
            let mut page = Page { chunk: String::new(), to };
            (0..10_000).try_for_each(|_| page.write_str(line)).and_then(|()| page.send())
        });
        let mut text = String::new();
        while let Some(chunk) = chunks.recv().await {
            assert!(chunk.len() < CHUNK + line.len());
            text += &chunk;
        }
        assert_eq!(text, line.repeat(10_000));
        assert_eq!(writer.await.expect("it ends"), Ok(()));
    }

    #[tokio::test]
    async fn a_page_that_is_cut_off_is_told_from_a_whole_one() {
        let read = async |body| axum::body::to_bytes(body, usize::MAX).await.ok();
        assert_eq!(read(page(|page| page.write_str("whole"))).await.as_deref(), Some(b"whole".as_slice()));
        let half = page(|page| page.write_str("half").and_then(|()| page.send()).and(Err(fmt::Error)));
        assert_eq!(read(half).await, None);
    }

    #[tokio::test]
    async fn a_page_that_nobody_reads_any_more_is_not_written_on() {
        let (to, chunks) = mpsc::channel(1);
        drop(chunks);
        let mut page = Page { chunk: String::new(), to };
        let written = tokio::task::spawn_blocking(move || page.write_str(&"x".repeat(CHUNK)));
        assert_eq!(written.await.expect("it ends"), Err(fmt::Error));
    }
}
