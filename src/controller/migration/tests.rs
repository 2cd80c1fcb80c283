//! The lifecycle as a table, and as a model: the decision is driven through every event, and must always come to rest.

mod below;
mod stopped;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::decide::{Decision, Step, decide};
use super::observe::{Key, Observed, Request, Trouble};
use super::view::{About, Activity, Doing, Inspection, View};
use super::{message, report};
use crate::api::{Failure, MigrationStatus, PostgresBackup, PostgresDatabase, Reason, RunStatus, State, conditions};
use crate::controller::pin::Pin;
use crate::health::Verdict;
use crate::plan::{Applied, ForeignLedger, ForeignRow, Hold, Ledger, Policy, Tool, plan};
use crate::postgres::Identity;
use crate::script::History;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn after(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn history() -> Arc<History> {
    let files = [("001_a.sql", "create table a ();"), ("002_b.sql", "create table b ();")];
    Arc::new(History::from_files(files.map(|(name, sql)| (name.to_owned(), sql.as_bytes().to_vec()))).unwrap())
}

fn database(backup: serde_json::Value) -> Arc<PostgresDatabase> {
    let database = serde_json::json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase",
        "metadata": { "name": "shop", "namespace": "shop", "generation": 1 },
        "spec": { "connection": { "secretRef": { "name": "shop-postgres" } }, "backup": backup },
    });
    Arc::new(serde_json::from_value(database).unwrap())
}

fn key() -> Key {
    Key { generation: 1, database_generation: 1, source_digest: Some("sha256:1".into()), request: None, accepted: 0 }
}

/// A Migration of two scripts that was just created, without backup or checks.
fn created() -> Observed {
    Observed {
        namespace: "shop".into(),
        name: "shop".into(),
        claimant: "cluster/shop/shop".into(),
        deleting: false,
        has_finalizer: false,
        suspend: false,
        has_health_checks: false,
        backup_override: None,
        health_passed: false,
        request: None,
        request_handled: false,
        status: MigrationStatus::default(),
        rival: None,
        config_maps: vec!["shop-migrations".into()],
        database_name: "shop".into(),
        database: Ok(database(serde_json::json!({ "when": "Never" }))),
        pin: Pin::default(),
        source: Ok(history()),
        policy: Ok(Policy::default()),
        backups: Vec::new(),
        key: key(),
        run: None,
        settled_until: None,
        attempts: 0,
        chance: 0.5,
    }
}

fn view() -> View {
    View { activity: Activity::Idle, ..View::new(Uuid::nil(), now(), key()) }
}

fn ledger(applied: usize) -> Ledger {
    let history = history();
    let rows = history.scripts().take(applied).map(|script| Applied {
        version: script.version.clone(),
        file_name: script.file_name.clone(),
        description: script.description.clone(),
        author: None,
        date: None,
        checksum: script.checksum,
        mode: "transaction".into(),
        applied_at: Timestamp::UNIX_EPOCH,
        applied_by: "test".into(),
        run_id: Uuid::nil(),
        duration_ms: 1,
        retired: false,
    });
    Ledger { exists: applied > 0, rows: rows.collect(), ..Ledger::default() }
}

fn inspection(ledger: Ledger) -> Inspection {
    Inspection { at: now(), identity: identity(), ledger, locked: true, holder: None, privileges: None, below: None }
}

/// That Migration, with a run that has read a ledger with so many scripts applied.
fn read(applied: usize) -> (Observed, View) {
    (created(), View { inspection: Some(Arc::new(inspection(ledger(applied)))), ..view() })
}

fn with(o: Observed, run: View) -> Decision {
    decide(&Observed { run: Some(run), ..o }, now())
}

fn reason(decision: &Decision) -> Option<Reason> {
    decision.say.as_ref().map(|say| say.reason)
}

fn message(decision: &Decision) -> &str {
    decision.say.as_ref().map_or("", |say| say.message.as_str())
}

