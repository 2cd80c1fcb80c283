//! What holds of several layouts, or of all.

use proptest::prelude::*;

use super::*;

#[test]
fn a_layout_is_recognised_by_the_files() {
    let found = |given: &[(&str, &str)]| auto::recognise(&files(given));
    for (name, text, layout) in [
        ("001_a.sql", UP, Layout::Belay),
        ("1_a.sql", GOOSE, Layout::Goose),
        ("1_a.sql", "-- migrate:up\nselect 1;", Layout::Dbmate),
        ("1_a/up.sql", UP, Layout::Diesel),
        ("2024-01-02-030405_a__up.sql", UP, Layout::Diesel),
        ("1_a/migration.sql", UP, Layout::Prisma),
        ("V1.2__a.sql", UP, Layout::Flyway),
    ] {
        assert_eq!(found(&[(name, text), ("README.md", "")]), Ok(layout), "{name}");
    }
    assert_eq!(found(&[("V1__a.sql", UP), ("V1__a.sql.conf", "")]), Ok(Layout::Flyway));
    let deep = [("1_a/up.sql", UP), ("1_a/old/up.sql", UP)];
    assert_eq!(found(&deep), Ok(Layout::Diesel), "as deep as it looks, which is not as deep as Flyway does");
    let read = history(Layout::Auto, &deep);
    assert_eq!((list(&read).len(), read.layout()), (1, Layout::Diesel), "and that is whose ledger counts");
    assert_eq!(found(&[]), Ok(Layout::Belay));
}

#[test]
fn a_layout_is_not_guessed_where_two_fit_or_none_does() {
    let told = |given: &[(&str, &str)]| faults(Layout::Auto, given).remove(0);
    let two = told(&[("1_a.up.sql", UP), ("1_a.down.sql", DOWN)]);
    assert!(two.contains("golang-migrate and sqlx fit 1_a.down.sql"), "{two}");
    let two = told(&[("1_a__up.sql", UP)]);
    assert!(two.contains("belay and diesel"), "{two}");
    let two = told(&[("V1__a.sql", UP)]);
    assert!(two.contains("refinery and flyway"), "{two}");
    let two = told(&[("V1__a.sql", UP), ("V2__b.java", "")]);
    assert!(two.contains("refinery and flyway"), "what is no SQL does not tell whose it is: {two}");
    let none = told(&[("1_a.sql", GOOSE), ("2_b.sql", UP)]);
    assert!(none.contains("no layout fits 1_a.sql"), "{none}");
    let deep = told(&[("V1.2__a.sql", UP), ("old/q1/V1.3__b.sql", UP)]);
    assert!(deep.contains("no layout fits V1.2__a.sql"), "{deep}");
    let none = told(&[("a.sql", UP)]);
    assert!(none.contains("spec.source.layout, --layout"), "{none}");
}

#[test]
fn a_source_that_its_tool_would_run_in_another_order_is_refused() {
    let dbmate = "-- migrate:up\nselect 1;";
    for (layout, lower, higher, text) in [
        (Layout::Dbmate, "9_a.sql", "10_b.sql", dbmate),
        (Layout::Dbmate, "1_a.sql", "10_b.sql", dbmate),
        (Layout::Diesel, "20240101_a/up.sql", "2023-12-31-000000_b/up.sql", UP),
        (Layout::Prisma, "9_a/migration.sql", "10_b/migration.sql", UP),
    ] {
        let told = faults(layout, &[(lower, text), (higher, text)]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(higher) && told[0].contains(&format!("would run it before {lower}")), "{told:?}");
    }
    for (layout, one, other, text) in [
        (Layout::Dbmate, "09_a.sql", "10_b.sql", dbmate),
        (Layout::Diesel, "2024-01-01-000000_a/up.sql", "20240102000000_b/up.sql", UP),
        (Layout::GolangMigrate, "9_a.up.sql", "10_b.up.sql", UP),
    ] {
        assert_eq!(history(layout, &[(one, text), (other, text)]).len(), 2, "{layout:?}");
    }
}

