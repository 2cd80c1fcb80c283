//! Whom a script waits for: how that is read from the server, and what the policy says to do about it.

use std::time::Duration;

use jiff::Timestamp;

use super::progress;
use super::quote::{Ident, Literal};
use super::session::{Backend, Row, text};
use super::target::Blockers;

/// A session, or a prepared transaction, that a script waits for. Never its query's text, which may hold rows' values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocker {
    /// 0: a prepared transaction, which has no session.
    pub pid: i32,
    pub user: String,
    pub application: String,
    /// `active`, `idle in transaction`; None: the login may not see it.
    pub state: Option<String>,
    /// The first word of what it runs, or ran last: `SELECT`; `autovacuum`, or `autovacuum (to prevent wraparound)`.
    /// None: the login may not see it.
    pub command: Option<String>,
    /// The relations that the script waits to lock.
    pub relations: Vec<String>,
    /// The lock that the script asks for: `AccessExclusiveLock`. Of what is no relation, it says what it is:
    /// `ShareLock (transactionid)`.
    pub lock: String,
    /// Since when its transaction is open; None: the login may not see it.
    pub since: Option<Timestamp>,
    /// The name under which a transaction was prepared.
    pub gid: Option<String>,
    /// What the login lacks to see, or to do, more.
    pub missing: Option<String>,
    idle: Option<Duration>,
    started: Option<String>,
    superuser: bool,
    /// In another database, with a lock on what all of them share.
    elsewhere: bool,
}

/// What the policy wants done to a blocker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Terminate,
    Cancel,
}

/// What was done to a blocker, for the ledger.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    pub act: Act,
    pub blocker: Blocker,
    /// Whether the server said that it did it. Without: it was asked, and the script went on before it answered.
    pub confirmed: bool,
}

impl Act {
    /// As the ledger's events call it.
    pub fn event(self) -> &'static str {
        match self {
            Self::Terminate => "blocker-terminated",
            Self::Cancel => "blocker-cancelled",
        }
    }
}

impl Blockers {
    /// What is to be done to this blocker. Nothing ever to another Belay, which may be in the middle of a script, nor to an
    /// autovacuum: the server itself sends those away that may go. Nor to a session of another database, of which this policy
    /// says nothing.
    pub(super) fn act(&self, blocker: &Blocker) -> Option<Act> {
        if blocker.pid == 0 || blocker.elsewhere || blocker.application.starts_with("belay/") {
            return None;
        }
        match self {
            Self::Wait => None,
            Self::TerminateIdleInTransaction { older_than } => {
                blocker.idle.is_some_and(|idle| idle > *older_than).then_some(Act::Terminate)
            }
            Self::CancelApplications { names } => {
                // A cancel does nothing to a session at rest.
                let runs = blocker.state.as_deref() == Some("active");
                (runs && names.contains(&blocker.application)).then_some(Act::Cancel)
            }
        }
    }

    /// The statement that does it, if it is still due: the session may have gone on, or another may have its pid by now. It
    /// answers with a row that says `true`.
    pub(super) fn sql(&self, act: Act, blocker: &Blocker, waiting: &Backend) -> String {
        let (does, when) = match (act, self) {
            (Act::Terminate, Self::TerminateIdleInTransaction { older_than }) => (
                "pg_terminate_backend",
                format!(
                    "b.state LIKE 'idle in transaction%' AND b.state_change < pg_catalog.clock_timestamp() - interval '{} ms' \
                     AND b.backend_start = {}::timestamptz",
                    older_than.as_millis(),
                    Literal(blocker.started.as_deref().unwrap_or("infinity")),
                ),
            ),
            (Act::Terminate, _) => ("pg_terminate_backend", "false".to_owned()),
            (Act::Cancel, _) => (
                "pg_cancel_backend",
                format!("b.state = 'active' AND b.application_name = {}", Literal(&blocker.application)),
            ),
        };
        format!(
            "SELECT pg_catalog.{does}(b.pid)::text FROM pg_catalog.pg_stat_activity b WHERE b.pid = {} AND {when} AND \
             b.datname = pg_catalog.current_database() AND b.pid = ANY (pg_catalog.pg_blocking_pids({}))",
            blocker.pid, waiting.pid
        )
    }
}

impl Blocker {
    /// Which session it is: its pid alone may be another's by now.
    pub(super) fn session(&self) -> (i32, Option<String>) {
        (self.pid, self.started.clone())
    }

    /// What the login lacks to end it or to cancel what it runs.
    pub(super) fn may_not_signal(&self, login: &str) -> String {
        match self.superuser {
            true => "only a superuser may end or cancel a superuser's session".to_owned(),
            false => format!("GRANT pg_signal_backend TO {};", Ident(login)),
        }
    }

    /// From a row of [`question`]. None: nobody is waited for.
    pub(super) fn read(row: &Row, login: &str) -> Option<Self> {
        let optional = |column: usize| row.get(column).cloned().flatten();
        let hidden = text(row, 13) == "true";
        Some(Self {
            pid: optional(1)?.parse().ok()?,
            user: text(row, 2).to_owned(),
            application: text(row, 3).to_owned(),
            state: optional(4),
            command: optional(5),
            relations: text(row, 6).lines().map(str::to_owned).collect(),
            lock: text(row, 7).to_owned(),
            since: text(row, 8).parse().ok(),
            idle: text(row, 10).parse().ok().map(Duration::from_millis),
            started: optional(11),
            gid: optional(12),
            missing: hidden.then(|| format!("GRANT pg_read_all_stats TO {};", Ident(login))),
            superuser: text(row, 14) == "true",
            elsewhere: text(row, 16) != "true",
        })
    }
}

