//! How a session reads and writes dates and times: TimeZone and DateStyle.
//!
//! The driver sends both when it connects. That outranks what is set for the login, the database and the server, and RESET
//! ALL goes back to it: a script that makes a timestamptz of a timestamp would leave other rows than with psql. So what is
//! set is looked up, and SET again where a script begins.

use sqlx::postgres::PgConnection;

use super::quote::Literal;
use super::session::{Fault, query, text};

/// What the driver sends, and Belay's own SQL runs with.
const SENT: [(&str, &str); 2] = [("TimeZone", "UTC"), ("DateStyle", "ISO, MDY")];

/// Asks what is set of both for the session in pg_stat_get_activity `a`, by its login and its database, and whether it
/// may read the server's files.
pub(super) fn columns() -> String {
    // The login's before the database's, and what is for both of them before all.
    let set = SENT.map(|(name, _)| {
        format!(
            "(SELECT pg_catalog.substr(c.setting, {}) FROM pg_catalog.pg_db_role_setting s, \
             pg_catalog.unnest(s.setconfig) c (setting) WHERE s.setdatabase IN (0, a.datid) AND s.setrole IN (0, a.usesysid) \
             AND pg_catalog.lower(c.setting) LIKE '{}=%' ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1)",
            name.len() + 2,
            name.to_lowercase(),
        )
    });
    let files = "pg_catalog.has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'EXECUTE')::text";
    format!("{}, {}, {files}", set[0], set[1])
}

/// What is to be SET for scripts: nothing, where the driver sends the same. `answer`: what [`columns`] gave.
pub(super) async fn settings(connection: &mut PgConnection, answer: &[Option<String>]) -> Result<Vec<String>, Fault> {
    const FILES: &str = "SELECT pg_catalog.lower(f.name), f.setting FROM pg_catalog.pg_show_all_file_settings() f WHERE \
                         f.applied AND pg_catalog.lower(f.name) IN ('timezone', 'datestyle') ORDER BY f.seqno DESC";
    let column = |n: usize| answer.get(n).cloned().flatten();
    let mut values = [column(0), column(1)];
    if column(2).as_deref() == Some("true") && values.contains(&None) {
        // In a question of its own: one that may not read them would be refused whole.
        let rows = match query(connection, FILES.to_owned()).await {
            Err(Fault::Server(_)) => Vec::new(),
            answer => answer?,
        };
        for ((name, _), value) in SENT.iter().zip(&mut values) {
            let in_files = || rows.iter().find(|row| text(row, 0) == name.to_lowercase());
            *value = value.take().or_else(|| in_files().map(|row| text(row, 1).to_owned()));
        }
    }
    let differing = SENT.iter().zip(values).filter_map(|((name, sent), value)| {
        value.filter(|value| !means(value, sent)).map(|value| format!("SET {name} = {}", Literal(&value)))
    });
    Ok(differing.collect())
}

/// SETs both as the driver sends them.
pub(super) fn as_sent() -> [String; 2] {
    SENT.map(|(name, value)| format!("SET {name} = {}", Literal(value)))
}

/// Whether a value is only another spelling of what is sent.
fn means(value: &str, sent: &str) -> bool {
    let plain = |text: &str| text.to_lowercase().replace(' ', "");
    let value = plain(value);
    value.strip_prefix("etc/").unwrap_or(&value) == plain(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_of_what_is_sent_is_no_other_setting() {
        for (value, sent) in [("Etc/UTC", "UTC"), ("utc", "UTC"), ("iso, mdy", "ISO, MDY"), ("ISO,MDY", "ISO, MDY")] {
            assert!(means(value, sent), "{value}");
        }
        for (value, sent) in [("Europe/London", "UTC"), ("iso, dmy", "ISO, MDY"), ("ISO", "ISO, MDY")] {
            assert!(!means(value, sent), "{value}");
        }
    }
}
