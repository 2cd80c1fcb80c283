use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::api::{Layout, Reason};
use crate::plan::{Ledger, Plan, Policy, plan};
use crate::source::layout;

fn history(layout: Layout, names: &[&str]) -> History {
    let files = names.iter().map(|name| ((*name).to_owned(), format!("-- {name}\nselect 1;\n").into_bytes()));
    layout::read(layout, files).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn five(layout: Layout) -> History {
    match layout {
        Layout::Flyway => history(layout, &["V1__a.sql", "V1.1__b.sql", "V2__c.sql", "V2.10__d.sql", "V3__e.sql"]),
        Layout::Prisma => history(layout, &["1_a/migration.sql", "2_b/migration.sql", "3_c/migration.sql"]),
        layout => history(layout, &["1_a.sql", "2_b.sql", "3_c.sql", "4_d.sql", "5_e.sql"]),
    }
}

fn row(version: &str) -> ForeignRow {
    ForeignRow { version: Some(version.to_owned()), ok: true, ..ForeignRow::default() }
}

fn kind(version: &str, kind: &str) -> ForeignRow {
    ForeignRow { kind: Some(kind.to_owned()), ..row(version) }
}

fn failed(version: &str) -> ForeignRow {
    ForeignRow { ok: false, ..row(version) }
}

fn ledger(tool: Tool, rows: Vec<ForeignRow>) -> ForeignLedger {
    ForeignLedger { tool, schema: "public".into(), table: "ledger".into(), rows: Some(rows) }
}

fn policy() -> Policy {
    Policy { adopt: true, ..Policy::default() }
}

/// The plan for a database with a table, and these ledgers of other tools.
fn planned(history: &History, found: Vec<ForeignLedger>, policy: &Policy) -> Result<Plan, Refusal> {
    let table = Some("public.users".to_owned());
    plan(history, &Ledger { first_foreign_table: table, foreign: found, ..Ledger::default() }, policy)
}

/// `recorded | pending`.
fn outcome(history: &History, tool: Tool, rows: Vec<ForeignRow>) -> String {
    let policy = Policy { out_of_order: true, ..policy() };
    let plan = planned(history, vec![ledger(tool, rows)], &policy).unwrap_or_else(|refusal| panic!("{refusal}"));
    let list = |scripts: &[crate::plan::PlannedScript]| {
        scripts.iter().map(|script| script.version.as_written().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(plan.adopted.as_ref().map(|ledger| ledger.tool), Some(tool));
    format!("{} | {}", list(&plan.baseline), list(&plan.pending))
}

fn refused(history: &History, tool: Tool, rows: Vec<ForeignRow>) -> (Reason, String) {
    let refusal = planned(history, vec![ledger(tool, rows)], &policy()).expect_err("a refusal");
    (refusal.reason(), refusal.to_string())
}

#[test]
fn what_a_tool_says_is_applied_is_recorded_and_the_rest_is_pending() {
    let plain = five(Layout::Belay);
    for tool in [Tool::Dbmate, Tool::Sqlx, Tool::Refinery, Tool::Diesel, Tool::Goose] {
        assert_eq!(outcome(&plain, tool, vec![row("1"), row("002"), row("3")]), "1 2 3 | 4 5", "{tool:?}");
    }
    assert_eq!(outcome(&plain, Tool::GolangMigrate, vec![row("3")]), "1 2 3 | 4 5", "it keeps the highest alone");
    let named = |name: &str| ForeignRow { version: None, name: Some(name.to_owned()), ..row("") };
    let prisma = vec![named("1_a"), named("2_renamed")];
    assert_eq!(outcome(&five(Layout::Prisma), Tool::Prisma, prisma), "1 2 | 3", "by its name, else by its digits");
}

#[test]
fn gooses_undone_scripts_and_its_own_first_row_are_not_applied() {
    let rows = vec![kind("0", "true"), kind("1", "true"), kind("2", "true"), kind("2", "false")];
    assert_eq!(outcome(&five(Layout::Belay), Tool::Goose, rows.clone()), "1 | 2 3 4 5");
    let again = [rows, vec![kind("2", "true")]].concat();
    assert_eq!(outcome(&five(Layout::Belay), Tool::Goose, again), "1 2 | 3 4 5");
}

#[test]
fn what_was_undone_or_deleted_last_needs_no_script() {
    let goose = vec![kind("1", "true"), kind("9", "true"), kind("9", "false")];
    assert_eq!(outcome(&five(Layout::Belay), Tool::Goose, goose.clone()), "1 | 2 3 4 5");
    let again = [goose, vec![kind("9", "true")]].concat();
    assert_eq!(refused(&five(Layout::Belay), Tool::Goose, again).0, Reason::MissingScript, "its last word counts");

    let flyway = history(Layout::Flyway, &["V2__b.sql", "V3__c.sql"]);
    let deleted = || vec![kind("1.0", "SQL"), kind("2", "SQL"), kind("1", "DELETE")];
    assert_eq!(outcome(&flyway, Tool::Flyway, deleted()), "2 | 3");
    let undone = [deleted(), vec![kind("9", "SQL"), kind("9", "UNDO_SQL")]].concat();
    assert_eq!(outcome(&flyway, Tool::Flyway, undone), "2 | 3");
    let baseline = vec![kind("3", "SQL_BASELINE"), kind("3", "UNDO_SQL")];
    assert_eq!(outcome(&flyway, Tool::Flyway, baseline), "2 | 3", "what else a baseline counted in stays");
}

#[test]
fn prismas_migrations_with_the_same_digits_are_told_apart_by_their_names() {
    let text = "-- 2_b\nselect 1;\n";
    let files = |second: &str| {
        let file = |name: String, text: &str| (name, text.to_owned().into_bytes());
        let files = [file("1_a/migration.sql".into(), "select 1;\n"), file(second.into(), text)];
        layout::read(Layout::Prisma, files).unwrap()
    };
    let named = |name: &str, text: &str| ForeignRow {
        version: None,
        name: Some(name.to_owned()),
        checksum: Some(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()),
        ..row("")
    };
    let applied = || vec![named("1_a", "select 1;\n"), named("2_b", text)];
    let also = |row: ForeignRow| [applied(), vec![row]].concat();
    let rolled_back = |text| ForeignRow { kind: Some("rolled back".into()), ok: false, ..named("2_c", text) };
    for other in ["select 2;\n", text] {
        assert_eq!(outcome(&files("2_b/migration.sql"), Tool::Prisma, also(rolled_back(other))), "1 2 | ", "{other}");
    }
    assert_eq!(
        outcome(&files("2_renamed/migration.sql"), Tool::Prisma, applied()),
        "1 2 | ",
        "the same under a new name"
    );
    let (reason, message) = refused(&files("2_b/migration.sql"), Tool::Prisma, also(named("2_c", "select 2;\n")));
    assert_eq!(reason, Reason::MissingScript);
    assert!(message.contains("version 2_c is applied"), "{message}");
    assert_eq!(
        refused(&files("2_c/migration.sql"), Tool::Prisma, also(named("2_c", "select 2;\n"))).0,
        Reason::ChecksumMismatch
    );
}

#[test]
fn flyways_kinds_of_rows_and_its_versions_are_read_as_flyway_does() {
    let flyway = five(Layout::Flyway);
    let schema = ForeignRow { version: None, ..kind("", "SCHEMA") };
    let repeatable = ForeignRow { version: None, ..kind("", "SQL") };
    let rows = vec![schema, kind("1.0", "SQL"), kind("1.1", "SQL"), repeatable, kind("2", "SQL")];
    assert_eq!(outcome(&flyway, Tool::Flyway, rows.clone()), "1000000 1001000 2000000 | 2010000 3000000");
    for undo in ["UNDO_SQL", "UNDO_JDBC", "UNDO_SCRIPT", "UNDO_CUSTOM", "UNDO_SPRING_JDBC", "DELETE"] {
        let undone = [rows.clone(), vec![kind("2", undo)]].concat();
        assert_eq!(outcome(&flyway, Tool::Flyway, undone), "1000000 1001000 | 2000000 2010000 3000000", "{undo}");
    }
    for baseline in
        ["BASELINE", "SQL_BASELINE", "JDBC_BASELINE", "SCRIPT_BASELINE", "SQL_STATE_SCRIPT", "JDBC_STATE_SCRIPT"]
    {
        let said = outcome(&flyway, Tool::Flyway, vec![kind("2", baseline)]);
        assert_eq!(said, "1000000 1001000 2000000 | 2010000 3000000", "{baseline}");
    }
    assert_eq!(outcome(&five(Layout::Belay), Tool::Flyway, vec![kind("1", "SQL")]), "1 | 2 3 4 5", "also when renamed");
}

#[test]
fn flyways_baseline_needs_no_script() {
    let behind = history(Layout::Flyway, &["V2__b.sql", "V3__c.sql"]);
    let baseline = || kind("1", "BASELINE");
    assert_eq!(outcome(&behind, Tool::Flyway, vec![baseline(), kind("2", "SQL")]), "2 | 3");
    assert_eq!(outcome(&behind, Tool::Flyway, vec![baseline()]), " | 2 3");
    let between = history(Layout::Flyway, &["V1__a.sql", "V1.1__b.sql", "V2__c.sql"]);
    assert_eq!(outcome(&between, Tool::Flyway, vec![kind("1.5", "BASELINE")]), "1000000 1001000 | 2000000");

    let missing = refused(&behind, Tool::Flyway, vec![kind("4", "SQL")]);
    assert_eq!(missing.0, Reason::MissingScript, "what it ran needs one");
    let renamed = history(Layout::Belay, &["1001000_b.sql", "2000000_c.sql"]);
    let (reason, message) = refused(&renamed, Tool::Flyway, vec![kind("1.5", "BASELINE")]);
    assert_eq!(reason, Reason::MissingScript, "{message}");
}

#[test]
fn a_mark_of_failure_refuses_and_names_table_version_and_remedy() {
    for (tool, rows) in [
        (Tool::GolangMigrate, vec![failed("2")]),
        (Tool::Sqlx, vec![row("1"), failed("2")]),
        (Tool::Flyway, vec![kind("1", "SQL"), failed("2")]),
    ] {
        let (reason, message) = refused(&five(Layout::Belay), tool, rows);
        assert_eq!(reason, Reason::AdoptionRefused);
        assert!(
            message.starts_with(&format!("the ledger public.ledger ({}) says that version 2 failed", tool.name())),
            "{message}"
        );
        assert!(message.contains("set baseline"), "{message}");
    }
    let unfinished = ForeignRow { version: None, name: Some("2_b".into()), ..failed("") };
    assert!(refused(&five(Layout::Prisma), Tool::Prisma, vec![unfinished.clone()]).1.contains("2_b failed"));
    let resolved = ForeignRow { kind: Some("rolled back".into()), ..unfinished };
    let first = ForeignRow { version: None, name: Some("1_a".into()), ..row("") };
    assert_eq!(
        outcome(&five(Layout::Prisma), Tool::Prisma, vec![first, resolved]),
        "1 | 2 3",
        "what was resolved as rolled back is applied again, as Prisma would"
    );
}

#[test]
fn what_the_source_does_not_have_refuses() {
    let (reason, message) = refused(&five(Layout::Belay), Tool::Dbmate, vec![row("1"), row("20240101000000")]);
    assert_eq!(reason, Reason::MissingScript);
    assert!(message.contains("version 20240101000000 is applied, but the source does not have it"), "{message}");
    assert_eq!(refused(&five(Layout::Belay), Tool::GolangMigrate, vec![row("7")]).0, Reason::MissingScript);
    assert_eq!(refused(&five(Layout::Belay), Tool::Dbmate, vec![row("x")]).0, Reason::MissingScript);
}

#[test]
fn a_gap_is_out_of_order_and_named() {
    let (reason, message) = refused(&five(Layout::Belay), Tool::Diesel, vec![row("1"), row("3")]);
    assert_eq!(reason, Reason::OutOfOrder);
    assert!(message.starts_with("2_b.sql is to be applied after 3_c.sql"), "{message}");
    assert_eq!(outcome(&five(Layout::Belay), Tool::Diesel, vec![row("1"), row("3")]), "1 3 | 2 4 5");
}

#[test]
fn a_target_below_what_is_taken_over_is_refused() {
    let policy = Policy { target: Some("1".parse().unwrap()), ..policy() };
    let refusal = planned(&five(Layout::Belay), vec![ledger(Tool::Goose, vec![row("1"), row("2")])], &policy);
    assert_eq!(refusal.expect_err("a refusal").reason(), Reason::UnknownTarget);
}

#[test]
fn nothing_is_taken_over_unasked_and_the_way_is_told() {
    let found = || vec![ledger(Tool::Goose, vec![row("1")])];
    let refusal = planned(&five(Layout::Belay), found(), &Policy::default()).expect_err("a refusal");
    assert_eq!(refusal.reason(), Reason::BaselineRequired);
    let message = refusal.to_string();
    for words in ["public.ledger (goose)", "--adopt auto", "spec.source.layout: goose, --layout goose"] {
        assert!(message.contains(words), "{words}: {message}");
    }

    let person = Policy { baseline: Some("2".parse().unwrap()), ..policy() };
    let plan = planned(&five(Layout::Belay), found(), &person).unwrap();
    assert_eq!((plan.baseline.len(), plan.adopted), (2, None), "a baseline is a person's word, and goes first");
    let empty = planned(&five(Layout::Belay), vec![ledger(Tool::Goose, vec![])], &policy());
    assert_eq!(empty.expect_err("a refusal").reason(), Reason::BaselineRequired);
}

#[test]
fn two_ledgers_are_not_chosen_between_and_an_unreadable_one_is_not_passed_over() {
    let one = || ledger(Tool::Goose, vec![row("1")]);
    let refused = |found| planned(&five(Layout::Belay), found, &policy()).expect_err("a refusal");
    let two = refused(vec![one(), ledger(Tool::Dbmate, vec![row("1")])]);
    assert_eq!(two.reason(), Reason::AdoptionRefused);
    assert!(two.to_string().contains("(goose)") && two.to_string().contains("(dbmate or Rails)"), "{two}");
    let hidden = refused(vec![ForeignLedger { rows: None, ..one() }]);
    assert_eq!(hidden.reason(), Reason::PermissionDenied);
    assert!(planned(&five(Layout::Belay), vec![one(), ledger(Tool::Dbmate, vec![])], &policy()).is_ok());
}

#[test]
fn where_the_layout_names_a_tool_only_its_ledger_counts() {
    let goose = five(Layout::Belay).in_layout(Layout::Goose);
    let other = || ledger(Tool::Dbmate, vec![row("1"), row("20240101000000")]);
    let own = ledger(Tool::Goose, vec![row("1"), row("2")]);
    let plan = planned(&goose, vec![other(), own], &policy()).expect("the other tool's is passed over");
    assert_eq!((plan.baseline.len(), plan.adopted.map(|ledger| ledger.tool)), (2, Some(Tool::Goose)));

    let alone = ledger(Tool::GolangMigrate, vec![row("2")]);
    let refusal = planned(&goose, vec![alone.clone()], &policy()).expect_err("a refusal");
    assert_eq!(refusal.reason(), Reason::AdoptionRefused);
    let message = refusal.to_string();
    for words in ["public.ledger (golang-migrate)", "the layout goose", "--layout golang-migrate", "set baseline"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    for layout in [Layout::GolangMigrate, Layout::Belay, Layout::Auto] {
        let history = five(Layout::Belay).in_layout(layout);
        assert!(planned(&history, vec![alone.clone()], &policy()).is_ok(), "{layout:?}");
    }

    let unasked = planned(&goose, vec![other(), ledger(Tool::Goose, vec![])], &Policy::default());
    let message = unasked.expect_err("a refusal").to_string();
    assert!(message.contains("public.ledger (goose)"), "the one that would be taken over is told: {message}");
}

#[test]
fn a_ledger_outside_of_the_search_path_is_not_passed_over() {
    let app = |tool| ForeignLedger { schema: "app".into(), rows: None, ..ledger(tool, vec![]) };
    let goose = five(Layout::Belay).in_layout(Layout::Goose);
    let with = |foreign, elsewhere, policy: &Policy| {
        let found = Ledger { foreign, foreign_elsewhere: vec![elsewhere], ..Ledger::default() };
        plan(&goose, &found, policy)
    };
    let refusal = with(vec![], app(Tool::Goose), &policy()).expect_err("a refusal");
    assert_eq!(refusal.reason(), Reason::AdoptionRefused);
    let message = refusal.to_string();
    for words in ["app.ledger (goose)", "spec.searchPath", "--search-path app", "--adopt none"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let here = vec![ledger(Tool::Goose, vec![row("1")])];
    let baseline = Policy { baseline: Some("1".parse().unwrap()), ..policy() };
    for (foreign, tool, policy, why) in [
        (vec![], Tool::Goose, Policy::default(), "nobody asked for a takeover"),
        (vec![], Tool::Goose, baseline, "a baseline goes first"),
        (vec![], Tool::Sqlx, policy(), "it is another tool's"),
        (here, Tool::Goose, policy(), "there is one on the path"),
    ] {
        assert!(with(foreign, app(tool), &policy).is_ok(), "{why}");
    }
}

#[test]
fn another_checksum_refuses_and_names_the_script() {
    let wrong = |checksum: &str| ForeignRow { name: Some("a".into()), checksum: Some(checksum.into()), ..row("1") };
    for tool in [Tool::Sqlx, Tool::Refinery, Tool::Flyway] {
        let (reason, message) = refused(&five(Layout::Belay), tool, vec![wrong("12")]);
        assert_eq!(reason, Reason::ChecksumMismatch);
        assert!(message.starts_with("1_a.sql is not what was applied: public.ledger"), "{message}");
    }
    let prisma = ForeignRow { version: None, name: Some("1_a".into()), ..wrong("12") };
    assert_eq!(refused(&five(Layout::Prisma), Tool::Prisma, vec![prisma]).0, Reason::ChecksumMismatch);
}

proptest! {
    #![proptest_config(crate::testing::same_cases(256))]

    #[test]
    fn no_ledger_is_too_odd(
        rows in prop::collection::vec((any::<Option<String>>(), any::<Option<String>>(), any::<bool>()), 0..6),
        versions in prop::collection::vec("[0-9]{0,3}([._][0-9]{0,3}){0,2}", 0..6),
    ) {
        let odd = rows.into_iter().map(|(version, name, ok)| ForeignRow {
            version, kind: name.clone(), checksum: name.clone(), name, ok,
        });
        let rows: Vec<_> = odd.chain(versions.iter().map(|version| row(version))).collect();
        for tool in [Tool::Flyway, Tool::GolangMigrate, Tool::Goose, Tool::Sqlx, Tool::Refinery, Tool::Prisma] {
            let _ = planned(&five(Layout::Flyway).in_layout(Layout::Belay), vec![ledger(tool, rows.clone())], &policy());
        }
    }
}