/// Asks where the session is that `is_it` finds in pg_stat_activity `a`, and whom it waits for: no row if it is gone, else
/// one at least, and one for each blocker. Columns: its application_name, 1 to 8 as in [`Blocker`], 9 how long it has
/// waited in ms, what is read above, 15 how far it is, and 17 whether those queue behind it who only read and write.
pub(super) fn question(is_it: &str) -> String {
    // A session's wait for a row is a wait for the transaction that changed it; the row's table is in the tuple lock that
    // it holds meanwhile. A prepared transaction keeps the lock of its own transaction id, by which it is found.
    format!(
        "WITH me AS MATERIALIZED (SELECT a.pid, a.application_name FROM pg_catalog.pg_stat_activity a WHERE {is_it}), \
         locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks), \
         wait AS (SELECT l.* FROM locks l JOIN me ON l.pid = me.pid WHERE NOT l.granted), \
         blocking AS (SELECT DISTINCT pg_catalog.unnest(pg_catalog.pg_blocking_pids(me.pid)) AS pid FROM me), \
         prepared AS (SELECT DISTINCT x.gid, x.owner, x.prepared FROM wait w JOIN locks p ON p.pid IS NULL AND p.granted \
         AND p.locktype = w.locktype AND (p.database, p.relation, p.page, p.tuple, p.virtualxid, p.transactionid, p.classid, \
         p.objid, p.objsubid) IS NOT DISTINCT FROM (w.database, w.relation, w.page, w.tuple, w.virtualxid, w.transactionid, \
         w.classid, w.objid, w.objsubid) JOIN locks t ON t.pid IS NULL AND t.granted AND t.locktype = 'transactionid' \
         AND t.virtualtransaction = p.virtualtransaction \
         JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = t.transactionid) \
         SELECT me.application_name, coalesce(b.pid, CASE WHEN o.pid = 0 THEN 0 END)::text, \
         coalesce(b.usename, x.owner, '')::text, coalesce(b.application_name, ''), b.state, \
         CASE WHEN coalesce(b.backend_type = 'autovacuum worker', b.usesysid IS NULL AND v.pid IS NOT NULL) \
         THEN 'autovacuum' || CASE WHEN b.query LIKE '%(to prevent wraparound)' THEN ' (to prevent wraparound)' ELSE '' END \
         ELSE upper(substring(b.query FROM '^\\s*([A-Za-z]{{1,12}})\\M')) END, \
         (SELECT string_agg(DISTINCT l.relation::pg_catalog.regclass::text, E'\\n') FROM locks l WHERE l.pid = me.pid \
         AND l.relation IS NOT NULL AND (NOT l.granted OR l.locktype = 'tuple')), \
         (SELECT min(CASE w.locktype WHEN 'relation' THEN w.mode ELSE w.mode || ' (' || w.locktype || ')' END) FROM wait w), \
         to_char(coalesce(b.xact_start, x.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
         (SELECT (extract(epoch FROM clock_timestamp() - min(w.waitstart)) * 1000)::int8::text FROM wait w), \
         CASE WHEN b.state LIKE 'idle in transaction%' \
         THEN (extract(epoch FROM clock_timestamp() - b.state_change) * 1000)::int8::text END, \
         b.backend_start::text, x.gid, (b.query = '<insufficient privilege>' AND b.usesysid IS NOT NULL)::text, \
         r.rolsuper::text, {progress}, (b.datname = current_database())::text, \
         (SELECT bool_or(w.locktype = 'relation' AND w.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', \
         'AccessExclusiveLock'))::text FROM wait w) \
         FROM me LEFT JOIN blocking o ON true LEFT JOIN pg_catalog.pg_stat_activity b ON b.pid = o.pid \
         LEFT JOIN pg_catalog.pg_stat_progress_vacuum v ON v.pid = o.pid \
         LEFT JOIN pg_catalog.pg_roles r ON r.oid = b.usesysid LEFT JOIN prepared x ON o.pid = 0",
        progress = progress::expression("me.pid"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocker(application: &str, state: Option<&str>, idle: Option<u64>) -> Blocker {
        Blocker {
            pid: 7,
            application: application.to_owned(),
            state: state.map(str::to_owned),
            idle: idle.map(Duration::from_secs),
            ..Blocker::default()
        }
    }

    #[test]
    fn only_what_the_policy_names_is_touched_and_never_another_belay() {
        let idle = Blockers::TerminateIdleInTransaction { older_than: Duration::from_secs(60) };
        let names = ["report", "belay/x"].map(str::to_owned).to_vec();
        let applications = Blockers::CancelApplications { names };
        for (policy, blocker, act) in [
            (&Blockers::Wait, blocker("report", Some("idle in transaction"), Some(900)), None),
            (&idle, blocker("report", Some("idle in transaction"), Some(61)), Some(Act::Terminate)),
            (&idle, blocker("report", Some("idle in transaction"), Some(60)), None),
            (&idle, blocker("report", Some("active"), None), None),
            (&idle, blocker("report", None, None), None),
            (&idle, blocker("belay/x", Some("idle in transaction"), Some(900)), None),
            (&idle, Blocker { pid: 0, ..blocker("", None, Some(900)) }, None),
            (&idle, Blocker { elsewhere: true, ..blocker("report", Some("idle in transaction"), Some(900)) }, None),
            (&applications, blocker("report", Some("active"), None), Some(Act::Cancel)),
            (&applications, blocker("report", None, None), None),
            (&applications, blocker("report", Some("idle in transaction"), Some(900)), None),
            (&applications, blocker("reports", Some("active"), None), None),
            (&applications, blocker("belay/x", Some("active"), None), None),
            // An autovacuum has no name.
            (&applications, blocker("", None, None), None),
        ] {
            assert_eq!(policy.act(&blocker), act, "{policy:?}: {blocker:?}");
        }
    }
}
