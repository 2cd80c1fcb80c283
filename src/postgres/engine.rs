//! The one connection to a database, its lock, and how it is made again.

use std::time::Duration;

use jiff::Timestamp;

use super::connect::{self, Connected, Identity};
use super::dates;
use super::error::PostgresError;
use super::failpoint;
use super::notice::Notice;
use super::quote::{Ident, Path};
use super::retry;
use super::session::{Backend, Fault, Row, Session, as_login, text};
use super::target::Target;

/// The advisory lock of a database that Belay migrates: one constant, in every PostgreSQL database. `belay` in
/// ASCII, and a version of the protocol. In pg_locks: classid 1650814049, objid 2030043137, objsubid 1.
///
/// Two histories in one database (two historySchemas) share it, and take turns.
pub const LOCK_KEY: i64 = 0x6265_6c61_7900_0001;

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub user: String,
    pub application: String,
    /// When its session began; None: the login may not see it.
    pub since: Option<Timestamp>,
}

/// One database, over one dedicated connection.
///
/// After an error with [`PostgresError::Lost`] the connection is gone and the lock with it; [`Engine::apply`]
/// connects again by itself, everything else leaves that to the caller.
pub struct Engine {
    pub(super) target: Target,
    pub(super) application: String,
    pub(super) session: Option<Session>,
    pub(super) identity: Identity,
    pub(super) deadlock_timeout: Duration,
    pub(super) options_taken: bool,
    pub(super) transaction_timeout: bool,
    /// See [`super::dates`].
    pub(super) dates: Vec<String>,
    /// See [`connect::Connected::counts_bytes`]; of the database, whose encoding never changes.
    pub(super) counts_bytes: bool,
    pub(super) locked: bool,
    /// What the server said beside its answers, since the last run began.
    pub(super) notices: Vec<Notice>,
    /// What the ledger said of itself when it was last read; None: not read yet.
    pub(super) ledger: Option<super::ledger::Head>,
    /// What was done to those who kept scripts waiting, and is not in the ledger yet.
    pub(super) deeds: std::sync::Mutex<Vec<super::blocker::Deed>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("target", &self.target).field("locked", &self.locked).finish_non_exhaustive()
    }
}

impl Engine {
    /// Connects. `application` is what pg_stat_activity shows: `belay/<run>/<namespace>/<name>`, cut at 63 bytes.
    ///
    /// Refuses servers older than 14, standbys and read-only servers, and poolers in transaction mode; the last
    /// before anything is SET.
    pub async fn connect(target: Target, application: &str) -> Result<Self, PostgresError> {
        target.refuse_what_the_uri_asks()?;
        let connected = connect::connect(&target, application).await?;
        let mut engine = Self {
            application: connect::application_name(application).to_owned(),
            session: None,
            identity: connected.identity.clone(),
            deadlock_timeout: connected.deadlock_timeout,
            options_taken: connected.options_taken,
            transaction_timeout: connected.transaction_timeout,
            dates: connected.dates.clone(),
            counts_bytes: connected.counts_bytes,
            locked: false,
            notices: Vec::new(),
            ledger: None,
            deeds: std::sync::Mutex::default(),
            target,
        };
        engine.set_up(connected).await?;
        failpoint::pass("after-connect").await;
        Ok(engine)
    }

    /// Connects again, after the connection was lost. The lock is not held then.
    pub(super) async fn reconnect(&mut self) -> Result<(), PostgresError> {
        self.session = None;
        self.locked = false;
        let connected = connect::connect(&self.target, &self.application).await?;
        if !connected.identity.may_be(&self.identity) {
            return Err(PostgresError::IdentityChanged { address: self.target.address.clone() });
        }
        self.options_taken = connected.options_taken;
        self.transaction_timeout = connected.transaction_timeout;
        self.dates = connected.dates.clone();
        self.deadlock_timeout = connected.deadlock_timeout;
        self.set_up(connected).await
    }

    /// The first SETs of a session.
    async fn set_up(&mut self, connected: Connected) -> Result<(), PostgresError> {
        let mut session = connected.session;
        let answer = session.query(self.own_settings().join(";")).await;
        match answer {
            Ok(_) => {
                self.session = Some(session);
                Ok(())
            }
            Err(fault) => Err(self.role_refused(fault)),
        }
    }

    fn role_refused(&self, fault: Fault) -> PostgresError {
        let address = self.target.address.clone();
        match (fault, &self.target.role) {
            (Fault::Server(error), Some(role)) if error.sql_state == "42501" => PostgresError::Permission {
                address,
                what: format!("SET ROLE {}", Ident(role)),
                grant: format!("GRANT {} TO {};", Ident(role), Ident(self.target.user())),
            },
            (Fault::Server(error), Some(role)) if error.sql_state == "22023" => {
                PostgresError::NoRole { address, role: role.clone() }
            }
            (fault, _) => PostgresError::from_fault(&address, "setting up the session", fault),
        }
    }

