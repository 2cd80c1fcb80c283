use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::api::Reason;

fn v(text: &str) -> Version {
    text.parse().unwrap()
}

fn history(files: &[(&str, &str)]) -> History {
    History::from_files(files.iter().map(|(name, sql)| ((*name).to_owned(), sql.as_bytes().to_vec()))).unwrap()
}

fn three() -> History {
    history(&[
        ("001_a.sql", "create table a ();"),
        ("002_b.sql", "create table b ();"),
        ("003_c.sql", "create table c ();"),
    ])
}

/// A ledger that says these versions of the history are applied.
fn applied(history: &History, versions: &[&str]) -> Ledger {
    let rows = versions.iter().map(|version| {
        let script = history.get(&v(version)).unwrap();
        Applied {
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
        }
    });
    Ledger { exists: true, rows: rows.collect(), ..Ledger::default() }
}

fn pending(plan: &Plan) -> Vec<&str> {
    plan.pending.iter().map(|script| script.version.as_written()).collect()
}

fn refusal(history: &History, ledger: &Ledger, policy: &Policy) -> (Reason, String) {
    let refusal = plan(history, ledger, policy).expect_err("a refusal");
    (refusal.reason(), refusal.to_string())
}

#[test]
fn scripts_are_applied_in_the_order_of_their_versions_as_numbers() {
    let history = history(&[("10_j.sql", "select 1"), ("9_i.sql", "select 1"), ("0001_a.sql", "select 1")]);
    let plan = plan(&history, &Ledger::default(), &Policy::default()).unwrap();
    assert_eq!(pending(&plan), ["0001", "9", "10"]);
    assert_eq!((plan.from, plan.to), (None, v("10")));
}

#[test]
fn what_is_applied_is_not_applied_again() {
    let history = three();
    let plan_at = |versions: &[&str]| plan(&history, &applied(&history, versions), &Policy::default()).unwrap();
    assert_eq!(pending(&plan_at(&["001", "002"])), ["003"]);
    assert!(plan_at(&["001", "002", "003"]).is_done());
}

#[test]
fn a_target_bounds_the_plan() {
    let policy = Policy { target: Some(v("2")), ..Policy::default() };
    let plan = plan(&three(), &Ledger::default(), &policy).unwrap();
    assert_eq!(pending(&plan), ["001", "002"]);
    assert_eq!(plan.to.as_written(), "002", "shown as the source writes it");
}

#[test]
fn an_unknown_target_is_refused() {
    let policy = Policy { target: Some(v("004")), ..Policy::default() };
    let (reason, message) = refusal(&three(), &Ledger::default(), &policy);
    assert_eq!(reason, Reason::UnknownTarget);
    assert!(message.contains("004") && message.contains("003"), "{message}");
}

#[test]
fn a_target_below_what_is_applied_is_refused() {
    let history = three();
    let policy = Policy { target: Some(v("001")), ..Policy::default() };
    assert_eq!(refusal(&history, &applied(&history, &["001", "002"]), &policy).0, Reason::UnknownTarget);
}

#[test]
fn an_empty_source_is_refused() {
    assert_eq!(refusal(&history(&[]), &Ledger::default(), &Policy::default()).0, Reason::InvalidSource);
}

#[test]
fn an_edited_script_is_refused() {
    let ledger = applied(&three(), &["001", "002"]);
    let edited = history(&[("001_a.sql", "create table a ();"), ("002_b.sql", "create table bb ();")]);
    let (reason, message) = refusal(&edited, &ledger, &Policy::default());
    assert_eq!(reason, Reason::ChecksumMismatch);
    assert!(message.starts_with("002_b.sql was edited"), "{message}");
}

#[test]
fn a_removed_script_is_refused_unless_it_was_retired() {
    let mut ledger = applied(&three(), &["001", "002"]);
    let shorter = history(&[("001_a.sql", "create table a ();"), ("003_c.sql", "create table c ();")]);
    assert_eq!(refusal(&shorter, &ledger, &Policy::default()).0, Reason::MissingScript);
    ledger.rows[1].retired = true;
    assert_eq!(pending(&plan(&shorter, &ledger, &Policy::default()).unwrap()), ["003"]);
}

