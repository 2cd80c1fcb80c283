//! Logs: JSON for machines, text for people; on stderr, so that what a command answers stays clean.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::postgres::hear_notices;

/// Overrides what is logged: a level for Belay's own words (`debug`), or tracing's syntax (`belay=debug,kube=info`).
pub const LOG: &str = "BELAY_LOG";

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A person who typed a command: warnings only, and more with each `-v`.
    Person { verbose: u8 },
    /// Whatever collects a Pod's log. A terminal gets text all the same.
    Collector,
}

/// Sets logging up for this process. Called once; a second call changes nothing.
pub fn init(reader: Reader) {
    let (filter, json) = match reader {
        Reader::Person { verbose: 0 } => ("off,belay=warn", false),
        Reader::Person { verbose: 1 } => ("off,belay=info", false),
        Reader::Person { .. } => ("off,belay=debug", false),
        Reader::Collector => ("warn,sqlx=off,belay=info", !std::io::stderr().is_terminal()),
    };
    // A filter that cannot be read must not keep a migration from being told of.
    let filter = std::env::var(LOG)
        .ok()
        .filter(|text| !text.is_empty())
        .and_then(|text| EnvFilter::try_new(ours(&text)).ok())
        .unwrap_or_else(|| EnvFilter::new(filter));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match (json, reader) {
        (true, _) => lines.json().flatten_event(true).with_current_span(true).boxed(),
        (false, Reader::Person { .. }) => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colours).without_time().with_target(false).boxed()
        }
        (false, Reader::Collector) => lines.boxed(),
    };
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(hear_notices()).try_init();
}

/// A level alone is Belay's own: libraries stay at warnings, and none prints SQL.
fn ours(text: &str) -> String {
    match text.parse::<LevelFilter>() {
        Ok(level) => format!("warn,sqlx=off,belay={level}"),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_for_belays_own_words() {
        assert_eq!(ours("debug"), "warn,sqlx=off,belay=debug");
        assert_eq!(ours("belay=trace,kube=info"), "belay=trace,kube=info");
    }
}