    /// What holds when Belay's own SQL runs: every name is qualified, and nothing that a script left behind matters.
    pub(super) fn own_settings(&self) -> Vec<String> {
        let mut settings = self.role();
        settings.extend(self.reset_all());
        if !self.options_taken {
            // Behind a pooler RESET ALL goes back to what the server has set.
            settings.extend(dates::as_sent());
        }
        settings.extend([
            // A ledger that somebody locked is an error, not a hang.
            "SET lock_timeout = '10s'".to_owned(),
            "SET statement_timeout = 0".to_owned(),
            "SET row_security = off".to_owned(),
            "SET search_path = pg_catalog, pg_temp".to_owned(),
        ]);
        settings
    }

    /// What a script begins with, at try `attempt` (from 1).
    pub(super) fn script_settings(&self, attempt: u32) -> Vec<String> {
        let mut settings = self.clean_settings();
        settings.extend(self.settings_of_try(attempt));
        settings
    }

    /// The same, in a session that is clean.
    pub(super) fn settings_of_try(&self, attempt: u32) -> Vec<String> {
        let mut settings = Vec::new();
        if attempt > 1 {
            let lock_timeout = retry::lock_timeout(attempt, &self.target.locks, self.deadlock_timeout);
            settings.push(format!("SET lock_timeout = {}", lock_timeout.as_millis()));
        }
        if !self.target.search_path.is_empty() {
            settings.push(format!("SET search_path = {}", Path(&self.target.search_path)));
        }
        settings
    }

    /// A session as it was when it began, in the role that migrates.
    pub(super) fn clean_settings(&self) -> Vec<String> {
        let mut settings = self.role();
        settings.extend(self.reset());
        settings
    }

    /// The role that migrates.
    pub(super) fn role(&self) -> Vec<String> {
        let mut settings = vec!["RESET SESSION AUTHORIZATION".to_owned()];
        settings.extend(self.target.role.as_ref().map(|role| format!("SET ROLE {}", Ident(role))));
        settings
    }

    /// The settings that any client's session begins with. Not the role: it is none of those.
    pub(super) fn reset(&self) -> Vec<String> {
        let mut settings = self.reset_all();
        settings.extend(self.dates.iter().cloned());
        settings
    }

    /// The settings that this session began with.
    fn reset_all(&self) -> Vec<String> {
        let mut settings = vec!["RESET ALL".to_owned()];
        if !self.options_taken {
            settings.extend(connect::settings(&self.target.locks).map(|(name, value)| format!("SET {name} = {value}")));
        }
        if self.transaction_timeout {
            settings.push("SET transaction_timeout = 0".to_owned());
        }
        settings
    }

    /// Which server and database this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the server said beside its answers while scripts ran, for as much of it as is kept.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// What it is connected to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a message of Belay's own. A lost session is dropped.
    pub(super) async fn query(&mut self, doing: &'static str, sql: String) -> Result<Vec<Row>, PostgresError> {
        match self.try_query(sql).await {
            Ok(rows) => Ok(rows),
            Err(fault) => Err(PostgresError::from_fault(&self.target.address, doing, fault)),
        }
    }

    /// As [`Engine::query`], for those who tell faults apart.
    pub(super) async fn try_query(&mut self, sql: String) -> Result<Vec<Row>, Fault> {
        if self.take_plain() {
            // By itself: in one message, an error of the other would take it back.
            self.send_own(self.own_settings().join(";")).await?;
        }
        self.send_own(sql).await
    }

    /// Whether the session is as a script finds it. Whoever asks is about to change that.
    pub(super) fn take_plain(&mut self) -> bool {
        self.session.as_mut().is_some_and(|session| std::mem::take(&mut session.plain))
    }

    /// Sends a message of Belay's own in a session as it is.
    async fn send_own(&mut self, sql: String) -> Result<Vec<Row>, Fault> {
        let Some(session) = &mut self.session else {
            return Err(Fault::Lost { why: "the session ended before".into() });
        };
        let answer = session.query(sql).await;
        if matches!(answer, Err(Fault::Lost { .. })) {
            self.drop_session();
        }
        answer
    }

    pub(super) fn drop_session(&mut self) {
        self.session = None;
        self.locked = false;
    }

    /// Tries once to take the lock. Never waits.
    pub async fn try_lock(&mut self) -> Result<bool, PostgresError> {
        if self.locked {
            return Ok(true);
        }
        let rows =
            self.query("taking the lock", format!("SELECT pg_catalog.pg_try_advisory_lock({LOCK_KEY})::text")).await?;
        self.locked = rows.first().is_some_and(|row| text(row, 0) == "true");
        if self.locked {
            failpoint::pass("after-lock").await;
        }
        Ok(self.locked)
    }

    /// Rids the session of advisory locks that a script took, besides Belay's own, which the transaction covers meanwhile. A
    /// session that cannot be rid of them goes.
    pub(super) async fn keep_no_other_lock(&mut self) {
        let sql = format!(
            "SELECT pg_catalog.pg_try_advisory_xact_lock({LOCK_KEY});SELECT pg_catalog.pg_advisory_unlock_all();\
             SELECT pg_catalog.pg_try_advisory_lock({LOCK_KEY})"
        );
        if self.try_query(sql).await.is_err() {
            self.drop_session();
        }
    }

