//! Writing to the ledger what is no script: runs, events, holds, baselines.

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::apply::RunContext;
use super::engine::Engine;
use super::error::PostgresError;
use super::failpoint;
use super::message::script_values;
use super::quote::{Literal, Nullable};
use super::session::{Fault, Row};
use super::sqlstate::NOT_IN_ENCODING;
use crate::api::Failure;
use crate::plan::{Plan, PlanHash, PlannedScript};

/// What a run is about to do: written before anything that cannot be undone.
#[derive(Clone, Debug)]
pub struct RunIntent {
    pub id: Uuid,
    /// Who runs it: the Pod, or the person at a terminal.
    pub holder: String,
    pub plan: PlanHash,
    pub from: Option<String>,
    pub to: Option<String>,
    /// The PostgresBackup below it.
    pub backup: Option<String>,
}

impl Engine {
    /// Writes down what a run is about to do. A run that another process began goes on under its name.
    pub async fn begin_run(&mut self, intent: &RunIntent) -> Result<(), PostgresError> {
        self.require_lock()?;
        let server = serde_json::json!({
            "systemIdentifier": self.identity.system_identifier,
            "databaseOid": self.identity.database_oid,
            "database": self.identity.database,
            "serverVersion": self.identity.server_version,
        });
        // Not flushed by itself: what cannot be undone is a commit behind it in the same log.
        let sql = format!(
            "BEGIN;SET LOCAL synchronous_commit = off;INSERT INTO {} (id, holder, server, plan_hash, from_version, \
             to_version, backup) SELECT '{}'::pg_catalog.uuid, {}, {}::pg_catalog.jsonb, {}, {}, {}, {} WHERE {} ON CONFLICT (id) DO UPDATE SET plan_hash = excluded.plan_hash, to_version = excluded.to_version, \
             backup = excluded.backup, finished_at = NULL, outcome = NULL RETURNING 'locked';COMMIT",
            self.table("run"),
            intent.id,
            Literal(&intent.holder),
            Literal(&server.to_string()),
            Literal(intent.plan.as_str()),
            Nullable(intent.from.as_deref()),
            Nullable(intent.to.as_deref()),
            Nullable(intent.backup.as_deref()),
            self.lock_is_held(),
        );
        failpoint::pass("before-run").await;
        let written = self.write("writing the run to the ledger", sql).await?;
        failpoint::pass("after-run").await;
        self.locked_row(&written).await
    }

    /// Writes down how a run ended: a reason, such as `Succeeded`; and what the server said meanwhile.
    pub async fn finish_run(&mut self, id: Uuid, outcome: &str) -> Result<(), PostgresError> {
        let notices = serde_json::to_string(&self.notices).ok().filter(|_| !self.notices.is_empty());
        let table = self.table("run");
        let finished = |notices: Option<&str>| {
            format!(
                "UPDATE {table} SET finished_at = pg_catalog.clock_timestamp(), outcome = {}, notices = \
                 coalesce({}::pg_catalog.jsonb, notices) WHERE id = '{id}'",
                Literal(outcome),
                Nullable(notices),
            )
        };
        let doing = "writing the run's end to the ledger";
        failpoint::pass("before-finish").await;
        match self.write(doing, finished(notices.as_deref())).await {
            // A notice need not be of the database's encoding, and is no reason to leave the run without an end.
            Err(PostgresError::Server { error, .. }) if NOT_IN_ENCODING.contains(&&*error.sql_state) => {
                self.write(doing, finished(notices.as_deref().map(ascii).as_deref())).await?
            }
            written => written?,
        };
        failpoint::pass("after-finish").await;
        Ok(())
    }

    /// Holds a plan: Belay does not try it again by itself.
    pub async fn hold(&mut self, run: &RunContext, plan: &PlanHash, failure: &Failure) -> Result<(), PostgresError> {
        let failure = serde_json::to_value(failure).unwrap_or_default();
        self.event(
            Some(run.id),
            "held",
            &run.applied_by,
            &serde_json::json!({"plan": plan.as_str(), "failure": failure}),
        )
        .await
    }

    /// Lifts the hold.
    pub async fn release_hold(&mut self, actor: &str, plan: &PlanHash) -> Result<(), PostgresError> {
        self.event(None, "released", actor, &serde_json::json!({"plan": plan.as_str()})).await
    }

    /// Writes down something that happened, by whom. Events are never changed.
    pub async fn event(
        &mut self,
        run: Option<Uuid>,
        kind: &str,
        actor: &str,
        detail: &serde_json::Value,
    ) -> Result<(), PostgresError> {
        let run = run.map(|run| run.to_string());
        let sql = format!(
            "INSERT INTO {} (run_id, kind, actor, detail) VALUES ({}::pg_catalog.uuid, {}, {}, {}::pg_catalog.jsonb)",
            self.table("event"),
            Nullable(run.as_deref()),
            Literal(kind),
            Literal(actor),
            Literal(&detail.to_string()),
        );
        self.write("writing an event to the ledger", sql).await.map(|_| ())
    }

