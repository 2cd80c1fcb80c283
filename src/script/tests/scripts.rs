use super::super::{Mode, Position, Rollback, Script, UnsupportedKind};
use super::script;

const TEMPLATE: &str = "-- Migration: 002_your_migration_name
-- Description: Brief description of changes
-- Author: Your Name
-- Date: YYYY-MM-DD

BEGIN;

-- Your changes here
ALTER TABLE users ADD COLUMN new_field VARCHAR(255);

-- Rollback instructions (as comments)
-- ROLLBACK: ALTER TABLE users DROP COLUMN new_field;

COMMIT;
";

#[test]
fn the_manual_practices_template_is_read_as_it_is() {
    let script = script(TEMPLATE);
    assert_eq!(script.header.migration.as_deref(), Some("002_your_migration_name"));
    assert_eq!(script.header.description.as_deref(), Some("Brief description of changes"));
    assert_eq!(script.header.author.as_deref(), Some("Your Name"));
    assert_eq!(script.header.date.as_deref(), Some("YYYY-MM-DD"));
    assert_eq!(script.rollback, Rollback::Sql("ALTER TABLE users DROP COLUMN new_field;".to_owned()));
    assert_eq!(script.unsupported, None);
    assert_eq!(script.statements.len(), 1);
    assert_eq!(script.statements[0].start, Position { line: 9, column: 1 });
    assert_eq!(script.executable(), TEMPLATE.replace("BEGIN;", "      ").replace("COMMIT;", "       "));
}

#[test]
fn an_outer_pair_is_belays_and_is_sent_as_blanks() {
    for (text, sent) in [
        ("begin;select 1;commit", "      select 1;      "),
        ("BEGIN WORK; select 1; END", "     -    -; select 1;    "),
        (
            "start /* é */ transaction ; select 1 ;\nend transaction ;",
            "      /* é */             ; select 1 ;\n               ;",
        ),
        (
            "begin transaction; select 1; commit work;\n-- the end\n",
            "                   select 1;             \n-- the end\n",
        ),
    ] {
        let script = script(text);
        assert_eq!(script.unsupported, None, "{text}");
        assert_eq!(script.statements.len(), 1, "{text}");
        let executable = script.executable();
        assert_eq!(executable.len(), text.len());
        let squeezed = |text: &str| text.replace([';', '-', ' '], "");
        assert_eq!(squeezed(&executable), squeezed(sent), "{text}");
        assert_eq!(executable.find("select"), text.find("select"));
        assert!(!super::statements(&executable).iter().any(|s| s != "select 1"), "{executable}");
    }
}

#[test]
fn half_a_pair_and_a_pair_with_modes_are_refused_where_they_stand() {
    for (text, line, remedy) in [
        ("begin;\nselect 1;", 1, "leave it out"),
        ("select 1;\ncommit;", 2, "leave it out"),
        ("begin isolation level serializable;\nselect 1;\ncommit;", 1, "write a plain BEGIN"),
        ("start transaction read only;\nselect 1;\ncommit;", 1, "write a plain BEGIN"),
        ("begin;\nselect 1;\ncommit and chain;", 1, "leave it out"),
        ("begin;\nselect 1;\ncommit;\nbegin;\nselect 2;\ncommit;", 3, "leave it out"),
        ("begin;\nselect 1;\nrollback;", 1, "leave it out"),
        ("set x = 1;\nbegin;\nselect 1;\ncommit;", 2, "leave it out"),
    ] {
        let unsupported = script(text).unsupported.unwrap();
        assert_eq!(unsupported.kind, UnsupportedKind::TransactionControl, "{text}");
        assert_eq!(unsupported.position.line, line, "{text}");
        assert!(unsupported.remedy.starts_with(remedy), "{text}: {}", unsupported.remedy);
    }
}

#[test]
fn transaction_control_outside_a_transaction_is_refused_with_what_is_true_there() {
    for (text, line) in [
        ("-- belay: no-transaction\nbegin;\nselect 1;\ncommit;", 2),
        ("-- belay: no-transaction\nselect 1;\nsavepoint a;", 3),
    ] {
        let unsupported = script(text).unsupported.unwrap();
        assert_eq!((unsupported.kind, unsupported.position.line), (UnsupportedKind::TransactionControl, line));
        assert!(unsupported.remedy.starts_with("take away the mark"), "{text}: {}", unsupported.remedy);
    }
    let discard = script("-- belay: no-transaction\ndiscard all;").unsupported.unwrap();
    assert!(discard.remedy.starts_with("name what it is for"), "{}", discard.remedy);
}

#[test]
fn a_script_without_a_statement_is_refused_before_it_is_run() {
    for text in ["", "\n", "-- Author: me\n", "/* x */ ;;", "begin; commit;"] {
        assert_eq!(script(text).unsupported.map(|u| u.kind), Some(UnsupportedKind::Empty), "{text:?}");
    }
}