    /// Whether there is a connection: one that was lost in the middle of scripts, and could not be made again, is gone.
    pub fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// Whether this connection took the lock and was not lost since. That a script did not release it is seen by
    /// every write to the ledger, not here.
    pub fn holds_lock(&self) -> bool {
        self.locked
    }

    /// Asks the server whether this connection holds the lock. While a backup runs, ask now and then: it notices a
    /// connection that was lost at rest, and keeps firewalls from cutting it.
    pub async fn confirm_lock(&mut self) -> Result<bool, PostgresError> {
        let rows = self.query("looking at the lock", format!("SELECT ({})::text", self.lock_is_held())).await?;
        self.locked = rows.first().is_some_and(|row| text(row, 0) == "true");
        Ok(self.locked)
    }

    /// Releases the lock.
    pub async fn unlock(&mut self) -> Result<(), PostgresError> {
        if self.locked {
            self.locked = false;
            self.query("releasing the lock", format!("SELECT pg_catalog.pg_advisory_unlock({LOCK_KEY})::text")).await?;
        }
        Ok(())
    }

    /// Who holds the lock. None: nobody, or it was released meanwhile.
    pub async fn lock_holder(&mut self) -> Result<Option<Holder>, PostgresError> {
        let sql = format!(
            "SELECT l.pid::text, coalesce(a.usename, '')::text, coalesce(a.application_name, '')::text, \
             to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
             FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE {} LIMIT 1",
            self.is_lock("l")
        );
        let rows = self.query("looking for the lock's holder", as_login(&sql)).await?;
        Ok(rows.first().map(|row| Holder {
            pid: text(row, 0).parse().unwrap_or_default(),
            user: text(row, 1).to_owned(),
            application: text(row, 2).to_owned(),
            since: text(row, 3).parse().ok(),
        }))
    }

    /// A condition on a row of pg_locks: it is Belay's lock on this database, and it is held.
    fn is_lock(&self, alias: &str) -> String {
        format!(
            "{alias}.locktype = 'advisory' AND {alias}.database = {} AND {alias}.classid = {} AND \
             {alias}.objid = {} AND {alias}.objsubid = 1 AND {alias}.granted",
            self.identity.database_oid,
            (LOCK_KEY as u64) >> 32,
            LOCK_KEY as u32,
        )
    }

    /// A condition: this very backend holds the lock, and will until the transaction ends. Every write to the ledger carries it.
    ///
    /// pg_locks says it too, and costs more than all else around a script. Only who holds a session's lock can release it: so
    /// it is released, and taken again under the cover of the transaction's own, which the same session may have beside it
    /// and nobody else meanwhile. CASE keeps the order.
    pub(super) fn lock_is_held(&self) -> String {
        format!(
            "CASE WHEN NOT pg_catalog.pg_try_advisory_xact_lock({LOCK_KEY}) THEN false \
             WHEN NOT pg_catalog.pg_advisory_unlock({LOCK_KEY}) THEN false ELSE pg_catalog.pg_try_advisory_lock({LOCK_KEY}) END"
        )
    }

    /// The size of the database in bytes. It costs the server a look at every file.
    pub async fn size_bytes(&mut self) -> Result<i64, PostgresError> {
        let sql = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())::text";
        let rows = self.query("measuring the database", sql.to_owned()).await?;
        Ok(rows.first().and_then(|row| text(row, 0).parse().ok()).unwrap_or_default())
    }

    /// Whether a backend that was ours still lives.
    pub(super) async fn is_alive(&mut self, backend: &Backend) -> Result<bool, PostgresError> {
        let sql = format!("SELECT FROM pg_catalog.pg_stat_activity a WHERE {}", backend.is_it());
        Ok(!self.query("looking for the lost session", as_login(&sql)).await?.is_empty())
    }

    /// Ends a backend that was ours and whose connection is lost. Whether it had committed, the ledger says. One that commits
    /// is waited for: it may wait for a synchronous standby, and to end that would make its rows count before they are safe.
    pub(super) async fn end(&mut self, backend: &Backend) -> Result<(), PostgresError> {
        let sql = format!(
            "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE {} AND NOT \
             coalesce(a.state = 'active' AND (a.query LIKE 'COMMIT%' OR a.wait_event = 'SyncRep'), false)",
            backend.is_it()
        );
        // Not allowed is not needed: the server finds out by itself that its client is gone.
        match self.query("ending the lost session", as_login(&sql)).await {
            Ok(_) | Err(PostgresError::Server { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says goodbye: the server frees the lock.
    pub async fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_key_is_as_documented() {
        assert_eq!(&LOCK_KEY.to_be_bytes(), b"belay\0\0\x01");
        assert_eq!((LOCK_KEY as u64) >> 32, 1650814049);
        assert_eq!(LOCK_KEY as u32, 2030043137);
    }
}