#[test]
fn in_other_layouts_a_rollback_line_is_a_comment() {
    for (layout, name, down) in [
        (Layout::GolangMigrate, "1_a.up.sql", Some("1_a.down.sql")),
        (Layout::Goose, "1_a.sql", None),
        (Layout::Dbmate, "1_a.sql", None),
        (Layout::Diesel, "1_a/up.sql", Some("1_a/down.sql")),
        (Layout::Sqlx, "1_a.up.sql", Some("1_a.down.sql")),
        (Layout::Refinery, "V1__a.sql", None),
        (Layout::Flyway, "V1__a.sql", Some("U1__a.sql")),
        (Layout::Prisma, "1_a/migration.sql", None),
    ] {
        let with = |line: &str| {
            let text = match layout {
                Layout::Goose => format!("-- +goose Up\n{line}{UP}-- +goose Down\n{DOWN}"),
                Layout::Dbmate => format!("-- migrate:up\n{line}{UP}-- migrate:down\n{DOWN}"),
                _ => format!("{line}{UP}"),
            };
            let down = down.map(|down| (down, DOWN));
            let given: Vec<_> = [(name, text.as_str())].into_iter().chain(down).collect();
            latest(&history(layout, &given)).clone()
        };
        let script = with("-- Rollback: see the other half\n");
        let expected = match layout {
            Layout::Refinery | Layout::Prisma => Rollback::None,
            _ => Rollback::Sql(DOWN.to_owned()),
        };
        assert_eq!(script.rollback, expected, "{layout:?}");
        assert_ne!(script.checksum, with("").checksum, "{layout:?}: it is in the checksum");
    }
}

#[test]
fn in_belays_own_layout_a_file_of_goose_or_dbmate_is_not_run_whole() {
    let dbmate = "-- x\n\n-- migrate:up transaction:false\r\nselect 1;\n-- migrate:down\nselect 2;\n";
    for (text, line, name) in [(GOOSE, 2, "goose"), (dbmate, 3, "dbmate"), ("select 1;\n-- +goose Down\n", 2, "goose")]
    {
        let read = history(Layout::Belay, &[("001_a.sql", "select 1;"), ("002_b.sql", text)]);
        let told = latest(&read).unsupported.clone().unwrap_or_else(|| panic!("{text}"));
        assert_eq!((told.kind, told.position.line, told.position.column), (UnsupportedKind::Layout, line, 1), "{text}");
        assert!(told.remedy.contains(&format!("spec.source.layout: {name}, --layout {name}")), "{told}");
        assert_eq!(read.scripts().next().unwrap().unsupported, None, "only the one that has it");
    }
    for text in [
        "select '\n-- +goose Up\n';",
        "do $$ begin\n-- migrate:up\nend $$;",
        "/*\n-- +goose Down\n*/ select 1;",
        "copy a from stdin;\n-- migrate:down\n\\.\n",
        "-- it came from a file with -- +goose Up in it\nselect 1; -- +goose Down\n",
        "-- migrate:upwards\n-- +goose StatementBegin\nselect 1;",
    ] {
        assert_eq!(latest(&history(Layout::Belay, &[("001_a.sql", text)])).unsupported, None, "{text}");
    }
}

#[test]
fn several_statements_that_a_tool_sends_as_one_message_are_run_in_one_transaction() {
    let read = |layout, sql: &str| {
        let text = match layout {
            Layout::Dbmate => format!("-- migrate:up transaction:false\n{sql}-- migrate:down\n"),
            Layout::Sqlx => format!("-- no-transaction\n{sql}"),
            Layout::Refinery => format!("-- refinery:noTransaction\n{sql}"),
            Layout::Goose => format!("-- +goose NO TRANSACTION\n-- +goose Up\n{sql}"),
            _ => sql.to_owned(),
        };
        let given = match layout {
            Layout::Diesel => [("1_a/up.sql", text.as_str()), ("1_a/metadata.toml", "run_in_transaction = false")],
            Layout::Flyway => [("V1__a.sql", text.as_str()), ("V1__a.sql.conf", "executeInTransaction=false")],
            Layout::Refinery => [("V1__a.sql", text.as_str()), ("README", "")],
            _ => [("1_a.sql", text.as_str()), ("README", "")],
        };
        let script = latest(&history(layout, &given)).clone();
        (script.mode, script.unsupported.map(|told| told.kind))
    };
    let (one, several) = ("call p();\n", "create schema a;\nset local search_path = a;\ncreate table t ();\n");
    let (in_pair, mixed) = ("begin;\ndrop table t;\ncommit;\n", "set lock_timeout = 0;\nvacuum;\n");
    for layout in [Layout::Dbmate, Layout::Diesel, Layout::Sqlx, Layout::Refinery] {
        assert_eq!(read(layout, one), (Mode::NoTransaction, None), "{layout:?}");
        assert_eq!(read(layout, several), (Mode::Transaction, None), "{layout:?}");
        assert_eq!(read(layout, in_pair), (Mode::Transaction, None), "{layout:?}");
        assert_eq!(read(layout, mixed).1, Some(UnsupportedKind::Mixed), "{layout:?}: the tool fails at it");
    }
    for layout in [Layout::Goose, Layout::Flyway] {
        for sql in [one, several, mixed] {
            assert_eq!(read(layout, sql), (Mode::NoTransaction, None), "{layout:?} sends them one by one");
        }
    }
}