    /// Records what a plan says is present already, without running it. All or none.
    ///
    /// `cancel` ends the wait for another tool that is at work.
    pub async fn record_present(
        &mut self,
        run: &RunContext,
        plan: &Plan,
        cancel: &CancellationToken,
    ) -> Result<(), PostgresError> {
        match &plan.adopted {
            Some(ledger) => self.adopt(run, &plan.baseline, ledger, cancel).await,
            None => self.record_baseline(run, &plan.baseline).await,
        }
    }

    /// Writes down what was done to those who kept scripts waiting. What cannot be written now stays for the next time.
    pub(super) async fn write_deeds(&mut self, run: &RunContext) {
        let deeds = self.deeds.get_mut().map(std::mem::take).unwrap_or_default();
        for deed in deeds {
            let blocker = &deed.blocker;
            tracing::warn!(pid = blocker.pid, user = blocker.user, application = blocker.application,
                relations = ?blocker.relations, "{}: it kept a script waiting", deed.act.event());
            let detail = serde_json::json!({
                "pid": blocker.pid,
                "user": blocker.user,
                "application": blocker.application,
                "state": blocker.state,
                "command": blocker.command,
                "relations": blocker.relations,
                "lock": blocker.lock,
                "since": blocker.since.map(|since| since.to_string()),
                "confirmed": deed.confirmed,
            });
            if let Err(error) = self.event(Some(run.id), deed.act.event(), &run.applied_by, &detail).await {
                tracing::debug!(%error, "the ledger does not have it yet");
                self.deeds.get_mut().map(|deeds| deeds.push(deed)).unwrap_or_default();
            }
        }
    }

    /// Records scripts as present, without running them. All or none.
    pub async fn record_baseline(&mut self, run: &RunContext, scripts: &[PlannedScript]) -> Result<(), PostgresError> {
        self.require_lock()?;
        if scripts.is_empty() {
            return Ok(());
        }
        let versions: Vec<_> = scripts.iter().map(|script| script.version.as_written()).collect();
        let sql =
            self.present_sql(run, scripts, ("baseline", "baselined"), &serde_json::json!({"versions": versions}))?;
        let written = self.write("recording the baseline", format!("BEGIN;{sql}")).await?;
        self.locked_row(&written).await?;
        failpoint::pass("before-baseline-commit").await;
        self.write("recording the baseline", "COMMIT".to_owned()).await?;
        failpoint::pass("after-baseline").await;
        Ok(())
    }

    /// The rows of scripts that are present, and the event that says so, which answers one row if the lock was held.
    pub(super) fn present_sql(
        &self,
        run: &RunContext,
        scripts: &[PlannedScript],
        (mode, event): (&str, &str),
        detail: &serde_json::Value,
    ) -> Result<String, PostgresError> {
        let mut sql = String::new();
        for script in scripts {
            let script = &script.whole()?;
            sql.push_str(&format!(
                "INSERT INTO {} (version, file_name, description, author, date, checksum, script, rollback, mode, \
                 applied_by, run_id, duration_ms) VALUES ({}, {}, {}, '{}', 0);",
                self.table("history"),
                script_values(script),
                Literal(mode),
                Literal(&run.applied_by),
                run.id,
            ));
        }
        sql.push_str(&format!(
            "INSERT INTO {} (run_id, kind, actor, detail) SELECT '{}'::pg_catalog.uuid, {}, {}, \
             {}::pg_catalog.jsonb WHERE {} RETURNING 'locked'",
            self.table("event"),
            run.id,
            Literal(event),
            Literal(&run.applied_by),
            Literal(&detail.to_string()),
            self.lock_is_held(),
        ));
        Ok(sql)
    }

    /// A row came back, so the lock was held when it was written.
    pub(super) async fn locked_row(&mut self, rows: &[Row]) -> Result<(), PostgresError> {
        if !rows.is_empty() {
            return Ok(());
        }
        self.locked = false;
        self.rollback().await?;
        let left = "Nothing was run.".to_owned();
        Err(PostgresError::LockLost { address: self.target.address.clone(), script: None, left })
    }

    /// A message that writes; a failed one leaves no transaction open.
    pub(super) async fn write(&mut self, doing: &'static str, sql: String) -> Result<Vec<Row>, PostgresError> {
        match self.try_query(sql).await {
            Ok(rows) => Ok(rows),
            Err(fault) => {
                let denied = matches!(&fault, Fault::Server(error) if error.sql_state == "42501");
                let _ = self.rollback().await;
                match denied {
                    true => Err(self.may_not_use_ledger().await),
                    false => Err(PostgresError::from_fault(&self.target.address, doing, fault)),
                }
            }
        }
    }

    pub(super) async fn rollback(&mut self) -> Result<(), PostgresError> {
        if self.session.is_none() {
            return Ok(());
        }
        self.query("rolling back", "ROLLBACK".to_owned()).await.map(|_| ())
    }

    pub(super) fn require_lock(&self) -> Result<(), PostgresError> {
        match self.locked {
            true => Ok(()),
            false => Err(PostgresError::LockHeld { address: self.target.address.clone() }),
        }
    }
}

/// With a question mark for every other character.
fn ascii(text: &str) -> String {
    text.chars().map(|character| if character.is_ascii() { character } else { '?' }).collect()
}
