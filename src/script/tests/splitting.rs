use super::super::split::split;
use super::super::{Position, UnsupportedKind};
use super::{script, statements};

/// Texts, and the statements that the server would make of them.
#[test]
fn statements_end_where_the_server_ends_them() {
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        (" ;; ; -- x\n /* y */ ;", &[]),
        ("select 1", &["select 1"]),
        ("select 1;select 2 ;\n", &["select 1", "select 2"]),
        // Quotes.
        ("select ';';select 2", &["select ';'", "select 2"]),
        ("select 'it''s;';select 2", &["select 'it''s;'", "select 2"]),
        ("select 'a\\';select 2", &["select 'a\\'", "select 2"]),
        ("select E'a\\';';select 2", &["select E'a\\';'", "select 2"]),
        ("select e'\\\\';select 2", &["select e'\\\\'", "select 2"]),
        ("select E'\\\\\\';''';select 2", &["select E'\\\\\\';'''", "select 2"]),
        ("select U&'\\';select 2", &["select U&'\\'", "select 2"]),
        ("select u&\"a;\"\"b\";select 2", &["select u&\"a;\"\"b\"", "select 2"]),
        ("select B'1;0', x'1;f', N'a\\';select 2", &["select B'1;0', x'1;f', N'a\\'", "select 2"]),
        ("select \"a;\"\"\\\";select 2", &["select \"a;\"\"\\\"", "select 2"]),
        ("select name'x;';select 2", &["select name'x;'", "select 2"]),
        ("select se'\\';select 2", &["select se'\\'", "select 2"]),
        // A string goes on behind a newline, in the quoting it began with.
        ("select E'a'\n'\\';';select 2", &["select E'a'\n'\\';'", "select 2"]),
        (
            "select E'a' -- x;'\n \r\n'\\';' -- y\n'\\';';select 2",
            &["select E'a' -- x;'\n \r\n'\\';' -- y\n'\\';'", "select 2"],
        ),
        ("select E'a' '\\';select 2", &["select E'a' '\\'", "select 2"]),
        ("select E'a' /* \n */ '\\';select 2", &["select E'a' /* \n */ '\\'", "select 2"]),
        ("select 'a'\n'\\';select 2", &["select 'a'\n'\\'", "select 2"]),
        ("select E'a'\n-- the end", &["select E'a'"]),
        ("select E'a'\n;select 2", &["select E'a'", "select 2"]),
        // Dollar bodies.
        ("select $$;$$;select 2", &["select $$;$$", "select 2"]),
        ("select $a$ $$;$b$ $a $a$;select 2", &["select $a$ $$;$b$ $a $a$", "select 2"]),
        ("select $A$;$a$;$A$;select 2", &["select $A$;$a$;$A$", "select 2"]),
        ("select $a$;$$a$;select 2", &["select $a$;$$a$", "select 2"]),
        ("select $a$;$aa$;$a$;select 2", &["select $a$;$aa$;$a$", "select 2"]),
        ("select $é1_$;$é1_$;select 2", &["select $é1_$;$é1_$", "select 2"]),
        ("select foo$1$;select $1$;", &["select foo$1$", "select $1$"]),
        ("select a$$;select b$$;", &["select a$$", "select b$$"]),
        ("select $1;select $2", &["select $1", "select $2"]),
        ("select 1$$;$$;select 2", &["select 1$$;$$", "select 2"]),
        ("select $1$$;$$;select 2", &["select $1$$;$$", "select 2"]),
        ("select $a-$;select 2", &["select $a-$", "select 2"]),
        ("select $;select 2", &["select $", "select 2"]),
        // Comments.
        ("select 1 --;\n;select 2", &["select 1", "select 2"]),
        ("select 1 --;\r;select 2", &["select 1", "select 2"]),
        ("select 1+--;\n2;select 2", &["select 1+--;\n2", "select 2"]),
        ("select 1 @/*;*/2;select 2", &["select 1 @/*;*/2", "select 2"]),
        ("select 1 - -2;select 2", &["select 1 - -2", "select 2"]),
        ("/* ; /* ; */ ; */ select 1", &["select 1"]),
        ("/*/ ; */ select 1", &["select 1"]),
        ("/**/select 1;/***/select 2", &["select 1", "select 2"]),
        ("/* -- */ select 1", &["select 1"]),
        ("-- /* \nselect 1", &["select 1"]),
        ("/* ' */ select 1; /* $$ */ select 2", &["select 1", "select 2"]),
        ("select '/*';select '*/'", &["select '/*'", "select '*/'"]),
        ("select */* ; */1;select 2", &["select */* ; */1", "select 2"]),
        // Parentheses.
        (
            "create rule r as on insert to t do (delete from a; delete from b);select 2",
            &["create rule r as on insert to t do (delete from a; delete from b)", "select 2"],
        ),
        ("select 1);select 2", &["select 1)", "select 2"]),
        // Numbers, operators, white space.
        ("select 1e;select 0x;select 1_0;select 1..2", &["select 1e", "select 0x", "select 1_0", "select 1..2"]),
        ("select a::text, b := 1, c ?| d;select 2", &["select a::text, b := 1, c ?| d", "select 2"]),
        ("select\u{c}1\u{b};select 2", &["select\u{c}1", "select 2"]),
        ("select größe$;select \u{a0}x", &["select größe$", "select \u{a0}x"]),
        ("select U & 'a\\';select 2", &["select U & 'a\\'", "select 2"]),
        // A number ends where PostgreSQL 14 ends it, so that no string begins in the word behind it.
        ("select 1e$$;commit;select 1e$$", &["select 1e$$", "commit", "select 1e$$"]),
        ("select 0x$$;commit;select 0x1$$", &["select 0x$$", "commit", "select 0x1$$"]),
        ("select 1_0$a$;commit;select 1.5e$a$", &["select 1_0$a$", "commit", "select 1.5e$a$"]),
        ("select 1.5e3$$;$$, .5$$;$$, 1e-3$$;$$;select 2", &["select 1.5e3$$;$$, .5$$;$$, 1e-3$$;$$", "select 2"]),
        ("select 1e'\\';commit;select $1e'\\'", &["select 1e'\\';commit;select $1e'\\'"]),
        // A byte order mark is a letter, wherever it stands.
        ("select E'a'\n'b'\u{feff}$$;commit;select a$$", &["select E'a'\n'b'\u{feff}$$", "commit", "select a$$"]),
        ("\u{feff}$$;commit;$$", &["\u{feff}$$", "commit", "$$"]),
    ];
    for (text, expected) in cases {
        assert_eq!(statements(text), *expected, "{text:?}");
    }
}

