//! Settings that Belay itself stands on, and that a script must therefore leave alone.

use super::lexer::Kind;
use super::words::{Words, significant};

/// A setting and the values, in lower case, that change nothing for Belay.
const KEPT: &[(&str, &[&str])] = &[
    // Scripts are read with backslashes as plain characters in '…'.
    ("standard_conforming_strings", &["on", "true", "default"]),
    // Scripts are sent as UTF-8.
    ("client_encoding", &["utf8", "utf-8", "unicode", "default"]),
    // The ledger is written in the script's own transaction, or in the next one.
    ("transaction_read_only", &["off", "false"]),
    ("default_transaction_read_only", &["off", "false", "default"]),
    ("transaction_isolation", &[]),
    ("default_transaction_isolation", &["default"]),
    ("transaction_deferrable", &["off", "false"]),
    ("default_transaction_deferrable", &["off", "false", "default"]),
];

/// The setting that is set to a value which Belay can't work with, as its name.
pub(super) fn taken(words: &Words) -> Option<&'static str> {
    let (name, value) = if let Some(value) = words.after(0, "SET [LOCAL|SESSION] NAMES") {
        ("client_encoding", value)
    } else if let Some((name, value)) = called(words) {
        (words.text(name).trim_matches('\''), value)
    } else {
        let (name, value) = assigned(words)?;
        // It tells, behind the script, that the transaction is still the one that Belay began.
        if words.text(name).trim_matches('"').eq_ignore_ascii_case("belay") && words.kind(name + 1) == Some(Kind::Dot) {
            return Some("belay.attempt");
        }
        // In quotes too it is found in any case.
        (words.text(name).trim_matches('"'), value)
    };
    let (name, harmless) = KEPT.iter().find(|(kept, _)| kept.eq_ignore_ascii_case(name))?;
    let value = words.text(value).trim_matches('\'').to_ascii_lowercase();
    (!harmless.contains(&value.as_str())).then_some(*name)
}

/// Where the name and the value of `SET [LOCAL|SESSION] name TO|= value` are.
pub(super) fn assigned(words: &Words) -> Option<(usize, usize)> {
    let name = words.after(0, "SET [LOCAL|SESSION]")?;
    let mut at = name + 1;
    while words.kind(at) == Some(Kind::Dot) {
        at += 2;
    }
    let sign = words.kind(at) == Some(Kind::Equals) || words.is(at, "TO");
    let written = matches!(words.kind(name), Some(Kind::Word | Kind::Other));
    (sign && written && words.len() > at + 1).then_some((name, at + 1))
}

/// Where the name and the value of `SELECT set_config('name', 'value', …)` are, if that is the whole statement: a SET in other
/// words, which pg_dump writes too.
pub(super) fn called(words: &Words) -> Option<(usize, usize)> {
    let function = words.after(0, "SELECT [pg_catalog]")?;
    let function = if words.kind(function) == Some(Kind::Dot) { function + 1 } else { function };
    let last = words.len() - 1;
    let plain = |at: usize| {
        let word = ["true", "false", "null"].iter().any(|word| words.is(at, word));
        words.kind(at) == Some(Kind::Text) || word || words.text(at) == ","
    };
    let (name, value) = (function + 2, function + 4);
    let whole = words.is(function, "set_config")
        && words.kind(function + 1) == Some(Kind::OpenParen)
        && words.kind(last) == Some(Kind::CloseParen)
        && value < last
        && (name..last).all(plain);
    whole.then_some((name, value))
}

/// What a statement that sets up the session is about, in small letters; `*`: all settings, but for the roles. None: it sets
/// something for a transaction only, and outside one nothing.
pub(super) fn subject(statement: &str) -> Option<String> {
    /// More has no such statement's beginning.
    const MOST: usize = 32;
    let tokens: Vec<_> = significant(statement).take(MOST).collect();
    let words = Words::new(statement, &tokens);
    if let Some((name, value)) = called(&words) {
        let local = words.is(value + 2, "true");
        return (!local).then(|| words.text(name).trim_matches('\'').to_ascii_lowercase());
    }
    let name = words.after(0, "SET|RESET [SESSION]").filter(|at| !words.is(*at, "LOCAL"))?;
    let spoken = [
        ("ALL", "*"),
        ("AUTHORIZATION", AUTHORIZATION),
        ("NAMES", "client_encoding"),
        ("SCHEMA", "search_path"),
        ("TIME ZONE", "timezone"),
        ("XML OPTION", "xmloption"),
    ];
    if let Some((_, name)) = spoken.iter().find(|(pattern, _)| words.after(name, pattern).is_some()) {
        return Some((*name).to_owned());
    }
    if words.is(name, ROLE) {
        return Some(ROLE.to_owned());
    }
    let is_sign = |at: &usize| words.kind(*at) == Some(Kind::Equals) || words.is(*at, "TO");
    let end = (name..words.len()).find(is_sign).unwrap_or(words.len());
    Some((name..end).map(|at| words.text(at).trim_matches('"').to_ascii_lowercase()).collect())
}

/// Whether what sets the one subject leaves nothing of what was set for the other before.
pub(super) fn covers(later: &str, earlier: &str) -> bool {
    match later {
        "*" => ![ROLE, AUTHORIZATION].contains(&earlier),
        AUTHORIZATION => [ROLE, AUTHORIZATION].contains(&earlier),
        _ => later == earlier,
    }
}

/// Whether it decides what the names in a statement mean, and as whom it runs.
pub(super) fn says_where(subject: &str) -> bool {
    ["search_path", ROLE, AUTHORIZATION].contains(&subject)
}

const ROLE: &str = "role";
const AUTHORIZATION: &str = "session_authorization";