const ALL: &[Layout] = &[
    Layout::Belay,
    Layout::GolangMigrate,
    Layout::Goose,
    Layout::Dbmate,
    Layout::Diesel,
    Layout::Sqlx,
    Layout::Refinery,
    Layout::Flyway,
    Layout::Prisma,
    Layout::Auto,
];

#[test]
fn hostile_names_and_bytes_are_told_and_break_nothing() {
    for layout in ALL {
        for name in
            ["", "/", "é", "1_é.up.sql", "__up.sql", "../x/up.sql", "1_a\n.sql", "V__.sql", "V1__.sql", "_", "sql"]
        {
            let _ = read(*layout, files(&[(name, GOOSE)]));
        }
        let long = format!("{}_a.up.sql", "9".repeat(200));
        let _ = read(*layout, files(&[(&long, UP)]));
    }
    let told = fault(Layout::Sqlx, &format!("{}_a.up.sql", "9".repeat(200)), UP);
    assert!(told.contains("more than 100 digits"), "{told}");
    let not_utf8 = read(Layout::Goose, [("1_a.sql".to_owned(), b"-- +goose Up\n\xff".to_vec())]).unwrap_err();
    assert!(not_utf8[0].to_string().starts_with("1_a.sql, line 2"), "{not_utf8:?}");
}

/// Pieces of names and texts that mean something to some layout.
const PIECES: &[&str] = &[
    "1",
    "02",
    "V",
    "U",
    "R",
    "_",
    "__",
    ".",
    "-",
    "/",
    "up",
    "down",
    ".up",
    ".down",
    ".sql",
    ".conf",
    "up.sql",
    "migration.sql",
    "metadata.toml",
    "é",
    "\n",
    "\r\n",
    ";",
    ";\n",
    "-- +goose Up\n",
    "-- +goose Down\n",
    "-- +goose StatementBegin\n",
    "-- +goose StatementEnd\n",
    "-- +goose NO TRANSACTION\n",
    "-- +goose ENVSUB ON\n",
    "-- migrate:up\n",
    "-- migrate:down\n",
    "${a}",
    "$$",
    "'",
    "select 1",
    "--",
    "\u{feff}",
    "run_in_transaction = false",
];

fn pieces() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(crate::testing::same_cases(256))]

    #[test]
    fn no_name_and_no_bytes_are_too_odd(
        given in prop::collection::vec((prop_oneof![pieces(), any::<String>()], prop_oneof![
            pieces().prop_map(String::into_bytes),
            any::<Vec<u8>>(),
        ]), 0..4),
    ) {
        for layout in ALL {
            match read(*layout, given.clone()) {
                Ok(history) => for script in history.scripts() {
                    prop_assert!(given.iter().any(|(_, bytes)| {
                        let text = String::from_utf8_lossy(bytes);
                        let text = text.trim_start_matches('\u{feff}');
                        text.starts_with(&script.text) || text.replace("\r\n", "\n").starts_with(&script.text)
                    }), "a script is the beginning of its file, so that places are the file's");
                },
                Err(faults) => prop_assert!(!faults.is_empty()),
            }
        }
    }
}
