//! Runs that stopped halfway: what is held, and that nothing is said of the database that was not read back.

use super::super::view::Place;
use super::*;
use crate::plan::{Begun, BegunStatement};

const APART: &str = "-- belay: no-transaction\ninsert into a values (1);\nvacuum a;";

/// 002 is run statement by statement.
fn apart() -> Arc<History> {
    let files = [("001_a.sql", "create table a ();"), ("002_b.sql", APART)];
    Arc::new(History::from_files(files.map(|(name, sql)| (name.to_owned(), sql.as_bytes().to_vec()))).unwrap())
}

/// A ledger at 001, in which the first statement of such a script is done.
fn half(file: &str, version: &str) -> Ledger {
    let checksum = apart().latest().unwrap().kept_checksum(0).unwrap().to_string();
    let done = BegunStatement { number: 0, checksum, done: true };
    let begun = Begun { version: version.parse().unwrap(), file: file.to_owned(), statements: vec![done] };
    Ledger { begun: vec![begun], ..ledger(1) }
}

fn reading(read: Ledger) -> View {
    View { inspection: Some(Arc::new(inspection(read))), ..view() }
}

/// A run that has begun to apply scripts.
fn wrote() -> View {
    let about = Some(Arc::new(About { history: history(), policy: Policy::default() }));
    View { wrote: true, about, ..view() }
}

fn says(decision: &Decision, words: &[&str]) {
    for words in words {
        assert!(message(decision).contains(words), "{words:?} is not in {:?}", message(decision));
    }
}

/// The Migration, which was at 001 before the run, with a backup of that below it.
fn at_first() -> Observed {
    let mut backup = PostgresBackup::clone(&backup("Ready", "plan"));
    let status = backup.status.as_mut().unwrap();
    (status.ledger_version, status.snapshot_at) = (Some("001".into()), Some(now().to_string()));
    (status.system_identifier, status.database_oid) = (Some("7".into()), Some(5));
    let run = RunStatus { from: Some("001".into()), ..RunStatus::default() };
    let status =
        MigrationStatus { version: Some("001".into()), run: Some(Box::new(run)), ..MigrationStatus::default() };
    Observed { backups: vec![Arc::new(backup)], status, ..created() }
}

#[test]
fn what_is_in_doubt_waits_for_a_person() {
    let failure = Failure { reason: "InDoubt".into(), message: "002_b.sql: nothing tells.".into(), ..failure() };
    let held = Ledger { hold: Some(Hold { failure, ..hold(now()) }), ..ledger(1) };
    assert_eq!(with(created(), reading(held)).step, Step::Close { outcome: Reason::InDoubt });
}

#[test]
fn of_a_run_whose_server_is_gone_nothing_is_claimed_that_was_not_read_back() {
    let gone = Trouble { reason: Reason::ConnectionFailed, message: "db:5432 cannot be reached.".into() };
    for applied in [Ok(()), Err(Failure { reason: "ConnectionLost".into(), ..failure() })] {
        let run = View { applied: Some(applied), trouble: Some(gone.clone()), ..wrote() };
        let o = Observed { run: Some(run), ..at_first() };
        let decision = decide(&o, now());
        says(&decision, &["could not be read back; before it the database was at 001"]);
        let text = message(&decision);
        assert!(!text.contains("Nothing was run") && !text.contains("is at") && !text.contains("shop-1"), "{text}");
        let status = report::next(&o, &decision, decision.say.as_ref().unwrap(), Duration::ZERO, now());
        assert_eq!((&status.history[0].to, &status.version), (&None, &None));
        let run = View { trouble: Some(gone.clone()), ..view() };
        says(
            &decide(&Observed { status, run: Some(run), ..created() }, now()),
            &["Nothing was run since the run that ended"],
        );
    }
}

#[test]
fn a_run_that_wrote_is_judged_by_the_policy_that_it_was_planned_under() {
    for target in ["001", "003"] {
        let policy = Ok(Policy { target: Some(target.parse().unwrap()), ..Policy::default() });
        let read = Some(Arc::new(inspection(ledger(2))));
        let run = View { applied: Some(Ok(())), inspection: read, ..wrote() };
        let decision = with(Observed { policy, ..created() }, run);
        assert_eq!(reason(&decision), Some(Reason::Succeeded), "{}", message(&decision));
    }
}

#[test]
fn a_begun_script_that_is_gone_from_the_source_is_named_and_nothing_is_applied() {
    let decision = with(created(), reading(half("009_i.sql", "9")));
    assert_eq!(decision.step, Step::Close { outcome: Reason::MissingScript });
    says(&decision, &["009_i.sql, 1 statement done", "Nothing was run: the database is at 001 (begun: 009_i.sql"]);
}

#[test]
fn a_script_that_is_half_applied_is_told_wherever_the_database_is() {
    let begun = "at 001 (begun: 002_b.sql, 1 statement done)";
    let o = Observed { source: Ok(apart()), ..at_first() };
    says(&with(Observed { suspend: true, ..o.clone() }, reading(half("002_b.sql", "2"))), &[begun]);

    let run = View { applied: Some(Err(failure())), ..reading(half("002_b.sql", "2")) };
    let decision = with(o.clone(), View { wrote: true, ..run });
    says(&decision, &[begun, "; backup shop-1 is of 1970-01-12"]);
    assert!(!message(&decision).contains("which backup"), "{}", message(&decision));

    let policy = Ok(Policy { target: Some("001".parse().unwrap()), ..Policy::default() });
    let decision = with(Observed { policy, ..o }, reading(half("002_b.sql", "2")));
    assert_eq!(decision.step, Step::Close { outcome: Reason::UnknownTarget }, "it is not well");
    says(&decision, &["Target 001 is below 2, which is begun"]);
}

#[test]
fn a_backup_of_another_database_does_not_hold_this_one() {
    let failed = |o: Observed| with(o, View { applied: Some(Err(failure())), ..reading(ledger(1)) });
    says(&failed(at_first()), &["The database is at 001, which backup shop-1 holds"]);
    let mut o = at_first();
    Arc::make_mut(&mut o.backups[0]).status.as_mut().unwrap().database_oid = Some(6);
    says(&failed(o), &["The database is at 001. "]);
}

#[test]
fn what_a_cancel_leaves_is_told_as_it_is() {
    let cancelled = |history: Arc<History>, doing: Doing| {
        let about = Some(Arc::new(About { history, policy: Policy::default() }));
        let run = View { activity: Activity::Busy(doing), wrote: true, about, ..reading(ledger(1)) };
        let decision = with(Observed { deleting: true, has_finalizer: true, ..created() }, run);
        assert_eq!(decision.step, Step::Cancel);
        message(&decision).to_owned()
    };
    let second = || Doing::Applying(Place { script: "002_b.sql".into(), ..Place::default() });
    assert!(cancelled(history(), second()).ends_with("The script in progress is rolled back."));
    assert!(cancelled(apart(), second()).ends_with("those that are done stay, and are not run again."));
    assert!(cancelled(history(), Doing::CheckingHealth(String::new())).ends_with("is being deleted."));
}
