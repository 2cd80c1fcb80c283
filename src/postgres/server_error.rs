//! What the server said, without what it may not say: rows' values, and pieces of connection strings.

use std::fmt;

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::sqlstate;

/// An error of the server's, as far as it may be shown.
///
/// DETAIL of classes 22 and 23 and the MESSAGE of class 22 quote rows, and what libpq says of a connection string
/// quotes that: they are dropped here, where the error comes in, so that nothing behind can show them.
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
        let message = match sqlstate::data_exception(error.code()) {
            Some(condition) => condition,
            // In whatever language its message is.
            None if error.routine() == Some("libpqrcv_check_conninfo") => "invalid connection string",
            None => error.message(),
        };
        let message = message.to_owned();
        Self {
            sql_state: error.code().to_owned(),
            message,
            detail: error.detail().filter(|_| !quotes_rows).map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            constraint: error.constraint().map(str::to_owned),
            table: error.table().map(str::to_owned),
            position: match error.position() {
                Some(PgErrorPosition::Original(position)) => Some(position),
                _ => None,
            },
            copy_line: error.r#where().and_then(copy_line),
        }
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
    fn the_line_of_copys_data_is_read_from_its_context() {
        assert_eq!(copy_line("COPY people, line 2, column age: \"x\""), Some(2));
        assert_eq!(copy_line("SQL function \"f\" statement 1\nCOPY people, line 31"), Some(31));
        assert_eq!(copy_line("PL/pgSQL function f() line 3 at RAISE"), None);
    }
}