#[test]
fn a_body_with_begin_atomic_is_one_statement() {
    for body in [
        "create function f() returns int begin atomic select 1; select 2; end",
        "CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 0 THEN 1 ELSE 2 END; END",
        "create procedure p() begin atomic insert into t values (case when true then 1 end); end",
        "create or replace procedure p() begin atomic select case case 1 when 1 then 2 end when 2 then 3 end; end",
        "create function f() returns int begin atomic; select t.end, t.case as case, 1 as end from t; end",
        "create function f() returns int begin atomic select 1 as end; select 2; end",
        "create function f() returns int begin atomic select 1 as case; end",
        "create function f() returns int begin atomic select 1 end; select 2 end from t; end",
        "create function f() returns int begin atomic select case when true then 1 end end; end",
        "create procedure p() begin atomic end",
        // CASE is no expression here, but a label without AS.
        "create function f() returns int begin atomic select 1 case; end",
        "create function f() returns int begin atomic select 1 case, case when true then 1 end; select 2 case; end",
        "create function f() returns int begin /* x */ atomic select begin from t; end",
    ] {
        assert_eq!(statements(&format!("{body};select 2")), [body, "select 2"]);
    }
    for not_a_body in [
        "create table begin(atomic int)",
        "create view v as select begin atomic from t",
        "begin atomic",
        "create function atomic() returns int return 1",
    ] {
        assert_eq!(statements(&format!("{not_a_body};select 2")), [not_a_body, "select 2"]);
    }
}

#[test]
fn transaction_control_does_not_hide_in_a_body_that_never_ended() {
    for text in [
        "create function f() returns int begin atomic select 1 case; end; commit; select 1",
        "create function f() returns int begin atomic select 1 case; end; end; select 1",
        "create function f() returns int begin atomic select 1 case; end; end work; select 1",
        "select (1; commit; select 2)",
        "create function f() returns int begin atomic select 1; commit; end",
    ] {
        let unsupported = split(text).faults;
        assert!(unsupported.iter().any(|u| u.kind == UnsupportedKind::TransactionControl), "{text}: {unsupported:?}");
    }
}

#[test]
fn what_never_ends_is_told_where_it_began() {
    for (text, line, column, what) in [
        ("select 1;\n select 'a", 2, 9, "a quoted string"),
        ("select E'a\\'", 1, 8, "a quoted string"),
        ("select E'a'\n'b\\'", 1, 8, "a quoted string"),
        ("select \"a", 1, 8, "a quoted identifier"),
        ("select U&\"a", 1, 8, "a quoted identifier"),
        ("select $a$ $a", 1, 8, "a dollar-quoted string"),
        ("select 1; /* /* */", 1, 11, "a comment"),
        ("select (1, (2);\nselect 3", 1, 8, "a parenthesis"),
        ("create function f() returns int\nbegin atomic select 1;", 2, 1, "BEGIN ATOMIC"),
        ("select 1;\ncopy t from stdin;\n1\n", 2, 1, "the data of this COPY … FROM STDIN has no end"),
    ] {
        let fault = split(text).faults.into_iter().find(|f| f.kind == UnsupportedKind::Unterminated);
        let fault = fault.unwrap_or_else(|| panic!("{text:?} is not told"));
        assert_eq!(fault.position, Position { line, column }, "{text:?}");
        assert!(fault.what.starts_with(what), "{text:?}: {}", fault.what);
    }
}

