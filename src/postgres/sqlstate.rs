//! What SQLSTATEs mean to Belay: one table of retry classes, and the names of class 22, whose messages hold values.

/// What to do after a failure with this SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Others were in the way, mostly with their locks: roll back, wait, try the whole transaction again.
    Locks,
    /// The server or the session is gone, or has no room: connect again, and let the ledger row decide.
    Reconnect,
    /// The script's own fault: never again by itself.
    No,
}

/// Rule 6 of the design.
pub(super) fn retry(sql_state: &str) -> Retry {
    match sql_state {
        // lock_not_available, deadlock_detected; serialization_failure, where that is the login's default
        "55P03" | "40P01" | "40001" => Retry::Locks,
        // admin_shutdown, crash_shutdown, cannot_connect_now
        "57P01" | "57P02" | "57P03" => Retry::Reconnect,
        // database_dropped and idle_session_timeout are of the same class, and end the session too.
        "57P05" => Retry::Reconnect,
        // connection_exception, insufficient_resources
        state if state.starts_with("08") || state.starts_with("53") => Retry::Reconnect,
        _ => Retry::No,
    }
}

/// The same of a statement that ended with an ERROR in a session that lives: a connection that is missing is one that the
/// statement made itself, to a publisher or another server.
pub(super) fn retry_statement(sql_state: &str) -> Retry {
    match sql_state.starts_with("08") {
        true => Retry::No,
        false => retry(sql_state),
    }
}

/// syntax_error.
pub(super) const SYNTAX_ERROR: &str = "42601";

/// character_not_in_repertoire, untranslatable_character: of a message that the server cannot put into its encoding.
pub(super) const NOT_IN_ENCODING: [&str; 2] = ["22021", "22P05"];

/// query_canceled: somebody asked for it, or statement_timeout.
pub(super) const QUERY_CANCELED: &str = "57014";

/// lock_not_available: what lock_timeout raises.
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The condition's name of a SQLSTATE of class 22 (data exception), whose messages quote the data.
pub(super) fn data_exception(sql_state: &str) -> Option<&'static str> {
    if !sql_state.starts_with("22") {
        return None;
    }
    Some(DATA_EXCEPTIONS.iter().find(|(state, _)| *state == sql_state).map_or("data exception", |(_, name)| name))
}

/// Appendix A of PostgreSQL's manual, class 22.
const DATA_EXCEPTIONS: &[(&str, &str)] = &[
    ("22000", "data exception"),
    ("22001", "string data, right truncation"),
    ("22002", "null value, no indicator parameter"),
    ("22003", "numeric value out of range"),
    ("22004", "null value not allowed"),
    ("22005", "error in assignment"),
    ("22007", "invalid datetime format"),
    ("22008", "datetime field overflow"),
    ("22009", "invalid time zone displacement value"),
    ("2200B", "escape character conflict"),
    ("2200C", "invalid use of escape character"),
    ("2200D", "invalid escape octet"),
    ("2200F", "zero-length character string"),
    ("2200G", "most specific type mismatch"),
    ("2200H", "sequence generator limit exceeded"),
    ("2200L", "not an XML document"),
    ("2200M", "invalid XML document"),
    ("2200N", "invalid XML content"),
    ("2200S", "invalid XML comment"),
    ("2200T", "invalid XML processing instruction"),
    ("22010", "invalid indicator parameter value"),
    ("22011", "substring error"),
    ("22012", "division by zero"),
    ("22013", "invalid preceding or following size"),
    ("22014", "invalid argument for ntile function"),
    ("22015", "interval field overflow"),
    ("22016", "invalid argument for nth_value function"),
    ("22018", "invalid character value for cast"),
    ("22019", "invalid escape character"),
    ("2201B", "invalid regular expression"),
    ("2201E", "invalid argument for logarithm"),
    ("2201F", "invalid argument for power function"),
    ("2201G", "invalid argument for width_bucket function"),
    ("2201W", "invalid row count in limit clause"),
    ("2201X", "invalid row count in result offset clause"),
    ("2202E", "array subscript error"),
    ("2202G", "invalid tablesample repeat"),
    ("2202H", "invalid tablesample argument"),
    ("22021", "character not in repertoire"),
    ("22022", "indicator overflow"),
    ("22023", "invalid parameter value"),
    ("22024", "unterminated C string"),
    ("22025", "invalid escape sequence"),
    ("22026", "string data, length mismatch"),
    ("22027", "trim error"),
    ("22030", "duplicate JSON object key value"),
    ("22031", "invalid argument for SQL/JSON datetime function"),
    ("22032", "invalid JSON text"),
    ("22033", "invalid SQL/JSON subscript"),
    ("22034", "more than one SQL/JSON item"),
    ("22035", "no SQL/JSON item"),
    ("22036", "non-numeric SQL/JSON item"),
    ("22037", "non-unique keys in a JSON object"),
    ("22038", "singleton SQL/JSON item required"),
    ("22039", "SQL/JSON array not found"),
    ("2203A", "SQL/JSON member not found"),
    ("2203B", "SQL/JSON number not found"),
    ("2203C", "SQL/JSON object not found"),
    ("2203D", "too many JSON array elements"),
    ("2203E", "too many JSON object members"),
    ("2203F", "SQL/JSON scalar required"),
    ("2203G", "SQL/JSON item cannot be cast to target type"),
    ("22P01", "floating-point exception"),
    ("22P02", "invalid text representation"),
    ("22P03", "invalid binary representation"),
    ("22P04", "bad COPY file format"),
    ("22P05", "untranslatable character"),
    ("22P06", "nonstandard use of escape character"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_are_in_the_way_of_and_lost_servers_are_tried_again() {
        for (state, class) in [
            ("55P03", Retry::Locks),
            ("40P01", Retry::Locks),
            ("40001", Retry::Locks),
            ("08006", Retry::Reconnect),
            ("53300", Retry::Reconnect),
            ("57P01", Retry::Reconnect),
            ("57P03", Retry::Reconnect),
            ("57014", Retry::No),
            ("42601", Retry::No),
            ("23505", Retry::No),
            ("25006", Retry::No),
        ] {
            assert_eq!(retry(state), class, "{state}");
        }
    }

    #[test]
    fn a_connection_of_the_statements_own_is_no_lost_server() {
        for (state, class) in
            [("08006", Retry::No), ("08P01", Retry::No), ("53300", Retry::Reconnect), ("55P03", Retry::Locks)]
        {
            assert_eq!(retry_statement(state), class, "{state}");
        }
    }

    #[test]
    fn class_22_is_called_by_its_condition() {
        assert_eq!(data_exception("22P02"), Some("invalid text representation"));
        assert_eq!(data_exception("22ZZZ"), Some("data exception"));
        assert_eq!(data_exception("23505"), None);
    }
}