fn failure() -> Failure {
    Failure {
        reason: "ScriptFailed".into(),
        message: "002_b.sql, line 17: column \"total\" does not exist (SQLSTATE 42703). Nothing of 002 is applied."
            .into(),
        sql_state: Some("42703".into()),
        script: Some("002_b.sql".into()),
        line: Some(17),
        column: Some(9),
        ..Failure::default()
    }
}

fn hold(at: Timestamp) -> Hold {
    let plan = plan(&history(), &ledger(1), &Policy::default()).unwrap().hash;
    Hold { plan, failure: failure(), at, run_id: Uuid::nil() }
}

fn of_one_script(sql: &str) -> (Observed, View) {
    let files = [("001_a.sql".to_owned(), sql.as_bytes().to_vec())];
    let (o, run) = read(0);
    let policy = database(serde_json::json!({
        "when": "BeforeDestructive",
        "method": { "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "b" } } } },
    }));
    (Observed { source: Ok(Arc::new(History::from_files(files).unwrap())), database: Ok(policy), ..o }, run)
}

/// A backup of this plan, in a state.
fn backup(condition: &str, plan: &str) -> Arc<PostgresBackup> {
    let backup = serde_json::json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresBackup",
        "metadata": {
            "name": "shop-1", "namespace": "shop", "creationTimestamp": now().to_string(),
            "annotations": { "belay.dev/plan": plan, "belay.dev/database-generation": "1" },
        },
        "spec": { "databaseRef": { "name": "shop" } },
        "status": { "conditions": [{ "type": condition, "status": "True", "reason": "x", "message": "why.", "lastTransitionTime": now().to_string() }] },
    });
    Arc::new(serde_json::from_value(backup).unwrap())
}

#[test]
fn a_created_migration_is_opened_with_the_lock() {
    assert_eq!(decide(&created(), now()).step, Step::Open { lock: true });
}

#[test]
fn a_suspended_migration_plans_without_the_lock_and_claims_nothing() {
    let suspended = Observed { suspend: true, rival: Some("older".into()), ..created() };
    assert_eq!(decide(&suspended, now()).step, Step::Open { lock: false });
    let (o, mut run) = read(0);
    run.inspection = Some(Arc::new(Inspection { locked: false, ..inspection(ledger(0)) }));
    let decision = with(Observed { suspend: true, ..o }, run);
    assert_eq!(decision.step, Step::Close { outcome: Reason::Suspended });
    assert_eq!(decision.plan.map(|plan| plan.pending.len()), Some(2));
}

#[test]
fn what_is_missing_is_told_in_its_order_and_nothing_is_opened() {
    let trouble = |reason| Trouble { reason, message: "x".into() };
    let mut o = Observed { source: Err(trouble(Reason::SourceNotFound)), ..created() };
    assert_eq!(reason(&decide(&o, now())), Some(Reason::SourceNotFound));
    o.database = Err(trouble(Reason::DatabaseNotFound));
    assert_eq!(reason(&decide(&o, now())), Some(Reason::DatabaseNotFound));
    o.policy = Err(trouble(Reason::InvalidSpec));
    assert_eq!(reason(&decide(&o, now())), Some(Reason::InvalidSpec));
    o.rival = Some("older".into());
    let decision = decide(&o, now());
    assert_eq!((reason(&decision), &decision.step), (Some(Reason::DatabaseInUse), &Step::Rest));
    assert!(decision.requeue.is_some(), "it is tried again though nothing wakes it");
}

#[test]
fn settled_inputs_rest_until_their_time() {
    let o = Observed { settled_until: Some(after(60)), ..created() };
    let decision = decide(&o, now());
    assert_eq!(decision.step, Step::Rest);
    assert_eq!(decision.requeue.map(|wait| wait.as_secs()), Some(60));
    assert!(decision.say.is_none(), "nothing is written while nothing happens");
    assert_eq!(decide(&o, after(60)).step, Step::Open { lock: true });
}

