mod all;

use super::*;
use crate::script::{Mode, Rollback, Script, UnsupportedKind};

fn files(files: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn history(layout: Layout, given: &[(&str, &str)]) -> History {
    read(layout, files(given)).unwrap_or_else(|faults| panic!("{layout:?}: {faults:?}"))
}

fn faults(layout: Layout, given: &[(&str, &str)]) -> Vec<String> {
    let faults = read(layout, files(given)).expect_err("faults");
    faults.iter().map(ToString::to_string).collect()
}

/// The one fault of one file.
fn fault(layout: Layout, name: &str, text: &str) -> String {
    let mut told = faults(layout, &[(name, text)]);
    assert_eq!(told.len(), 1, "{told:?}");
    told.remove(0)
}

/// `version description | file` of every script.
fn list(history: &History) -> Vec<String> {
    history.scripts().map(|s| format!("{} {} | {}", s.version, s.description, s.file_name)).collect()
}

fn latest(history: &History) -> &Script {
    history.latest().expect("a script")
}

const UP: &str = "create table a (id int);\n";
const DOWN: &str = "drop table a;\n";

#[test]
fn golang_migrate_is_read_as_it_is() {
    let read = history(
        Layout::GolangMigrate,
        &[
            ("000001_add_users.up.sql", UP),
            ("000001_add_users.down.sql", DOWN),
            ("2_b.c.up.sql", UP),
            ("README.md", ""),
        ],
    );
    assert_eq!(list(&read), ["000001 add users | 000001_add_users.up.sql", "2 b.c | 2_b.c.up.sql"]);
    assert_eq!(read.get(&"1".parse().unwrap()).unwrap().rollback, Rollback::Sql(DOWN.to_owned()));
    assert_eq!(read.ignored(), ["README.md"]);
    let told = fault(Layout::GolangMigrate, "1_a.sql", UP);
    assert!(told.starts_with("1_a.sql: in the layout golang-migrate a script is called"), "{told}");
    let told = fault(Layout::GolangMigrate, "1_a.down.sql", DOWN);
    assert!(told.contains("the rollback of no script that is here"), "{told}");
    let told = faults(Layout::GolangMigrate, &[("1_a.up.sql", UP), ("01_b.up.sql", UP)]);
    assert!(told[0].contains("1_a.up.sql") && told[0].contains("01_b.up.sql"), "{told:?}");
}

#[test]
fn a_name_that_golang_migrate_reads_otherwise_is_refused() {
    for name in ["2_b.up.pgsql", "2_b.up.sql.bak", "2_b.down.", "2_b.up.old.txt"] {
        assert!(
            fault(Layout::GolangMigrate, name, UP).contains("golang-migrate runs it, whatever its ending"),
            "{name}"
        );
    }
    for name in ["18446744073709551616_b.up.sql", "18446744073709551616_b.down.sql"] {
        assert!(fault(Layout::GolangMigrate, name, UP).contains("passes over versions above"), "{name}");
    }
    let others = [("old/2_b.up.pgsql", UP), ("b.up.pgsql", UP), ("2_b.pgsql", UP), ("2b.up.pgsql", UP)];
    let read = history(Layout::GolangMigrate, &[&[("18446744073709551615_a.up.sql", UP)][..], &others].concat());
    assert_eq!((read.len(), read.ignored().len()), (1, 4));
    let two = faults(Layout::Auto, &[("1_a.up.sql", UP), ("2_b.up.sql.bak", UP)]).remove(0);
    assert!(two.contains("golang-migrate and sqlx fit"), "such a file does not make it sqlx's: {two}");
}

#[test]
fn of_golang_migrate_a_statement_that_may_commit_runs_outside_a_transaction_if_it_is_alone() {
    for (text, mode) in [
        ("-- Why.\ncall backfill();\n", Mode::NoTransaction),
        ("do $$ begin insert into a values (1); commit; end $$", Mode::NoTransaction),
        ("DO LANGUAGE plpgsql $$BEGIN CALL backfill(); END$$;", Mode::NoTransaction),
        ("do $$ begin perform recall(); end $$;", Mode::Transaction),
        ("call backfill(); select 1;", Mode::Transaction),
        ("insert into a values ('call')", Mode::Transaction),
        ("", Mode::Transaction),
    ] {
        assert!(latest(&history(Layout::GolangMigrate, &[("1_a.up.sql", text)])).mode == mode, "{text}");
    }
}

const GOOSE: &str = "-- a comment\n-- +goose Up\ncreate table a (id int);\n\n-- +goose StatementBegin\n\
    create function f() returns int language plpgsql as $$ begin\n  return 1;\nend $$;\n-- +goose StatementEnd\n\
    -- +goose Down\ndrop function f();\n";

#[test]
fn goose_is_read_as_it_is_and_places_are_those_of_the_file() {
    let read = history(Layout::Goose, &[("00001_users.sql", GOOSE)]);
    let script = latest(&read);
    assert_eq!(list(&read), ["00001 users | 00001_users.sql"]);
    assert_eq!((script.unsupported.as_ref(), script.statements.len()), (None, 2));
    assert_eq!(script.statements[1].start.line, 6);
    assert_eq!(script.rollback, Rollback::Sql("drop function f();\n".to_owned()));
    assert!(!script.text.contains("drop function"));
    let edited = history(Layout::Goose, &[("00001_users.sql", &GOOSE.replace("drop function f();", "select 1;"))]);
    assert_eq!(latest(&edited).checksum, script.checksum, "the rollback is outside the checksum");
    assert_ne!(edited.digest(), read.digest());
}

#[test]
fn what_goose_would_send_otherwise_is_refused_with_its_line() {
    let unsupported = |text: &str| latest(&history(Layout::Goose, &[("1_a.sql", text)])).unsupported.clone();
    let body = "-- +goose Up\ncreate function f() returns int language plpgsql as $$ begin\n  return 1;\nend $$;\n";
    let told = unsupported(body).expect("goose cuts the body in two");
    assert_eq!((told.kind, told.position.line), (UnsupportedKind::Layout, 3));
    assert!(told.what.contains("in the middle of one of PostgreSQL's"), "{told}");

    let told = unsupported("-- +goose Up\n-- +goose ENVSUB ON\nselect '${HOME}';\n").expect("a variable");
    assert_eq!((told.kind, told.position.line), (UnsupportedKind::Layout, 3));
    assert_eq!(unsupported("-- +goose Up\nselect '${HOME}';\n"), None, "only where goose would put it in");

    let outside =
        history(Layout::Goose, &[("1_a.sql", "-- +goose NO TRANSACTION\n-- +goose Up\nvacuum;\nselect 1;\n")]);
    assert_eq!((latest(&outside).mode, latest(&outside).unsupported.as_ref()), (Mode::NoTransaction, None));
    let read =
        history(Layout::Goose, &[("1_a.sql", "-- +goose NO TRANSACTION\n-- +goose Up\n\nselect 1; select 2;\n")]);
    let told = latest(&read).unsupported.clone().expect("goose sends both in one message");
    assert_eq!((told.kind, told.position.line), (UnsupportedKind::Layout, 4));
}

#[test]
fn a_line_that_goose_would_leave_out_is_refused() {
    let refused = |up: &str| {
        let script = latest(&history(Layout::Goose, &[("1_a.sql", &format!("-- +goose Up\n{up}"))])).clone();
        script.unsupported.filter(|told| told.what.contains("leave")).map(|told| told.position.line)
    };
    let empty = "-- +goose StatementBegin\n\n-- nothing\n-- +goose StatementEnd\n";
    for (behind, line) in [
        ("select 1;\n", Some(6)),
        ("\n-- Why.\nselect 1;\n", Some(8)),
        ("-- +goose NO TRANSACTION\nselect 1;\n", Some(7)),
        ("\n-- Why.\n", None),
        ("-- +goose StatementBegin\nselect 1;\n-- +goose StatementEnd\nselect 2;\n", None),
        ("-- +goose Down\nselect 1;\n", None),
    ] {
        assert_eq!(refused(&format!("{empty}{behind}")), line, "{behind}");
    }
    let body = |line: &str| {
        let begin = "-- +goose StatementBegin\ncreate function f() returns int language sql as $$\n";
        format!("{begin}{line}\nselect 1;\n$$;\n-- +goose StatementEnd\n")
    };
    assert_eq!(refused(&body("-- +goose ENVSUB OFF")), Some(4));
    assert_eq!(refused("select '\n-- +goose NO TRANSACTION\n';\n"), Some(3));
    assert_eq!(refused(&body("-- nothing of goose's")), None);
}

#[test]
fn goose_sends_lines_that_end_in_a_line_feed() {
    let read = history(Layout::Goose, &[("1_a.sql", &GOOSE.replace('\n', "\r\n"))]);
    let (script, expected) = (latest(&read), history(Layout::Goose, &[("1_a.sql", GOOSE)]));
    assert_eq!(script, latest(&expected));
    let flyway = history(Layout::Flyway, &[("V1__a.sql", "select '\r\n';")]);
    assert_eq!(latest(&flyway).text, "select '\r\n';", "others send what is there");
}

#[test]
fn what_goose_itself_does_not_read_is_told_with_its_line() {
    for (text, said) in [
        ("create table a ();\n", "line 1: -- +goose Up is missing before the first statement"),
        ("", "line 1: -- +goose Up is missing"),
        ("-- +goose Up\n-- +goose Up\n", "line 2: -- +goose Up is there twice"),
        ("-- +goose Down\n", "line 1: -- +goose Down comes once, behind"),
        ("-- +goose Up\n-- +goose StatementBegin\nselect 1;\n", "line 2: -- +goose StatementEnd is missing behind it"),
        ("-- +goose Up\n-- +goose StatementEnd\n", "line 2: -- +goose StatementBegin is missing"),
        ("-- +goose Up\n-- +goose StatementBegin\n-- +goose Down\n", "line 3: -- +goose StatementEnd is missing"),
        ("-- +goose Up\n -- +goose Down\n", "line 2: goose takes no blanks"),
        ("-- +goose Up\n-- +goose Upp\n", "line 2: goose knows Up, Down"),
    ] {
        let told = fault(Layout::Goose, "1_a.sql", text);
        assert!(told.starts_with(&format!("1_a.sql, {said}")), "{text:?}: {told}");
    }
    let told = fault(Layout::Goose, "2_b.go", "package x");
    assert!(told.contains("Belay runs no Go"), "{told}");
    assert!(fault(Layout::Goose, "0_b.sql", GOOSE).contains("begin with 1"));
}

#[test]
fn dbmate_is_read_as_it_is() {
    let text = "-- note\n-- migrate:up\ncreate table a (id int);\n\n-- migrate:down\ndrop table a;\n";
    let read = history(Layout::Dbmate, &[("20240101000000_users.sql", text)]);
    let script = latest(&read);
    assert_eq!(list(&read), ["20240101000000 users | 20240101000000_users.sql"]);
    assert_eq!((script.statements[0].start.line, script.unsupported.as_ref()), (3, None));
    assert_eq!(script.rollback, Rollback::Sql(DOWN.to_owned()));
    let outside = history(Layout::Dbmate, &[("1_a.sql", "-- migrate:up transaction:false\nvacuum;\n")]);
    assert!(latest(&outside).mode == Mode::NoTransaction);
    for (text, said) in [
        ("select 1;", "line 1: -- migrate:up is missing before the first statement"),
        ("-- migrate:down\n", "line 1: -- migrate:up comes before -- migrate:down"),
        ("-- migrate:up\n-- migrate:up\n", "line 2: -- migrate:up is there twice"),
        ("-- migrate:up\n-- migrate:down\n\n-- migrate:up\n", "line 4: Belay reads one up and one down"),
        ("-- migrate:up\n-- migrate:down\nselect 1;\n-- migrate:down\n", "line 4: Belay reads one"),
        ("-- migrate:up schema:x\n", "line 1: the only option"),
        ("-- x\n", "line 1: -- migrate:up is missing"),
    ] {
        let told = fault(Layout::Dbmate, "1_a.sql", text);
        assert!(told.starts_with(&format!("1_a.sql, {said}")), "{text:?}: {told}");
    }
}

#[test]
fn diesel_is_read_as_it_is_with_slashes_or_without() {
    let in_folders = history(
        Layout::Diesel,
        &[
            ("00000000000000_diesel_initial_setup/up.sql", UP),
            ("2024-01-02-030405_users/up.sql", UP),
            ("2024-01-02-030405_users/down.sql", DOWN),
            ("2024-01-02-030405_users/metadata.toml", "# why\nrun_in_transaction = false\n"),
            (".diesel_lock", ""),
        ],
    );
    assert_eq!(
        list(&in_folders),
        [
            "00000000000000 diesel initial setup | 00000000000000_diesel_initial_setup/up.sql",
            "20240102030405 users | 2024-01-02-030405_users/up.sql"
        ]
    );
    assert!(latest(&in_folders).mode == Mode::NoTransaction);
    let as_keys = history(
        Layout::Diesel,
        &[
            ("00000000000000_diesel_initial_setup__up.sql", UP),
            ("2024-01-02-030405_users__up.sql", UP),
            ("2024-01-02-030405_users__down.sql", DOWN),
            ("2024-01-02-030405_users__metadata.toml", "# why\nrun_in_transaction = false\n"),
        ],
    );
    assert_eq!(list(&as_keys), list(&in_folders));
    assert_eq!(as_keys.digest(), in_folders.digest(), "the same content, whichever way it comes");
    let told = faults(Layout::Diesel, &[("1_a/up.sql", UP), ("1_a/metadata.toml", "\nrun = 1\n")]);
    assert!(told[0].starts_with("1_a/metadata.toml, line 2: "), "{told:?}");
    let told = faults(Layout::Diesel, &[("1_a/up.sql", UP), ("1_b/metadata.toml", "")]);
    assert!(told[0].starts_with("1_b/metadata.toml: ") && told[0].contains("the settings of no script"), "{told:?}");
    assert!(fault(Layout::Diesel, "up.sql", UP).contains("<folder>__up.sql"));
    assert!(fault(Layout::Diesel, "a_b/up.sql", UP).contains("does not begin with a version"));
    assert_eq!(faults(Layout::Diesel, &[("1_a/up.sql", UP), ("1_a__up.sql", UP)]).len(), 1, "the same file twice");
}

#[test]
fn diesel_runs_a_script_with_settings_in_a_transaction_if_they_say_so() {
    let mode =
        |settings: &str| latest(&history(Layout::Diesel, &[("1_a/up.sql", UP), ("1_a/metadata.toml", settings)])).mode;
    for settings in ["", "# why\n", "run_in_transaction = false"] {
        assert!(mode(settings) == Mode::NoTransaction, "{settings:?}");
    }
    assert!(mode("run_in_transaction = true\n") == Mode::Transaction);
    assert!(latest(&history(Layout::Diesel, &[("1_a/up.sql", UP)])).mode == Mode::Transaction);
}

#[test]
fn prisma_is_read_as_it_is_with_slashes_or_without() {
    for name in ["20240101000000_init/migration.sql", "20240101000000_init__migration.sql"] {
        let read = history(Layout::Prisma, &[(name, UP), ("migration_lock.toml", "provider = \"postgresql\"")]);
        assert_eq!(list(&read), ["20240101000000 init | 20240101000000_init/migration.sql"]);
    }
    assert!(fault(Layout::Prisma, "1_a.sql", UP).contains("<folder>__migration.sql"));
}

#[test]
fn sqlx_is_read_as_it_is() {
    let read = history(
        Layout::Sqlx,
        &[("1_a.sql", UP), ("20240101_b.up.sql", "-- no-transaction\nvacuum;"), ("20240101_b.down.sql", DOWN)],
    );
    assert_eq!(list(&read), ["1 a | 1_a.sql", "20240101 b | 20240101_b.up.sql"]);
    assert!(latest(&read).mode == Mode::NoTransaction);
    assert_eq!(latest(&read).rollback, Rollback::Sql(DOWN.to_owned()));
    let late = history(Layout::Sqlx, &[("1_a.sql", "\n-- no-transaction\nselect 1;")]);
    assert!(latest(&late).mode == Mode::Transaction, "sqlx looks at the first characters only");
}

#[test]
fn refinery_is_read_as_it_is() {
    let read = history(Layout::Refinery, &[("V1__initial.sql", UP), ("U20__late.sql", UP)]);
    assert_eq!(list(&read), ["1 initial | V1__initial.sql", "20 late | U20__late.sql"]);
    let mode = |line: &str| latest(&history(Layout::Refinery, &[("V1__a.sql", &format!("\n{line}\n{UP}"))])).mode;
    for line in ["-- refinery:noTransaction", "---refinery:noTransaction\r"] {
        assert!(mode(line) == Mode::NoTransaction, "{line:?}");
    }
    for line in ["--  refinery:noTransaction", "-- refinery:noTransaction ", " -- refinery:noTransaction"] {
        assert!(mode(line) == Mode::Transaction, "{line:?}: refinery reads it as a comment");
    }
    assert!(fault(Layout::Refinery, "V2__x.rs", "fn").contains("no Rust"));
    assert!(fault(Layout::Refinery, "V2_x.sql", UP).contains("two underscores"));
    for name in ["V2__drop-a.sql", "V2__drop a.sql", "V2__a.b.sql"] {
        assert!(fault(Layout::Refinery, name, UP).contains("passes over a name"), "{name}");
    }
    assert_eq!(list(&history(Layout::Refinery, &[("V2__größe_2.sql", UP)])), ["2 größe 2 | V2__größe_2.sql"]);
    for name in ["sub/V2__x.sql", "sub/deeper/V2__x.sql"] {
        assert!(fault(Layout::Refinery, name, UP).contains("a folder below"), "{name}");
    }
    assert!(fault(Layout::Refinery, "sub/V2__x.rs", "fn").contains("no Rust"));
}

#[test]
fn flyway_is_read_as_it_is() {
    let read = history(
        Layout::Flyway,
        &[
            ("V1__create_users.sql", UP),
            ("U1__create_users.sql", DOWN),
            ("V10__index.sql", UP),
            ("V10__index.sql.conf", "# why\nexecuteInTransaction=false\n"),
        ],
    );
    assert_eq!(list(&read), ["1 create users | V1__create_users.sql", "10 index | V10__index.sql"]);
    assert!(latest(&read).mode == Mode::NoTransaction);
    assert_eq!(read.get(&"1".parse().unwrap()).unwrap().rollback, Rollback::Sql(DOWN.to_owned()));
    let told = faults(Layout::Flyway, &[("V1__x.sql", UP), ("V1__y.sql.conf", "executeInTransaction=false\n")]);
    assert!(told[0].starts_with("V1__y.sql.conf: ") && told[0].contains("the settings of no script"), "{told:?}");
    for (name, said) in [
        ("R__views.sql", "repeatable"),
        ("B5__all.sql", "a baseline of Flyway's"),
        ("afterMigrate.sql", "a callback of Flyway's"),
        ("beforeMigrate__x.sql", "a callback of Flyway's"),
        ("V1_x.sql", "two underscores"),
        ("V1.a__x.sql", "of digits"),
        ("V1..2__x.sql", "of digits"),
        ("1__x.sql", "does not begin with V"),
        ("V2__x.java", "no Java"),
        ("sub/V1__x.sql", "a folder below"),
        ("sub/deeper/V1__x.sql", "a folder below"),
    ] {
        let told = fault(Layout::Flyway, name, UP);
        assert!(told.contains(said), "{name}: {told}");
    }
    let unsupported =
        latest(&history(Layout::Flyway, &[("V1__x.sql", "select 1,\n  '${schema}';")])).unsupported.clone();
    let told = unsupported.expect("a placeholder");
    assert_eq!((told.position.line, told.position.column), (2, 4));
    assert!(told.what.starts_with("${schema} is a placeholder"), "{told}");
}

#[test]
fn flyways_versions_with_parts_are_numbers_in_the_same_order() {
    let read = history(
        Layout::Flyway,
        &[
            ("V1__a.sql", UP),
            ("V1.2__b.sql", UP),
            ("V1_10__c.sql", UP),
            ("V1.10.1__d.sql", UP),
            ("V2__e.sql", UP),
            ("U1.2__b.sql", DOWN),
        ],
    );
    let versions: Vec<_> = read.scripts().map(|script| script.version.to_string()).collect();
    assert_eq!(versions, ["1000000", "1002000", "1010000", "1010001", "2000000"]);
    assert!(fault(Layout::Flyway, "V1.2.3.4__x.sql", UP).contains("at most 3 parts"));
    assert!(fault(Layout::Flyway, "V1.2024__x.sql", UP).contains("at most 3 digits"));
    let same = faults(Layout::Flyway, &[("V1.0__a.sql", UP), ("V1__b.sql", UP)]);
    assert!(same[0].contains("both version"), "Flyway takes 1.0 and 1 for the same: {same:?}");
}