#[test]
fn the_header_ends_with_the_first_statement() {
    let script =
        script("/* x */\n--author:  A \r\n-- AUTHOR: B\n--Date:\n\nselect 1 -- Migration: no\n; -- Description: no\n");
    assert_eq!(script.header.author.as_deref(), Some("A"));
    assert_eq!((script.header.date, script.header.description, script.header.migration), (None, None, None));
}

#[test]
fn names_that_are_not_read_are_refused_where_the_catalogue_is_to_tell_what_became_of_them() {
    for text in ["drop index concurrently U&\"\\0061\"", "create index concurrently U&\"i\" on t (a)"] {
        assert_eq!(script(text).unsupported.unwrap().kind, UnsupportedKind::Name, "{text}");
    }
    assert_eq!(script("create index U&\"i\" on t (a)").unsupported, None);
}

#[test]
fn directives_are_known_or_refused_with_their_place() {
    for text in ["-- belay: no-transaction\nselect 1", "--\n-- Belay: NO-TRANSACTION\nvacuum"] {
        let script = script(text);
        assert_eq!((script.unsupported, script.mode, script.header.no_transaction), (None, Mode::NoTransaction, true));
    }
    for (text, kind, line) in [
        ("-- belay: no-transactions\nselect 1", UnsupportedKind::UnknownDirective, 1),
        ("-- belay:\nselect 1", UnsupportedKind::UnknownDirective, 1),
        ("select 1;\n-- belay: no-transaction\n", UnsupportedKind::UnknownDirective, 2),
        ("begin;\n-- belay: no-transaction\nselect 1; commit", UnsupportedKind::UnknownDirective, 2),
        ("-- belay: no-transaction\nbegin;\nselect 1; commit", UnsupportedKind::TransactionControl, 2),
    ] {
        let script = script(text);
        let unsupported = script.unsupported.unwrap();
        assert_eq!((unsupported.kind, unsupported.position.line), (kind, line), "{text}");
    }
    for text in ["select '-- belay: x'", "/* -- belay: x */ select 1", "-- see belay: it\nselect 1"] {
        assert_eq!(script(text).unsupported, None, "{text}");
    }
}

#[test]
fn rollback_lines_are_comments_outside_quotes_joined_in_order() {
    let text = "-- ROLLBACK: DROP VIEW v;\nselect '\n-- ROLLBACK: no;', $$\n-- ROLLBACK: no;\n$$ /*\n-- ROLLBACK: no;\n*/;\n\
        select 1; -- rollback: DROP TABLE a\n--ROLLBACK:   CASCADE;\r\n-- Rollback instructions: none\n";
    assert_eq!(script(text).rollback, Rollback::Sql("DROP VIEW v;\nDROP TABLE a\nCASCADE;".to_owned()));
    assert_eq!(script("select 1; -- ROLLBACK:\n").rollback, Rollback::None);
    assert_eq!(script("select 1;").rollback, Rollback::None);
}

#[test]
fn prose_is_no_rollback() {
    for prose in [
        "none",
        "n/a",
        "not needed.",
        "restore the backup",
        "see the wiki",
        "drop column by hand",
        "don't",
        "it's over",
        "Delete the rows by hand",
        "update the docs",
        "Set the flag back to false",
        "Do nothing",
        "Call Bob from ops",
        "Notify the team",
        "with care",
        "lock the table first",
        "drop table x; then tell Bob",
        "-- nothing",
        "insert the rows again",
        "select (1",
        "Restore from backup_before_migration.sql.gz",
        "irreversible: data is lost",
        "/* later",
    ] {
        let rollback = script(&format!("select 1;\n-- ROLLBACK: {prose}\n")).rollback;
        assert_eq!(rollback, Rollback::NotSql(prose.to_owned()));
    }
    for sql in [
        "drop table a",
        "alter table a drop column b;",
        "delete from a where b = 'x'",
        "update only s.a set b = 1",
        "(select 1)",
        "set search_path to x; drop function f(int)",
        "do $$ begin end $$",
        "call p()",
        "grant select on a to b",
        "notify a, 'b'",
        "with x as (select 1) delete from y",
        "lock a",
        "lock table a, b",
        "revoke all on a from b",
        "truncate a",
        "comment on table a is null",
        "set constraints all deferred",
        "set time zone 'UTC'",
        "execute x(1)",
        "reset all",
        "refresh materialized view v",
    ] {
        assert_eq!(script(&format!("select 1;\n-- ROLLBACK: {sql}\n")).rollback, Rollback::Sql(sql.to_owned()));
    }
}