#[test]
fn the_first_fault_is_told_though_a_great_many_follow_it() {
    let text = format!("select (1;\n{}", "select \\x\n".repeat(1000));
    let unsupported = script(&text).unsupported.unwrap();
    assert_eq!((unsupported.kind, unsupported.position.column), (UnsupportedKind::Unterminated, 8));
}

#[test]
fn the_data_of_copy_is_data() {
    let data = "1\t'\n2\t$$ ; /* \\N\n\\\\.\n \\.\n";
    for copy in [
        "copy t from stdin",
        "COPY public.t (id, \"from\") FROM STDIN",
        "copy t(a, b) from stdin with (format csv, header)",
        "copy t from\n stdin csv",
        "copy t from stdout",
        "copy public.from from stdin",
    ] {
        let text = format!("select 1;\n{copy};\n{data}\\.\nselect 2;");
        let split = split(&text);
        assert_eq!(statements(&text), ["select 1", copy, "select 2"], "{copy}");
        assert_eq!(&text[split.statements[1].copy_data.clone().unwrap()], data);
        assert!(split.faults.is_empty(), "{:?}", split.faults);
    }
    for not_data in
        ["copy t from '/tmp/x'", "copy t from program 'x'", "copy (select 1 from stdin) to '/x'", "select 1 from stdin"]
    {
        let text = format!("{not_data};\n1\n\\.\n");
        assert!(split(&text).statements[0].copy_data.is_none(), "{not_data}");
    }
}

#[test]
fn the_data_of_copy_begins_on_the_next_line_and_may_be_empty() {
    let text = "copy t from stdin; -- ROLLBACK: truncate t\r\n1\r\n\\.\r\nselect 2";
    let parts = split(text);
    assert_eq!(&text[parts.statements[0].copy_data.clone().unwrap()], "1\r\n");
    assert_eq!(parts.notes.len(), 1);
    assert_eq!(parts.statements.len(), 2);
    let empty = split("copy t from stdin;\n\\.\n");
    assert_eq!(empty.statements[0].copy_data, Some(19..19));
    let more = split("copy t from stdin; select 3;\n1\n\\.\n");
    assert_eq!(more.faults[0].position, Position { line: 1, column: 20 }, "what is behind it is run after its data");
    let hidden = split("copy t from stdin; -- a\r(\n1\n\\.\n");
    assert_eq!(hidden.faults[0].kind, UnsupportedKind::CopyData, "a carriage return ends a comment");
    let without = split("copy t from stdin");
    assert_eq!(without.faults[0].kind, UnsupportedKind::Unterminated, "no semicolon, no data");
}

#[test]
fn psql_commands_are_refused_by_name_with_what_to_write_instead() {
    for (text, name, remedy, line, column) in [
        ("\\i other.sql\nselect 1;", "\\i ", "put that file's SQL", 1, 1),
        ("select 1;\n  \\connect shop\n", "\\connect ", "one Migration for each database", 2, 3),
        ("select 1 \\gset\n", "\\gset ", "semicolon", 1, 10),
        ("select 1 \\; select 2;", "\\; ", "plain semicolon", 1, 10),
        ("\\.\nselect 1;", "\\. ", "ends the data", 1, 1),
        ("\\d+ t\n", "\\d+ ", "what psql shows", 1, 1),
        ("\\restrict a \\i x\nselect 1;", "\\restrict ", "write it in SQL", 1, 1),
        ("\\restrict é\nselect 1;", "\\restrict ", "write it in SQL", 1, 1),
        ("select a \\ b", "a backslash", "write it in SQL", 1, 10),
    ] {
        let unsupported = script(text).unsupported.unwrap();
        assert_eq!(unsupported.kind, UnsupportedKind::PsqlCommand, "{text:?}");
        assert!(unsupported.what.starts_with(name), "{text:?}: {}", unsupported.what);
        assert!(unsupported.remedy.contains(remedy), "{text:?}: {}", unsupported.remedy);
        assert_eq!(unsupported.position, Position { line, column }, "{text:?}");
    }
}

#[test]
fn what_pg_dump_writes_for_psql_is_left_out_and_nothing_moves() {
    let text = "--\n-- PostgreSQL database dump\n--\n\n\\restrict aB3\n\nSELECT 1;\n\n\\unrestrict aB3\n\n";
    let script = script(text);
    assert_eq!(script.unsupported, None);
    assert_eq!(
        script.executable(),
        text.replace("\\restrict aB3", &" ".repeat(13)).replace("\\unrestrict aB3", &" ".repeat(15))
    );
    assert_eq!(script.statements[0].start, Position { line: 7, column: 1 });
}

#[test]
fn a_line_for_psql_that_ends_in_a_space_of_another_kind_is_not_left_out_in_part() {
    let refused = script("SELECT 1;\n\\unrestrict aB3 \u{a0}\r\n").unsupported.clone().expect("a fault");
    assert_eq!(refused.kind, UnsupportedKind::PsqlCommand);
    assert_eq!(script("SELECT 1;\n\\unrestrict aB3 \t\r\n").unsupported, None);
}
