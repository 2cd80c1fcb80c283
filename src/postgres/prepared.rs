//! The ledger's row as a prepared statement: in a long history, to parse and plan each script's INSERT anew is a good part of
//! what Belay costs above psql.
//!
//! A session's prepared statements are anybody's to DEALLOCATE, and stay when a transaction is rolled back. So a script that
//! has to do with them finds none, and has its row written by a plain INSERT. What does so without a word of it in its own
//! text, in a function say, is found out by the server, and tried again in that way.

use super::attempt::{Stop, StopPlace, Task};
use super::engine::Engine;
use super::message::prepare_row;
use crate::script::occurrences;

/// With so many scripts to come, it is worth the cost of preparing.
const WORTH: usize = 8;

/// What a script says that has to do with prepared statements.
const WORDS: [&str; 3] = ["prepare", "deallocate", "discard"];

impl Engine {
    /// The name under which the row of a script with this text may be written. The session is rid of everything prepared, if
    /// the script is not to find it.
    pub(super) async fn prepared_for(&mut self, text: &str) -> Option<String> {
        let name = self.session.as_ref()?.prepared.clone()?;
        if WORDS.iter().any(|word| occurrences(text, word).next().is_some()) {
            self.forget_prepared().await;
            return None;
        }
        Some(name)
    }

    /// What is sent behind the COMMIT of these scripts, if it is worth it for those to come; and the name that is prepared by it.
    pub(super) fn prepare_anew(&self, task: &Task<'_>) -> (String, Option<String>) {
        let to_come = task.total.saturating_sub(task.offset + task.scripts.len());
        if self.session.as_ref().is_some_and(|session| session.prepared.is_some()) {
            return (String::new(), None);
        }
        let away = "DEALLOCATE ALL;".to_owned();
        if to_come < WORTH {
            return (away, None);
        }
        // Random, so that no script can put something else in its place.
        let name = format!("belay_{:032x}", rand::random::<u128>());
        (format!("{away}{};", prepare_row(self, &name, task.run, task.mode)), Some(name))
    }

    /// Whether a try failed only because of what is, or was, prepared in the session, which is put right then: the row's
    /// statement was gone, or an earlier script had left one under a name that this one wanted.
    pub(super) async fn was_unprepared(&mut self, stop: &Stop) -> bool {
        let clash = match &*stop.error.sql_state {
            // invalid_sql_statement_name
            "26000" => stop.place == StopPlace::Ledger,
            // duplicate_prepared_statement
            state => state == "42P05",
        };
        clash && self.forget_prepared().await
    }

    /// Whether there was anything to forget.
    pub(super) async fn forget_prepared(&mut self) -> bool {
        let had = self.session.as_mut().is_some_and(|session| session.prepared.take().is_some());
        if had && self.try_query("DEALLOCATE ALL".to_owned()).await.is_err() {
            self.drop_session();
        }
        had
    }
}