#[test]
fn a_rollback_that_belay_cannot_run_says_why() {
    let rollback = script("select 1;\n-- ROLLBACK: drop view v;\n-- ROLLBACK:  drop index concurrently i;\n").rollback;
    let Rollback::Unsupported(text, unsupported) = rollback else { panic!("{rollback:?}") };
    assert_eq!(text, "drop view v;\ndrop index concurrently i;");
    assert_eq!(unsupported.kind, UnsupportedKind::Mixed);
    assert_eq!(unsupported.position, Position { line: 2, column: 1 });
    let rollback = script("select 1;\n-- ROLLBACK: begin; drop view v; commit;\n").rollback;
    assert_eq!(rollback.sql().map(str::trim), Some("drop view v;"));
}

#[test]
fn the_checksum_is_blind_to_line_endings_marks_and_rollback_lines_only() {
    let base = "-- Author: A\ncreate table t();\n  select 1;\n";
    let same = [
        base.replace('\n', "\r\n"),
        format!("{base}\n\r\n\n"),
        base.trim_end().to_owned(),
        format!("-- ROLLBACK: drop table t;\n{base}"),
        format!("{base}-- ROLLBACK: drop table t;\n"),
        format!("{base}-- ROLLBACK: drop table t;"),
        format!("{base}\n-- ROLLBACK: drop table t;\r\n-- ROLLBACK: again\r\n"),
        base.replace("t();\n", "t();\n  --rollback: drop table t;\n"),
        base.replace("t();\n", "t();\r\n-- ROLLBACK: a\r\n-- ROLLBACK: b\r\n"),
        base.replace("t();\n", "t(); -- ROLLBACK: drop table t;\n"),
        base.replace("t();\n", "t(); -- ROLLBACK: drop table t;\r\n-- ROLLBACK: x\n"),
    ];
    for text in same {
        assert_eq!(script(&text).checksum, script(base).checksum, "{text:?}");
    }
    // A carriage return alone is no line's end, also where only a rollback line parts it from one.
    let alone = "select 1;\r -- ROLLBACK: x\r\nselect 2;";
    assert_eq!(script(alone).checksum, script(&alone.replace("\r\n", "\n")).checksum);
    let other = [
        base.replace("t()", "u()"),
        base.replace("  select", " select"),
        base.replace("Author: A", "Author: B"),
        format!("\n{base}"),
        format!("{base}-- rolled back: no\n"),
        base.replace("t();\n", "t();\n\n"),
        base.replace("t();\n", "t();\r"),
        format!("{base}select '\n-- ROLLBACK: x\n'"),
    ];
    for text in &other {
        assert_ne!(script(text).checksum, script(base).checksum, "{text:?}");
    }
    let in_a_string = |text: &str| script(&format!("select '\n-- ROLLBACK: {text}\n'")).checksum;
    assert_ne!(in_a_string("a"), in_a_string("b"));
    assert_ne!(script("-- ROLLBACK: a\rdrop table t;").checksum, script("-- ROLLBACK: a\rdrop table u;").checksum);
}

#[test]
fn an_error_of_the_server_finds_its_line_column_and_statement() {
    let script: Script = script("select 'é';\r\nselect 'ü',\r\n  wrong;\n");
    let sent = script.executable();
    let character = sent.chars().position(|c| c == 'w').unwrap() + 1;
    assert_eq!(script.position_of_char(character), Position { line: 3, column: 3 });
    let (number, statement) = script.statement_at(script.byte_of_char(character)).unwrap();
    assert_eq!((number, statement.command.as_str()), (2, "SELECT"));
    assert_eq!(script.statement_text(statement), "select 'ü',\r\n  wrong");
    assert_eq!(script.statement_at(statement.range.start).map(|(number, _)| number), Some(2));
    assert_eq!(script.position_of_char(0), Position { line: 1, column: 1 });
    assert_eq!(script.position_of_char(usize::MAX).line, 4);
    assert!(super::script(" select 1").statement_at(0).is_none());
}

#[test]
fn before_a_statement_that_runs_alone_is_set_what_still_holds() {
    for (text, set_up) in [
        ("set a = 1; select 1; set a to 2; select 1; ", vec![2]),
        ("set a = 1; set a = 2; ", vec![0, 1]),
        ("set a = 1; set b.c = 1; select 1; reset a; select 1; ", vec![1, 3]),
        ("set \"A\" = 1; select set_config('a', '2', false); select 1; ", vec![1]),
        ("set a = 1; set local a = 2; select set_config('a', '3', true); select 1; ", vec![0]),
        ("set role x; set time zone 1; select 1; reset all; select 1; ", vec![0, 3]),
        ("set role x; set session authorization y; select 1; reset role; select 1; ", vec![1, 3]),
        ("set session timezone to 1; set time zone 2; set schema 'x'; set search_path = y; select 1; ", vec![1, 3]),
        ("set names 'utf8'; reset client_encoding; select 1; ", vec![1]),
    ] {
        let script = script(&format!("-- belay: no-transaction\n{text}vacuum"));
        assert_eq!(script.set_up(script.statements.len() - 1), set_up, "{text}");
    }
}