const PAY: &str = "-- belay: no-transaction\nSET lock_timeout = 1;\ninsert into b values (1);\nvacuum b;";

/// A ledger of which 2_b.sql was begun as this text: these of its statements, from 0, with whether they are done.
fn begun(text: &str, statements: &[(usize, bool)]) -> Ledger {
    let history = history(&[("002_b.sql", text)]);
    let script = history.latest().unwrap();
    let statements = statements.iter().map(|(number, done)| BegunStatement {
        number: *number,
        checksum: script.kept_checksum(*number).unwrap().to_string(),
        done: *done,
    });
    let begun = Begun { version: v("2"), file: "002_b.sql".into(), statements: statements.collect() };
    Ledger { begun: vec![begun], ..applied(&three(), &["001"]) }
}

fn with_second(name: &str, text: &str) -> History {
    history(&[("001_a.sql", "create table a ();"), (name, text)])
}

#[test]
fn a_begun_script_that_was_removed_or_renumbered_is_refused() {
    let begun = begun(PAY, &[(1, true), (2, false)]);
    let said = |history: &History, words: &[&str]| {
        let (reason, message) = refusal(history, &begun, &Policy::default());
        assert_eq!(reason, Reason::MissingScript, "{message}");
        assert!(words.iter().all(|words| message.contains(words)), "{words:?}: {message}");
        message
    };
    let gone = history(&[("001_a.sql", "create table a ();")]);
    let of = "(002_b.sql, 1 statement done; statement 3 runs, or";
    said(&gone, &["2 is begun, but", of, "--forget-statements 2 --yes"]);
    let moved = said(&with_second("003_b.sql", PAY), &["2 is begun", of, "now calls it 003_b.sql", "its number back"]);
    assert!(!moved.contains("forget"), "it would be run twice: {moved}");

    let again = with_second("003_b.sql", PAY);
    let other = Ledger { begun: begun.begun.clone(), ..applied(&again, &["001", "003"]) };
    let (_, message) = refusal(&again, &other, &Policy::default());
    assert!(message.contains("2 is begun, but is no longer"), "the other one is applied: {message}");
}

#[test]
fn another_script_at_a_begun_ones_number_is_not_called_an_edit_of_it() {
    let begun = begun(PAY, &[(1, true)]);
    let at_its_number = |name: &str, now: &str| {
        let first = ("001_a.sql", "create table a ();");
        let text = PAY.replace("(1)", "(2)");
        let said = refusal(&history(&[first, (name, &text), (now, PAY)]), &begun, &Policy::default());
        assert_eq!(said.0, Reason::MissingScript, "{}", said.1);
        said.1
    };
    for name in ["002_theirs.sql", "002_b.sql"] {
        let said = at_its_number(name, "003_b.sql");
        assert!(said.contains("now calls it 003_b.sql. Give it its number back") && !said.contains("forget"), "{said}");
    }
    let said = at_its_number("002_theirs.sql", "003_other.sql");
    assert!(said.contains("is 002_theirs.sql, which begins otherwise. Put 002_b.sql back as it was; or"), "{said}");
}

#[test]
fn a_lower_version_than_one_that_is_begun_is_refused_unless_allowed() {
    let begun = begun(PAY, &[(1, true)]);
    let history = history(&[("000_new.sql", "select 1;"), ("001_a.sql", "create table a ();"), ("002_b.sql", PAY)]);
    let begun = Ledger { rows: Vec::new(), ..begun };
    let (reason, message) = refusal(&history, &begun, &Policy::default());
    assert_eq!(reason, Reason::OutOfOrder);
    assert!(message.starts_with("000_new.sql is to be applied after 002_b.sql"), "{message}");
    let allowed = Policy { out_of_order: true, ..Policy::default() };
    assert_eq!(pending(&plan(&history, &begun, &allowed).unwrap()), ["000", "001", "002"]);
}

