//! The one place where a write leaves for the API server: only a replica that leads gets past it.
//!
//! Reconciles do not begin without the Lease; this holds for what was begun before it was lost, and for what the code
//! forgets to ask. Reads pass: the caches of a replica that follows stay warm.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::lease::Lead;

/// A write was not sent, or its answer not waited for.
#[derive(Debug, thiserror::Error)]
#[error("this replica does not hold the Lease, and writes nothing")]
pub struct NotLeading;

/// Lets reads through, and writes only while `lead` says so.
#[derive(Clone, Debug)]
pub struct Gate(pub Lead);

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, lead: self.0.clone() }
    }
}

/// A client's service behind the gate.
#[derive(Debug)]
pub struct Gated<S> {
    inner: S,
    lead: Lead,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (term, acts) = (self.lead.term(), self.lead.acts());
        if !acts && !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Box::pin(async { Err(NotLeading.into()) });
        }
        let (answer, lead) = (self.inner.call(request), self.lead.clone());
        if !acts {
            return Box::pin(answer);
        }
        // A write that waits for a retry when the Lease goes must not be sent after; and who waits for the answer to a read, from
        // an API server that may be out of reach, has to let go of what it holds.
        Box::pin(async move {
            tokio::select! {
                biased;
                () = lead.lost(term) => Err(NotLeading.into()),
                answer = answer => answer,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower::service_fn;

    use super::*;

    /// What arrives behind the gate, of one request a method.
    async fn arrives(lead: &Lead) -> usize {
        let arrived = Arc::new(AtomicUsize::new(0));
        let count = arrived.clone();
        let server = service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, BoxError>(()) }
        });
        let mut gated = Gate(lead.clone()).layer(server);
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let request = Request::builder().method(method).body(Body::empty()).unwrap();
            let _: Result<(), BoxError> = gated.call(request).await;
        }
        arrived.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn who_does_not_lead_reads_and_writes_nothing() {
        assert_eq!(arrives(&Lead::always()).await, 5);
        assert_eq!(arrives(&Lead::elected_only()).await, 1);
    }

    #[tokio::test]
    async fn what_a_leader_still_waits_for_when_the_lease_goes_is_let_go_of() {
        for method in [Method::PATCH, Method::GET] {
            let lead = Lead::always();
            let server = service_fn(|_: Request<Body>| std::future::pending::<Result<Infallible, BoxError>>());
            let mut gated = Gate(lead.clone()).layer(server);
            let answer = gated.call(Request::builder().method(method).body(Body::empty()).unwrap());
            lead.give_up();
            assert!(answer.await.unwrap_err().is::<NotLeading>());
        }
    }
}
