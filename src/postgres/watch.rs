//! Looking at a script's session from beside it: which statement it is at, and whom it waits for.
//!
//! The server keeps the answers to a message's statements back until its buffer is full or the message is done, so
//! the session itself tells nothing while it works. Instead a script's message names the statement in
//! application_name, which pg_stat_activity shows at once; and a second connection, opened only when a message takes
//! long, looks there. The same look shows who blocks, does to them what the policy says, stops a try that makes others
//! wait for too long, and notices a session that is gone though its connection seems to live.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::attempt::Task;
use super::blocker::{Blocker, Deed, question};
use super::cancel::cancel;
use super::connect::open;
use super::engine::Engine;
use super::quote::Path;
use super::retry::{self, Waits};
use super::session::{Backend, Fault, Row, as_login, query, text};
use super::target::Target;

/// A message that takes less than this is not looked at.
const PATIENCE: Duration = Duration::from_millis(700);

/// The same, after a try that locks were not to be had for: the next one is likely to wait too.
const PATIENCE_AGAIN: Duration = Duration::from_millis(100);

/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);

/// After this, the connection beside is taken for lost, and made again: what cut the script's may have cut it too.
const ANSWER: Duration = Duration::from_secs(5);

/// What one look saw.
pub(super) struct Look {
    /// The statement's number, from 1.
    pub statement: Option<usize>,
    pub blockers: Vec<Blocker>,
    /// How far the statement is, in words.
    pub progress: Option<String>,
    /// It has waited for locks for longer than this, which is all that it may: what it runs is cancelled.
    pub too_long: Option<Duration>,
}

/// How long a message may wait for locks in all.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    /// For locks of any kind, and for others' transactions to end.
    pub any: Duration,
    /// For those behind which others queue who only read and write.
    pub exclusive: Duration,
    /// For each of those.
    pub each: Duration,
}

impl Limit {
    /// Of a try at what locks others out.
    pub fn of_try(engine: &Engine, task: &Task<'_>) -> Self {
        Self::within(task, retry::limit(task.attempt, &engine.target.locks, engine.deadlock_timeout))
    }

    /// The same for all locks, within the patience of a task that is hurried.
    pub fn within(task: &Task<'_>, limit: Duration) -> Self {
        Self::at_most(if task.hurried { limit.min(task.patience.left()) } else { limit })
    }

    /// The same for all locks.
    pub fn at_most(limit: Duration) -> Self {
        Self { any: limit, exclusive: limit, each: limit }
    }

    /// Of a try at what waits long without holding others up; or does so only where somebody sees it.
    pub fn patient(engine: &Engine, task: &Task<'_>) -> Self {
        let limit = Self::of_try(engine, task);
        match task.watched {
            true => Self { any: limit.any.max(task.patience.left()), ..limit },
            false => limit,
        }
    }
}

impl Engine {
    /// Whether a second connection is to be had.
    pub(super) async fn is_room_beside(&self) -> bool {
        match open(&self.target, &self.application, false).await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        }
    }
}

/// The connection beside a script's. It asks as the login, never as the role that migrates: pg_cancel_backend would then be
/// refused.
pub(super) struct Watch<'a> {
    target: &'a Target,
    application: &'a str,
    backend: &'a Backend,
    patience: Duration,
    limit: Limit,
    waits: Waits,
    exclusive_waits: Waits,
    deeds: &'a Mutex<Vec<Deed>>,
    /// Sessions that something was done to.
    dealt_with: Vec<(i32, Option<String>)>,
    connection: Option<PgConnection>,
}

impl<'a> Watch<'a> {
    /// For try `attempt` (from 1). What is done to blockers is added to `deeds`.
    pub fn new(
        target: &'a Target,
        application: &'a str,
        backend: &'a Backend,
        attempt: u32,
        limit: Limit,
        deeds: &'a Mutex<Vec<Deed>>,
    ) -> Self {
        let patience = if attempt > 1 { PATIENCE_AGAIN } else { PATIENCE };
        Self {
            target,
            application,
            backend,
            patience,
            limit,
            waits: Waits::default(),
            exclusive_waits: Waits::default(),
            deeds,
            dealt_with: Vec::new(),
            connection: None,
        }
    }