#[test]
fn the_plan_in_the_status_says_what_is_locked_and_what_may_lose_data() {
    let sql: String = (0..12).map(|n| format!("alter table t{n:02} set (fillfactor = 70);\n")).collect();
    let (o, _) = of_one_script(&format!("{sql}alter table orders drop column total;"));
    let history = o.source.unwrap();
    let mut status = MigrationStatus::default();
    report::tell_plan(&mut status, &plan(&history, &Ledger::default(), &Policy::default()).unwrap());
    let told = &status.plan[0];
    assert_eq!(told.locks.len(), 10);
    assert_eq!(told.locks[0], "orders: ACCESS EXCLUSIVE");
    assert_eq!(told.locks[1], "t00: SHARE UPDATE EXCLUSIVE");
    assert_eq!(told.destructive.as_deref(), Some("line 13: DROP COLUMN"));

    let baseline = Policy { baseline: Some("1".parse().unwrap()), ..Policy::default() };
    report::tell_plan(&mut status, &plan(&history, &Ledger::default(), &baseline).unwrap());
    assert!(status.plan[0].locks.is_empty() && status.plan[0].destructive.is_none(), "{:?}", status.plan);
}

#[test]
fn without_the_lock_nothing_is_written_and_it_is_polled() {
    let (o, mut run) = read(1);
    let holder = Some("belay/other".to_owned());
    run.inspection = Some(Arc::new(Inspection { locked: false, holder, ..inspection(ledger(1)) }));
    let observed = Observed { run: Some(run), ..o };
    let decision = decide(&observed, now());
    assert_eq!((reason(&decision), &decision.step), (Some(Reason::LockHeld), &Step::Rest));
    assert!(message(&decision).contains("belay/other"));
    assert_eq!(decide(&observed, after(1)).step, Step::Inspect { below: None });
}

#[test]
fn an_applied_plan_is_read_back_before_it_is_claimed() {
    let (o, mut run) = read(2);
    run.inspection = None;
    (run.applied, run.wrote) = (Some(Ok(())), true);
    assert_eq!(with(o.clone(), run.clone()).step, Step::Inspect { below: None });
    run.inspection = Some(Arc::new(inspection(ledger(2))));
    let decision = with(o, run);
    assert_eq!(
        (reason(&decision), &decision.step),
        (Some(Reason::Succeeded), &Step::Close { outcome: Reason::Succeeded })
    );
}

