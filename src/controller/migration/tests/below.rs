//! Which backup stands below a run, and what is done before and behind it.

use std::sync::Arc;

use super::*;
use crate::api::BackupWhen;

#[test]
fn without_a_backup_asked_for_the_plan_is_applied_at_once() {
    let (o, run) = read(0);
    let decision = with(o, run);
    assert_eq!(decision.step, Step::Apply { below: None });
    assert_eq!(decision.plan.as_ref().map(|plan| plan.pending.len()), Some(2), "the plan stands in the status first");
}

#[test]
fn no_script_is_applied_before_a_verified_backup_where_the_policy_asks_for_one() {
    let (o, run) = read(1);
    let asks = database(
        serde_json::json!({ "method": { "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "b" } } } } }),
    );
    let decision = with(Observed { database: Ok(asks), ..o }, run);
    assert!(matches!(decision.step, Step::BackUp { .. }), "{:?}", decision.step);
    assert_eq!(reason(&decision), Some(Reason::BackupRunning));
}

#[test]
fn a_policy_without_a_method_stalls() {
    let (o, run) = read(1);
    let decision = with(Observed { database: Ok(database(serde_json::json!({}))), ..o }, run);
    assert_eq!(reason(&decision), Some(Reason::BackupNotConfigured));
    assert_eq!(decision.step, Step::Close { outcome: Reason::BackupNotConfigured });
}

#[test]
fn a_migration_overrides_the_policy_only_towards_more_safety() {
    let (o, run) = read(1);
    let more = Observed { backup_override: Some(BackupWhen::Always), ..o.clone() };
    assert_eq!(reason(&with(more, run.clone())), Some(Reason::BackupNotConfigured));
    let less =
        Observed { backup_override: Some(BackupWhen::Never), database: Ok(database(serde_json::json!({}))), ..o };
    assert_eq!(reason(&with(less, run)), Some(Reason::BackupNotConfigured));
}

/// A Migration of this one script, whose Database is backed up before destructive ones, with a run that has read an empty ledger.
#[test]
fn before_destructive_scripts_only_a_backup_is_asked_for_where_one_may_lose_data() {
    for (sql, asked) in [
        ("create table a ();", false),
        ("alter table a add b int; delete from a where b = 1;", false),
        ("create table a (); drop table b;", true),
        ("update a set b = 1;", true),
        ("do $$ begin end $$;", true),
    ] {
        let (o, run) = of_one_script(sql);
        let decision = with(o, run);
        match asked {
            true => assert!(matches!(decision.step, Step::BackUp { .. }), "{sql}: {:?}", decision.step),
            false => {
                assert_eq!(decision.step, Step::Apply { below: None }, "{sql}");
                assert!(
                    message(&decision).contains("no statement of this plan is destructive"),
                    "{}",
                    message(&decision)
                );
            }
        }
    }
}

#[test]
fn a_script_that_is_recorded_and_not_run_asks_for_no_backup() {
    let (o, run) = of_one_script("drop table a;");
    let baseline = Policy { baseline: Some("1".parse().unwrap()), ..Policy::default() };
    assert_eq!(with(Observed { policy: Ok(baseline), ..o }, run).step, Step::Apply { below: None });
}

#[test]
fn of_two_policies_the_safer_holds() {
    use BackupWhen::{Always, BeforeDestructive, Never};
    let of = |when: &str| Ok(database(serde_json::json!({ "when": when })));
    for (database, migration, holds) in [
        ("Never", Some(BeforeDestructive), BeforeDestructive),
        ("BeforeDestructive", None, BeforeDestructive),
        ("BeforeDestructive", Some(Never), BeforeDestructive),
        ("BeforeDestructive", Some(Always), Always),
        ("Always", Some(BeforeDestructive), Always),
        ("Never", None, Never),
    ] {
        let o = Observed { database: of(database), backup_override: migration, ..created() };
        assert_eq!(o.backup_when(), holds, "{database} and {migration:?}");
    }
    let o = Observed { database: of("Never"), ..created() };
    assert_eq!(message::not_asked(&o), "The policy asks for no backup.");
}

#[test]
fn a_backup_below_a_run_is_called_verified_only_if_it_is() {
    let told = |verified: serde_json::Value| {
        let mut below = (*backup("Ready", "plan")).clone();
        let status = below.status.as_mut().unwrap();
        status.verified = serde_json::from_value(verified).unwrap();
        let o = Observed { backups: vec![Arc::new(below)], ..created() };
        message::backed_up(&o, "shop-1")
    };
    assert!(told("Read".into()).contains("verified"));
    assert!(!told("None".into()).contains("verified"));
}

#[test]
fn a_backup_that_runs_is_waited_for_and_one_that_failed_stops_the_run() {
    let asks = database(
        serde_json::json!({ "method": { "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "b" } } } } }),
    );
    let hash = plan(&history(), &ledger(1), &Policy::default()).unwrap().hash;
    let (o, run) = read(1);
    let o = Observed { database: Ok(asks), ..o };
    let running = Observed { backups: vec![backup("Reconciling", hash.as_str())], ..o.clone() };
    let decision = with(running, run.clone());
    assert_eq!((&decision.step, reason(&decision)), (&Step::Rest, Some(Reason::BackupRunning)));

    let failed = Observed { backups: vec![backup("Stalled", hash.as_str())], ..o };
    let decision = with(failed.clone(), run.clone());
    assert_eq!(decision.step, Step::Close { outcome: Reason::BackupFailed });
    assert!(message(&decision).contains("why. No script was run"), "{}", message(&decision));

    let asked = Observed { request: Some(Request { text: "t".into(), at: after(1) }), ..failed };
    assert!(matches!(with(asked, run).step, Step::BackUp { .. }), "a person asked for another try");
}

#[test]
fn behind_a_backup_the_ledger_is_read_again_before_the_first_script() {
    let store = serde_json::json!({ "persistentVolumeClaim": { "claimName": "b" } });
    let asks = database(serde_json::json!({ "method": { "pgDump": { "store": store } } }));
    let mut taken = (*backup("Ready", "plan")).clone();
    let status = serde_json::json!({
        "store": store, "verified": "Read", "ledgerVersion": "001", "systemIdentifier": "7", "databaseOid": 5,
        "snapshotAt": now().to_string(), "conditions": taken.status.unwrap().conditions,
    });
    taken.status = serde_json::from_value(status).unwrap();
    let (o, mut run) = read(1);
    let o = Observed { database: Ok(asks), backups: vec![Arc::new(taken)], ..o };
    let below = Some("shop-1".to_owned());
    assert_eq!(with(o.clone(), run.clone()).step, Step::Inspect { below: below.clone() });
    run.inspection = Some(Arc::new(Inspection { below: below.clone(), ..inspection(ledger(1)) }));
    assert_eq!(with(o, run).step, Step::Apply { below });
}
