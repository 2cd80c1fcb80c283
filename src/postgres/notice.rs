//! What the server says beside its answers: a script's notices and warnings.
//!
//! sqlx hands them on as tracing events, and in no other way. A layer of [`crate::telemetry`]'s hears them, and leaves them
//! with the task that was waiting for the answer.

use std::cell::RefCell;
use std::fmt::Debug;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::api::conditions::truncate;
use crate::script::prose_without_passwords;

const TARGET: &str = "sqlx::postgres::notice";

/// The most that are kept of a run, and how much of each, in bytes.
const MOST: usize = 100;
const LONGEST: usize = 500;

/// Something that the server said while a script ran. It may quote rows: it goes to the database's own ledger and to the
/// person who runs `belay apply`, and to no log or status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The script's file name.
    pub script: String,
    /// WARNING, NOTICE or INFO.
    pub severity: &'static str,
    pub message: String,
}

tokio::task_local! {
    static HEARD: RefCell<Vec<(&'static str, String)>>;
}

/// The layer that hears them.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Ear.with_filter(filter_fn(|metadata: &Metadata<'_>| metadata.target() == TARGET))
}

struct Ear;

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            Level::WARN => "WARNING",
            Level::INFO => "NOTICE",
            // sqlx has one level for INFO and LOG.
            Level::TRACE => "INFO",
            _ => return,
        };
        let _ = HEARD.try_with(|heard| {
            let mut heard = heard.borrow_mut();
            if heard.len() < MOST {
                let mut text = Message::default();
                event.record(&mut text);
                heard.push((severity, truncate(&prose_without_passwords(&text.0), LONGEST)));
            }
        });
    }
}

/// The event's field `message`.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Does something that the server may say something about, and gives that too.
pub(super) async fn listen<T>(work: impl Future<Output = T>) -> (T, Vec<(&'static str, String)>) {
    HEARD
        .scope(RefCell::default(), async {
            let done = work.await;
            (done, HEARD.with(RefCell::take))
        })
        .await
}

/// Adds what was heard while `script` ran.
pub(super) fn keep(notices: &mut Vec<Notice>, script: &str, heard: Vec<(&'static str, String)>) {
    let room = MOST.saturating_sub(notices.len());
    let told = |(severity, message)| Notice { script: script.to_owned(), severity, message };
    notices.extend(heard.into_iter().take(room).map(told));
}