#[test]
fn a_failed_script_is_told_after_the_ledger_was_read_back() {
    let (o, mut run) = read(1);
    (run.applied, run.wrote) = (Some(Err(failure())), true);
    run.inspection = None;
    assert_eq!(with(o.clone(), run.clone()).step, Step::Inspect { below: None });
    run.inspection = Some(Arc::new(inspection(ledger(1))));
    let decision = with(o, run);
    assert_eq!(decision.step, Step::Close { outcome: Reason::ScriptFailed });
    let text = message(&decision);
    for part in [
        "002_b.sql, line 17",
        "42703",
        "Nothing of 002 is applied",
        "The database is at 001.",
        "ConfigMap shop-migrations",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn another_tool_that_is_at_work_is_tried_again_soon_and_needs_nobody() {
    let (o, mut run) = read(0);
    let busy = Failure { reason: "LockHeld".into(), message: "On db, goose is at work.".into(), ..Failure::default() };
    (run.applied, run.wrote) = (Some(Err(busy)), true);
    let decision = with(o, run);
    assert_eq!(decision.step, Step::Close { outcome: Reason::LockHeld });
    assert_eq!(decision.settle.map(|settle| settle.until.duration_since(now()).as_secs()), Some(1));
    assert_eq!(Reason::LockHeld.state(), State::Reconciling);
}

#[test]
fn a_ledger_of_another_tool_is_taken_over_by_applying_the_plan_that_says_so() {
    let foreign = ForeignLedger {
        tool: Tool::Goose,
        schema: "public".into(),
        table: "goose_db_version".into(),
        rows: Some(vec![ForeignRow { version: Some("1".into()), ok: true, ..ForeignRow::default() }]),
    };
    let (o, mut run) = read(0);
    let table = Some("public.goose_db_version".to_owned());
    let read = Ledger { first_foreign_table: table, foreign: vec![foreign], ..ledger(0) };
    run.inspection = Some(Arc::new(inspection(read)));
    assert_eq!(reason(&with(o.clone(), run.clone())), Some(Reason::BaselineRequired), "not unasked");
    let asked = Observed { policy: Ok(Policy { adopt: true, ..Policy::default() }), ..o };
    let decision = with(asked, run);
    assert_eq!(decision.step, Step::Apply { below: None });
    let plan = decision.plan.unwrap();
    assert_eq!((plan.baseline.len(), plan.pending.len(), plan.adopted.is_some()), (1, 1, true));
}

#[test]
fn a_held_plan_is_not_tried_again_until_a_person_asks() {
    let (o, mut run) = read(1);
    run.inspection = Some(Arc::new(inspection(Ledger { hold: Some(hold(now())), ..ledger(1) })));
    assert_eq!(with(o.clone(), run.clone()).step, Step::Close { outcome: Reason::ScriptFailed });
    let request = |at: Timestamp| Some(Request { text: at.to_string(), at });
    let older = Observed { request: request(after(-1)), ..o.clone() };
    assert_eq!(with(older, run.clone()).step, Step::Close { outcome: Reason::ScriptFailed });
    let newer = Observed { request: request(after(1)), ..o.clone() };
    let decision = with(newer, run.clone());
    assert_eq!(decision.step, Step::Apply { below: None });
    assert!(decision.say.is_some_and(|say| say.handles_request), "the request lifts it once");

    let other = Hold { plan: crate::plan::PlanHash::from_ledger("another"), ..hold(now()) };
    run.inspection = Some(Arc::new(inspection(Ledger { hold: Some(other), ..ledger(1) })));
    assert_eq!(with(o, run).step, Step::Apply { below: None }, "another plan is not held");
}

#[test]
fn a_request_lifts_a_hold_for_the_run_that_is_begun_for_it_also_when_a_backup_comes_first() {
    let asks = database(
        serde_json::json!({ "method": { "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "b" } } } } }),
    );
    let run = Uuid::from_u128(1);
    let held = Ledger { hold: Some(hold(now())), ..ledger(1) };
    let view = View { id: run, inspection: Some(Arc::new(inspection(held))), ..view() };
    let request = Request { text: "later".into(), at: after(1) };
    let mut o = Observed { database: Ok(asks), request: Some(request), run: Some(view), ..created() };
    let decision = decide(&o, after(2));
    assert!(matches!(decision.step, Step::BackUp { .. }), "{:?}", decision.step);
    o.status = report::next(&o, &decision, decision.say.as_ref().unwrap(), Duration::ZERO, after(2));
    assert_eq!(o.status.last_handled_requested_at.as_deref(), Some("later"));
    o.request_handled = true;

    let hash = plan(&history(), &ledger(1), &Policy::default()).unwrap().hash;
    o.backups = vec![backup("Reconciling", hash.as_str())];
    assert_eq!(reason(&decide(&o, after(3))), Some(Reason::BackupRunning), "the hold does not count any more");

    let own = Ledger { hold: Some(Hold { run_id: run, ..hold(after(4)) }), ..ledger(1) };
    o.run.as_mut().unwrap().inspection = Some(Arc::new(inspection(own)));
    o.request.as_mut().unwrap().at = after(100);
    assert_eq!(
        decide(&o, after(5)).step,
        Step::Close { outcome: Reason::ScriptFailed },
        "but what the run itself came to does"
    );

    let mut later = o.clone();
    let of_another = Ledger { hold: Some(hold(after(4))), ..ledger(1) };
    later.run.as_mut().unwrap().inspection = Some(Arc::new(inspection(of_another)));
    later.request.as_mut().unwrap().at = after(1);
    assert_eq!(
        decide(&later, after(5)).step,
        Step::Close { outcome: Reason::ScriptFailed },
        "and what another came to since it was asked for"
    );

    let mut another = o.clone();
    another.run.as_mut().unwrap().id = Uuid::from_u128(2);
    assert_eq!(
        decide(&another, after(5)).step,
        Step::Close { outcome: Reason::ScriptFailed },
        "and it was for one run"
    );
}

#[test]
fn a_failure_stands_in_the_status_while_the_database_is_looked_at_again() {
    let (o, run) = read(1);
    let failed = MigrationStatus { failure: Some(Box::new(failure())), ..MigrationStatus::default() };
    let told = |run: View| {
        let o = Observed { run: Some(run), status: failed.clone(), ..o.clone() };
        let decision = decide(&o, after(60));
        let next = report::next(&o, &decision, decision.say.as_ref().unwrap(), Duration::ZERO, after(60));
        (reason(&decision), next.failure.is_some())
    };
    let waits = View { activity: Activity::Busy(Doing::Waiting("db:5432".into())), ..view() };
    assert_eq!(told(waits), (Some(Reason::Planning), true));
    assert_eq!(told(run), (Some(Reason::Applying), false));
}

#[test]
fn another_claimants_ledger_is_left_alone() {
    let (o, mut run) = read(1);
    let claimant = Some("cluster/shop/other".to_owned());
    run.inspection = Some(Arc::new(inspection(Ledger { claimant, ..ledger(1) })));
    let decision = with(o, run);
    assert_eq!(decision.step, Step::Close { outcome: Reason::DatabaseInUse });
    assert!(message(&decision).contains("cluster/shop/other"));
}

#[test]
fn a_database_that_is_not_the_one_that_it_was_is_left_alone_until_the_pin_has_moved() {
    let (o, run) = read(1);
    let other = Pin { database_oid: Some(identity().database_oid + 1), ..Pin::default() };
    let decision = with(Observed { pin: other, ..o.clone() }, run.clone());
    assert_eq!(decision.step, Step::Close { outcome: Reason::IdentityChanged });
    assert!(message(&decision).contains("belay.dev/accept="), "{}", message(&decision));
    let further = Pin { version: Some("2".parse().unwrap()), ..Pin::default() };
    let decision = with(Observed { pin: further.clone(), ..o.clone() }, run.clone());
    assert_eq!(decision.step, Step::Close { outcome: Reason::LedgerWentBack });
    // Accepted, but the Database has not taken note of it yet: nothing is applied before.
    let mut database = (*database(serde_json::json!({ "when": "Never" }))).clone();
    let seen = Pin::seen(&identity(), Some(&"001".parse().unwrap()));
    let accept = format!("{}/{}/001", identity().system_identifier.unwrap_or("-".into()), identity().database_oid);
    database.metadata.annotations = Some([("belay.dev/accept".to_owned(), accept)].into());
    let accepted = Observed { pin: further, database: Ok(Arc::new(database.clone())), ..o.clone() };
    assert_eq!(with(accepted, run.clone()).step, Step::Close { outcome: Reason::Planning });
    let moved = Observed { pin: seen, database: Ok(Arc::new(database)), ..o };
    assert_eq!(with(moved, run).step, Step::Apply { below: None });
}

#[test]
fn health_is_checked_after_applying_and_not_again_while_nothing_changed() {
    let (o, mut run) = read(2);
    let o = Observed { has_health_checks: true, ..o };
    assert_eq!(with(o.clone(), run.clone()).step, Step::CheckHealth);
    let passed = Observed { health_passed: true, ..o.clone() };
    assert_eq!(reason(&with(passed.clone(), run.clone())), Some(Reason::Succeeded));
    run.wrote = true;
    assert_eq!(with(passed, run.clone()).step, Step::CheckHealth, "what was applied since is checked");
    run.health = Some(Verdict::Passed);
    assert_eq!(reason(&with(o, run)), Some(Reason::Succeeded));
}

#[test]
fn an_unhealthy_database_is_told_and_checked_again_with_a_backoff() {
    let (o, mut run) = read(2);
    run.health = Some(Verdict::Failed { check: "orders".into(), saw: "the query answered false".into() });
    let decision = with(Observed { has_health_checks: true, attempts: 2, ..o }, run);
    assert_eq!(reason(&decision), Some(Reason::Unhealthy));
    let settle = decision.settle.expect("it is settled");
    assert!(settle.failed);
    assert_eq!(settle.until.duration_since(now()).as_secs(), 4);
    assert!(decision.say.is_some_and(|say| say.message.contains("orders") && say.message.contains("answered false")));
}

#[test]
fn what_is_known_to_be_unhealthy_is_checked_again_without_a_word() {
    let (o, run) = read(2);
    let (mut o, written) = (Observed { has_health_checks: true, ..o }, View { wrote: true, ..run.clone() });
    o.status.observed_generation = Some(1);
    o.status.source_digest = key().source_digest;
    conditions::set_summary(&mut o.status.conditions, (Reason::Unhealthy, "m"), Duration::ZERO, Some(1), now());
    let busy = View { activity: Activity::Busy(Doing::CheckingHealth("orders".into())), ..run.clone() };
    assert_eq!(with(o.clone(), run.clone()).step, Step::CheckHealth);
    for quiet in [&run, &busy] {
        assert_eq!(reason(&with(o.clone(), quiet.clone())), None, "it stays Stalled until the check passes");
    }
    assert_eq!(reason(&with(o.clone(), written)), Some(Reason::CheckingHealth), "scripts were applied since");
    for other in [Key { generation: 2, ..key() }, Key { source_digest: Some("sha256:2".into()), ..key() }] {
        let (o, run) = (Observed { key: other.clone(), ..o.clone() }, View { key: other, ..run.clone() });
        assert_eq!(reason(&with(o, run)), Some(Reason::CheckingHealth), "it is of another spec or source");
    }
}

#[test]
fn a_deletion_cancels_the_run_before_the_object_goes() {
    let (o, mut run) = read(1);
    let o = Observed { deleting: true, has_finalizer: true, ..o };
    run.activity = Activity::Busy(Doing::Applying(Default::default()));
    assert_eq!(with(o.clone(), run.clone()).step, Step::Cancel);
    run.activity = Activity::Ended;
    assert_eq!(with(o.clone(), run).step, Step::Forget);
    assert_eq!(decide(&o, now()).step, Step::Forget);
    assert_eq!(decide(&Observed { has_finalizer: false, ..o }, now()).step, Step::Rest);
}

#[test]
fn a_run_that_a_former_leader_is_still_at_is_waited_for_before_the_object_goes_and_told_where_it_is_suspended() {
    let (o, mut run) = read(1);
    let told = RunStatus { id: run.id.to_string(), ..RunStatus::default() };
    let o = Observed {
        deleting: true,
        has_finalizer: true,
        status: MigrationStatus { run: Some(Box::new(told)), ..MigrationStatus::default() },
        ..o
    };
    assert_eq!(decide(&o, now()).step, Step::Open { lock: true });
    let holder = format!("belay/{}/shop/shop (user belay, pid 7)", run.id.simple());
    run.inspection = Some(Arc::new(Inspection { locked: false, holder: Some(holder), ..inspection(ledger(1)) }));
    let waits = with(o.clone(), run.clone());
    assert_eq!((reason(&waits), &waits.step), (Some(Reason::LockHeld), &Step::Rest));
    assert!(waits.requeue.is_some());
    let suspended = with(Observed { deleting: false, suspend: true, ..o.clone() }, run.clone());
    assert_eq!(reason(&suspended), Some(Reason::LockHeld));

    let another = Some("psql (user anna, pid 8)".to_owned());
    let mut theirs = run.clone();
    theirs.inspection = Some(Arc::new(Inspection { locked: false, holder: another, ..inspection(ledger(1)) }));
    assert_eq!(with(o.clone(), theirs).step, Step::Cancel, "whoever else has the lock is at no run of this object");
    run.inspection = Some(Arc::new(inspection(ledger(1))));
    assert_eq!(with(o.clone(), run.clone()).step, Step::Cancel);
    run.trouble = Some(Trouble { reason: Reason::ConnectionFailed, message: "x".into() });
    assert_eq!(with(o, run).step, Step::Cancel, "a server that is gone keeps no object");
}

#[test]
fn a_run_that_writes_goes_on_to_its_end_whatever_becomes_of_its_inputs() {
    let (o, mut run) = read(1);
    run.activity = Activity::Busy(Doing::Applying(Default::default()));
    run.wrote = true;
    let gone = Trouble { reason: Reason::DatabaseNotFound, message: "x".into() };
    let o = Observed { database: Err(gone), key: Key { generation: 2, ..key() }, ..o };
    let decision = with(o.clone(), run.clone());
    assert_eq!((reason(&decision), decision.step), (Some(Reason::Applying), Step::Rest));

    run.activity = Activity::Idle;
    run.about = Some(Arc::new(About { history: history(), policy: Policy::default() }));
    run.inspection = Some(Arc::new(inspection(ledger(2))));
    assert_eq!(with(o, run).step, Step::Close { outcome: Reason::Succeeded });
}

#[test]
fn new_inputs_end_a_run_that_has_written_nothing() {
    let (o, run) = read(1);
    let o = Observed { key: Key { source_digest: Some("sha256:2".into()), ..key() }, ..o };
    assert_eq!(with(o, run).step, Step::Close { outcome: Reason::Cancelled });
}

#[test]
fn a_long_wait_for_a_turn_is_told_with_the_server_and_a_short_one_is_not() {
    let waits = |seconds| {
        let since = now() - jiff::SignedDuration::from_secs(seconds);
        with(created(), View { since, activity: Activity::Busy(Doing::Waiting("db:5432".into())), ..view() })
    };
    let short = waits(1);
    assert_eq!((reason(&short), short.step), (None, Step::Rest));
    assert!(short.requeue.is_some());
    let long = waits(16);
    assert_eq!(reason(&long), Some(Reason::Planning));
    assert!(message(&long).contains("db:5432"), "{}", message(&long));
}

#[test]
fn suspend_cancels_a_run_that_applies() {
    let (o, mut run) = read(1);
    run.activity = Activity::Busy(Doing::Applying(Default::default()));
    run.wrote = true;
    assert_eq!(with(Observed { suspend: true, ..o }, run).step, Step::Cancel);
}

#[test]
fn a_connection_fault_is_tried_again_with_a_backoff_of_a_minute_at_most() {
    let trouble = Trouble { reason: Reason::ConnectionFailed, message: "db:5432 cannot be reached.".into() };
    for (attempts, seconds) in [(0, 1), (1, 2), (5, 32), (6, 60), (60, 60)] {
        let run = View { trouble: Some(trouble.clone()), ..view() };
        let decision = with(Observed { attempts, ..created() }, run);
        assert_eq!(decision.step, Step::Close { outcome: Reason::ConnectionFailed });
        assert_eq!(decision.settle.map(|settle| settle.until.duration_since(now()).as_secs()), Some(seconds));
    }
}

fn identity() -> Identity {
    Identity {
        system_identifier: Some("7".into()),
        database_oid: 5,
        database: "shop".into(),
        server_version: "15.18".into(),
        server_version_num: 150018,
    }
}