#[test]
fn a_target_or_a_baseline_does_not_go_past_what_is_begun() {
    let history = with_second("002_b.sql", PAY);
    let below = Policy { target: Some(v("001")), ..Policy::default() };
    let (reason, message) = refusal(&history, &begun(PAY, &[(1, true)]), &below);
    assert_eq!(reason, Reason::UnknownTarget);
    assert!(message.contains("target 001 is below 2, which is begun (002_b.sql, 1 statement done)"), "{message}");

    let empty = Ledger { rows: Vec::new(), ..begun(PAY, &[(1, true)]) };
    let baseline = |version: &str| Policy { baseline: Some(v(version)), ..Policy::default() };
    let (reason, message) = refusal(&history, &empty, &baseline("002"));
    assert_eq!(reason, Reason::UnknownTarget);
    assert!(message.contains("would record 2 as present, which is begun"), "{message}");
    assert_eq!(pending(&plan(&history, &empty, &baseline("001")).unwrap()), ["002"]);
}

#[test]
fn a_begun_script_goes_on_when_only_what_is_not_run_yet_was_edited() {
    let done = begun(PAY, &[(1, true)]);
    let mended = PAY.replace("vacuum b", "vacuum a").replace("lock_timeout = 1", "lock_timeout = 2");
    for text in [PAY, &mended, &format!("-- a comment\n{PAY}; analyze b"), &PAY.replace(";\nvacuum b", "")] {
        let plan = plan(&with_second("2_other.sql", text), &done, &Policy::default());
        assert_eq!(pending(&plan.unwrap()), ["2"], "{text}");
    }
}

#[test]
fn a_begun_script_that_was_edited_in_what_is_done_is_refused_with_the_line_of_it() {
    let edited = |text: &str, statements: &[(usize, bool)]| {
        let (reason, message) = refusal(&with_second("002_b.sql", text), &begun(PAY, statements), &Policy::default());
        assert_eq!(reason, Reason::InDoubt, "{message}");
        message
    };
    for (text, place) in [
        (PAY.replace("(1)", "(2)"), "002_b.sql, line 3: the script was edited after its statement 2 was run"),
        // What was put before it moves it.
        (PAY.replace("insert", "vacuum;\ninsert"), "002_b.sql, line 3: the script was edited after its statement 2"),
        // Run in one transaction, all of it would be done again.
        (
            PAY.replace("-- belay: no-transaction\n", "").replace("vacuum", "analyze"),
            "002_b.sql: the script was edited",
        ),
        ("-- belay: no-transaction\nselect 1;".to_owned(), "002_b.sql: the script was edited after its statement 2"),
    ] {
        let message = edited(&text, &[(1, true)]);
        assert!(message.contains(place) && message.contains("--forget-statements 002 --yes"), "{place}: {message}");
    }
    // It would be half in one schema, and half in another.
    for elsewhere in ["SET search_path = c", "SET ROLE c"] {
        let message = edited(&PAY.replace("SET lock_timeout = 1", elsewhere), &[(1, true)]);
        assert!(message.contains("after its statement 2"), "{message}");
    }
    let message = edited(&PAY.replace("vacuum b", "vacuum a"), &[(1, true), (2, false)]);
    let words = ["line 4: the script was edited at its statement 3, which was begun", "--statement 002:3=undone --yes"];
    assert!(words.iter().all(|words| message.contains(words)), "{message}");
    let between = PAY.replace("vacuum b", "analyze b;\nvacuum b");
    assert!(edited(&between, &[(1, true), (2, true)]).contains("line 4"));
}

#[test]
fn a_renamed_script_is_refused() {
    let ledger = applied(&three(), &["001"]);
    let renamed = history(&[("001_other.sql", "create table a ();")]);
    let (reason, message) = refusal(&renamed, &ledger, &Policy::default());
    assert_eq!(reason, Reason::MissingScript);
    assert!(message.contains("001_a.sql") && message.contains("001_other.sql"), "{message}");
}

