//! What the server said, without what it may not say: rows' values, passwords, and pieces of connection strings.

use std::borrow::Cow;
use std::fmt;

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::sqlstate::{self, SYNTAX_ERROR};
use crate::script::{WITHHELD, names_password, prose_without_passwords};

/// An error of the server's, as far as it may be shown.
///
/// DETAIL of classes 22 and 23 and the MESSAGE of class 22 quote rows, and so does an error of syntax in a value; what libpq says of a
/// connection string quotes that. All this is dropped here, where the error comes in, so that nothing behind can show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub sql_state: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub constraint: Option<String>,
    pub table: Option<String>,
    /// From 1, in characters of the whole message that was sent.
    pub(super) position: Option<usize>,
    /// Of COPY: the line of its data, from 1.
    pub(super) copy_line: Option<usize>,
}

impl ServerError {
    pub(super) fn new(error: &PgDatabaseError) -> Self {
        let class = error.code().get(..2).unwrap_or_default();
        let quotes_rows = matches!(class, "22" | "23");
        let told = |text: &str| prose_without_passwords(text).into_owned();
        let quotes = match error.position() {
            // A tsquery's, say, or that of a statement that was put together.
            None => error.code() == SYNTAX_ERROR,
            Some(PgErrorPosition::Internal { query, .. }) => error.code() == SYNTAX_ERROR && names_password(query),
            Some(PgErrorPosition::Original(_)) => false,
        };
        let message = match sqlstate::data_exception(error.code()) {
            Some(condition) => condition.to_owned(),
            // In whatever language its message is.
            None if error.routine() == Some("libpqrcv_check_conninfo") => "invalid connection string".to_owned(),
            // A publisher's or another server's, of which a piece of a bad connection string may be the name.
            None if class == "08" => told(&without_each_quoted(error.message())),
            None if quotes => told(&without_quoted(error.message())),
            None => told(error.message()),
        };
        Self {
            sql_state: error.code().to_owned(),
            message,
            detail: error.detail().filter(|_| !quotes_rows).map(told),
            hint: error.hint().map(told),
            constraint: error.constraint().map(str::to_owned),
            table: error.table().map(str::to_owned),
            position: match error.position() {
                Some(PgErrorPosition::Original(position)) => Some(position),
                _ => None,
            },
            copy_line: error.r#where().and_then(copy_line),
        }
    }

    /// The message as it may be shown of this statement of a script: an error of syntax quotes what follows the word, where that is a
    /// password without its quotes.
    pub(super) fn message_about(&self, statement: &str) -> Cow<'_, str> {
        match self.sql_state == SYNTAX_ERROR && names_password(statement) {
            true => without_quoted(&self.message),
            false => Cow::Borrowed(&self.message),
        }
    }
}

/// Quotation marks of the languages that the server speaks.
const MARKS: &[char] =
    &['"', '\'', '`', '«', '»', '‹', '›', '“', '”', '„', '‘', '’', '‚', '「', '」', '『', '』', '《', '》'];

/// A message that quotes several names, without each of them; where the marks do not pair, without all between the first and the last.
fn without_each_quoted(message: &str) -> Cow<'_, str> {
    let parts: Vec<_> = message.split(MARKS).collect();
    match parts.len() % 2 {
        0 => without_quoted(message),
        _ => {
            let shown = parts.iter().enumerate().map(|(n, part)| if n % 2 == 0 { *part } else { WITHHELD });
            Cow::Owned(shown.collect())
        }
    }
}

/// A message without what it quotes: from its first quotation mark to the last, be it in whatever language, since what stands between may
/// have some too.
fn without_quoted(message: &str) -> Cow<'_, str> {
    match (message.find(MARKS), message.rfind(MARKS)) {
        (Some(first), Some(last)) => {
            let behind = message[last..].chars().next().map_or(last, |mark| last + mark.len_utf8());
            Cow::Owned(format!("{}{WITHHELD}{}", &message[..first], &message[behind..]))
        }
        _ => Cow::Borrowed(message),
    }
}

/// The line in `COPY people, line 2, column age: "x"`, which is the context that COPY gives; not the value behind it.
fn copy_line(context: &str) -> Option<usize> {
    let said = context.lines().rev().find_map(|line| line.strip_prefix("COPY "))?;
    let (_, rest) = said.split_once(", line ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sql_state)
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_quotes_is_left_out_in_any_language() {
        for (message, expected) in [
            (r#"syntax error at or near "hun"ter2""#, "syntax error at or near ********"),
            ("syntax error at or near \"“hunter2”\"", "syntax error at or near ********"),
            ("Syntaxfehler bei »hunter2«", "Syntaxfehler bei ********"),
            ("erreur de syntaxe sur ou près de « hunter2 »", "erreur de syntaxe sur ou près de ********"),
            (r#"host name "hunter2" to address: not known"#, "host name ******** to address: not known"),
            ("query has no destination for result data", "query has no destination for result data"),
        ] {
            assert_eq!(without_quoted(message), expected);
        }
    }

    #[test]
    fn of_several_that_a_message_quotes_each_is_left_out_and_the_rest_stays() {
        for (message, expected) in [
            (
                r#"connection to server at "h", port 5 failed: FATAL: database "d" does not exist"#,
                "connection to server at ********, port 5 failed: FATAL: database ******** does not exist",
            ),
            (r#"host name "hun"ter2" to address"#, "host name ******** to address"),
            ("server closed the connection", "server closed the connection"),
        ] {
            assert_eq!(without_each_quoted(message), expected);
        }
    }

    #[test]
    fn the_line_of_copys_data_is_read_from_its_context() {
        assert_eq!(copy_line("COPY people, line 2, column age: \"x\""), Some(2));
        assert_eq!(copy_line("SQL function \"f\" statement 1\nCOPY people, line 31"), Some(31));
        assert_eq!(copy_line("PL/pgSQL function f() line 3 at RAISE"), None);
    }
}
