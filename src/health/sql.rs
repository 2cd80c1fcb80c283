//! Does a query answer true? In a read-only transaction, as the role that scripts run as.

use std::time::Duration;

use super::Seen;
use crate::api::SqlCheck;
use crate::postgres::{Answer, Engine, PostgresError};

/// Asks once. The server itself ends a query that takes longer than `timeout`, so that the connection stays usable.
pub(super) async fn check(check: &SqlCheck, engine: &mut Engine, timeout: Duration) -> Result<Seen, PostgresError> {
    match engine.check(&check.query, timeout).await {
        Ok(Answer::True) => Ok(Seen::Passed),
        Ok(Answer::NotTrue(saw)) => Ok(Seen::NotYet(saw.to_owned())),
        Ok(Answer::Error(error)) => Ok(Seen::NotYet(format!("the query failed: {error}"))),
        Err(PostgresError::Check { why }) => Ok(Seen::Refused(why)),
        Err(error) => Err(error),
    }
}