#[test]
fn a_lower_version_after_a_higher_one_is_refused_unless_allowed() {
    let history = three();
    let ledger = applied(&history, &["001", "003"]);
    assert_eq!(refusal(&history, &ledger, &Policy::default()).0, Reason::OutOfOrder);
    let allowed = Policy { out_of_order: true, ..Policy::default() };
    assert_eq!(pending(&plan(&history, &ledger, &allowed).unwrap()), ["002"]);
}

#[test]
fn an_empty_ledger_in_a_database_with_tables_needs_a_baseline() {
    let ledger = Ledger { first_foreign_table: Some("public.users".into()), ..Ledger::default() };
    let (reason, message) = refusal(&three(), &ledger, &Policy::default());
    assert_eq!(reason, Reason::BaselineRequired);
    assert!(message.contains("public.users"), "{message}");

    let with = |baseline: &str| Policy { baseline: Some(v(baseline)), ..Policy::default() };
    let zero = plan(&three(), &ledger, &with("0")).unwrap();
    assert_eq!((zero.baseline.len(), pending(&zero)), (0, vec!["001", "002", "003"]));
    let two = plan(&three(), &ledger, &with("2")).unwrap();
    assert_eq!((two.baseline.len(), pending(&two)), (2, vec!["003"]));
    assert_eq!(refusal(&three(), &ledger, &with("7")).0, Reason::UnknownTarget);
}

#[test]
fn a_baseline_means_nothing_to_a_ledger_with_rows() {
    let history = three();
    let policy = Policy { baseline: Some(v("3")), ..Policy::default() };
    let plan = plan(&history, &applied(&history, &["001"]), &policy).unwrap();
    assert_eq!((plan.baseline.len(), pending(&plan)), (0, vec!["002", "003"]));
}

#[test]
fn a_script_that_cannot_run_stops_the_plan_before_its_first_script() {
    let history = history(&[("001_a.sql", "create table a ();"), ("002_b.sql", "select 1; vacuum a;")]);
    let (reason, message) = refusal(&history, &Ledger::default(), &Policy::default());
    assert_eq!(reason, Reason::UnsupportedScript);
    assert!(message.starts_with("002_b.sql, "), "{message}");
    let only_first = Policy { target: Some(v("1")), ..Policy::default() };
    assert_eq!(pending(&plan(&history, &Ledger::default(), &only_first).unwrap()), ["001"]);
}

#[test]
fn a_plans_hash_names_its_history_and_policy_and_not_how_far_it_came() {
    let history = three();
    let hash = |history: &History, done: &[&str], policy: &Policy| {
        plan(history, &applied(history, done), policy).unwrap().hash
    };
    let start = hash(&history, &[], &Policy::default());
    assert_eq!(start, hash(&history, &["001", "002"], &Policy::default()));
    assert_ne!(start, hash(&history, &[], &Policy { role: Some("owner".into()), ..Policy::default() }));
    let edited = self::history(&[
        ("001_a.sql", "create table a ();"),
        ("002_b.sql", "create table b ();"),
        ("003_c.sql", "create table d ();"),
    ]);
    assert_ne!(start, hash(&edited, &[], &Policy::default()));
}

#[test]
fn a_script_that_is_not_run_in_a_transaction_cannot_share_one() {
    let history = history(&[("001_a.sql", "create table a ()"), ("002_b.sql", "create index concurrently i on a(b)")]);
    let together = Policy { transaction: TransactionMode::AllPending, ..Policy::default() };
    let (reason, message) = refusal(&history, &Ledger::default(), &together);
    assert_eq!(reason, Reason::UnsupportedScript);
    assert!(message.contains("002_b.sql") && message.contains("PerScript"), "{message}");
    assert_eq!(pending(&plan(&history, &Ledger::default(), &Policy::default()).unwrap()), ["001", "002"]);
    // It is applied already: the others may share one.
    let rest = applied(&history, &["002"]);
    let policy = Policy { out_of_order: true, ..together };
    assert_eq!(pending(&plan(&history, &rest, &policy).unwrap()), ["001"]);
}