    /// Looks now and then, and tells `saw`. Ends only when the session is gone from the server: nothing more can come.
    pub async fn run(mut self, mut saw: impl FnMut(Look)) -> Fault {
        tokio::time::sleep(self.patience).await;
        let mut gone = false;
        loop {
            let mut pause = EVERY;
            // Whatever goes wrong beside the script is no reason to disturb it.
            match self.look().await {
                Ok(Some((look, left))) => {
                    gone = false;
                    let too_long = look.too_long;
                    saw(look);
                    match too_long {
                        Some(_) => drop(self.ask(cancel(self.backend)).await),
                        None => pause = pause.min(left.map_or(EVERY, |left| left + Duration::from_millis(5))),
                    }
                }
                // Once may be its last answer on the way to us.
                Ok(None) if gone => return Fault::Lost { why: "the server no longer has the session".into() },
                Ok(None) => gone = true,
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&mut self, sql: String) -> Result<Vec<Row>, Fault> {
        if self.connection.is_none() {
            let mut opened = open(self.target, self.application, false).await.map_err(Fault::from_sqlx)?;
            // Relations are named as the scripts would name them.
            if !self.target.search_path.is_empty() {
                query(&mut opened, format!("SET search_path = {}", Path(&self.target.search_path))).await?;
            }
            self.connection = Some(opened);
        }
        let Some(connection) = &mut self.connection else { return Ok(Vec::new()) };
        let answer = tokio::time::timeout(ANSWER, query(connection, sql)).await;
        let answer = answer.unwrap_or_else(|_| Err(Fault::Lost { why: "no answer beside the script".into() }));
        if matches!(answer, Err(Fault::Lost { .. })) {
            self.connection = None;
        }
        answer
    }

    /// What there is to see, and for how long it may still wait, if it waits. None: the session is gone.
    async fn look(&mut self) -> Result<Option<(Look, Option<Duration>)>, Fault> {
        let rows = self.ask(as_login(&question(&self.backend.is_it()))).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let mut blockers: Vec<_> = rows.iter().filter_map(|row| Blocker::read(row, self.target.user())).collect();
        for blocker in &mut blockers {
            self.deal_with(blocker).await;
        }
        // The same GRANT helps with all of them.
        let mut said: Vec<String> = Vec::new();
        for blocker in &mut blockers {
            match &blocker.missing {
                Some(missing) if said.contains(missing) => blocker.missing = None,
                Some(missing) => said.push(missing.clone()),
                None => {}
            }
        }
        // waitstart is set a moment late: then it counts as no wait.
        let now = Duration::from_millis(text(first, 9).parse().unwrap_or_default());
        let exclusive_now = if text(first, 17) == "true" { now } else { Duration::ZERO };
        let all = [
            (self.waits.in_all(now), self.limit.any),
            (self.exclusive_waits.in_all(exclusive_now), self.limit.exclusive),
            (exclusive_now, self.limit.each),
        ];
        let too_long = all.iter().find(|(waited, limit)| waited > limit).map(|(_, limit)| *limit);
        let left = all.iter().map(|(waited, limit)| limit.saturating_sub(*waited)).min().filter(|_| !now.is_zero());
        let statement = statement_of(text(first, 0));
        let progress = first.get(15).cloned().flatten();
        Ok(Some((Look { statement, blockers, progress, too_long }, left)))
    }

    /// Does to a blocker what the policy says. That it is not allowed is told, and nothing else changes.
    async fn deal_with(&mut self, blocker: &mut Blocker) {
        let Some(act) = self.target.blockers.act(blocker) else { return };
        let session = blocker.session();
        let first = !self.dealt_with.contains(&session);
        let deeds = || self.deeds.lock().unwrap_or_else(PoisonError::into_inner);
        if first {
            // Noted before: when it works, the script goes on at once, and nobody is here any more to hear the answer.
            deeds().push(Deed { act, blocker: blocker.clone(), confirmed: false });
        }
        let answer = self.ask(as_login(&self.target.blockers.sql(act, blocker, self.backend))).await;
        let done = answer.as_ref().is_ok_and(|rows| rows.first().is_some_and(|row| text(row, 0) == "true"));
        let mut deeds = deeds();
        let noted = deeds.iter().position(|deed| !deed.confirmed && deed.blocker.session() == session);
        match (noted, done) {
            (Some(at), true) => {
                deeds[at].confirmed = true;
                self.dealt_with.push(session);
            }
            // It has gone on by itself, or it is not allowed, or not known: then this is tried again soon.
            (Some(at), false) => drop(deeds.remove(at)),
            (None, _) => {}
        }
        if matches!(&answer, Err(Fault::Server(error)) if error.sql_state == "42501") {
            blocker.missing = Some(blocker.may_not_signal(self.target.user()));
        }
    }
}

/// `application` with the number of a statement, cut so that the server does not cut the number.
pub(super) fn name_with_statement(application: &str, statement: usize) -> String {
    let number = format!(" #{statement}");
    let mut end = application.len().min(super::connect::APPLICATION_BYTES - number.len());
    while !application.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{number}", &application[..end])
}

fn statement_of(application: &str) -> Option<usize> {
    application.rsplit_once(" #")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_told_by_the_sessions_name() {
        for application in ["belay/1/ns/name".to_owned(), "é".repeat(40), "x".repeat(63)] {
            let name = name_with_statement(&application, 12345);
            assert!(name.len() <= 63, "{name}");
            assert_eq!(statement_of(&name), Some(12345));
        }
        assert_eq!(statement_of("psql"), None);
    }
}
