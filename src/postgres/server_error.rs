//! What the server said, without what it may not say: rows' values.

use std::fmt;

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::sqlstate;

/// An error of the server's, as far as it may be shown.
///
/// DETAIL of classes 22 and 23 and the MESSAGE of class 22 quote rows: they are dropped here, where the error
/// comes in, so that nothing behind can show them.
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
}

impl ServerError {
    pub(super) fn new(error: &PgDatabaseError) -> Self {
        let class = error.code().get(..2).unwrap_or_default();
        let quotes_rows = matches!(class, "22" | "23");
        let message = match sqlstate::data_exception(error.code()) {
            Some(condition) => condition.to_owned(),
            None => error.message().to_owned(),
        };
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
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sql_state)
    }
}

impl std::error::Error for ServerError {}
