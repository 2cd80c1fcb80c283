use super::super::effect::{LockMode, ScriptLock};
use super::script;

/// How the last statement of a text could lose data.
fn loss(text: &str) -> Option<String> {
    let statements = script(text).statements;
    statements.last().and_then(|one| one.effect.destructive.as_ref().map(ToString::to_string))
}

#[test]
fn what_could_lose_data_is_destructive_and_says_how() {
    for (text, how) in [
        ("drop table a", "DROP TABLE"),
        ("DROP TABLE IF EXISTS a CASCADE", "DROP TABLE"),
        ("drop schema s", "DROP SCHEMA"),
        ("drop sequence s", "DROP SEQUENCE"),
        ("drop materialized view m", "DROP MATERIALIZED VIEW"),
        ("drop type t", "DROP TYPE"),
        ("drop domain d", "DROP DOMAIN"),
        ("drop extension e", "DROP EXTENSION"),
        ("drop owned by x", "DROP OWNED"),
        ("drop database d", "DROP DATABASE"),
        ("drop view v cascade", "DROP VIEW … CASCADE"),
        ("drop function f() cascade", "DROP FUNCTION … CASCADE"),
        ("truncate a", "TRUNCATE"),
        ("delete from a", "DELETE without WHERE"),
        ("delete from a using b", "DELETE without WHERE"),
        ("delete from a where true", "DELETE without WHERE"),
        ("delete from a where 1 = 1 returning *", "DELETE without WHERE"),
        ("delete from a returning (select 1 where 1 = 2)", "DELETE without WHERE"),
        ("update a set b = 1", "UPDATE without WHERE"),
        ("update only s.a as x set b = (select c from d where e)", "UPDATE without WHERE"),
        ("with x as (delete from a returning *) select * from x where b", "DELETE without WHERE"),
        ("with x as (select 1 where true) update a set b = 1", "UPDATE without WHERE"),
        ("insert into a with x as (update b set c = 1 returning *) select * from x", "UPDATE without WHERE"),
        ("explain analyze delete from a", "DELETE without WHERE"),
        ("explain (analyze, verbose) delete from a", "DELETE without WHERE"),
        ("merge into a using b on a.id = b.id when matched then delete", "MERGE that deletes"),
        ("alter table a drop column b", "DROP COLUMN"),
        ("alter table a add b int, drop if exists c", "DROP COLUMN"),
        ("alter table a alter b type smallint", "ALTER COLUMN … TYPE"),
        ("alter table a alter column b set data type varchar(10)", "ALTER COLUMN … TYPE"),
        ("alter table a alter b type text using left(b, 3)", "ALTER COLUMN … TYPE"),
        ("alter table a alter b type bigint", "ALTER COLUMN … TYPE"),
        ("alter table a alter b type text[]", "ALTER COLUMN … TYPE"),
        ("alter table a alter b drop identity", "ALTER COLUMN … DROP IDENTITY"),
        ("alter table a alter b restart", "ALTER COLUMN … RESTART"),
        ("alter table a detach partition b", "DETACH PARTITION"),
        ("alter table a detach partition b concurrently", "DETACH PARTITION … CONCURRENTLY"),
        ("alter table a no inherit b", "NO INHERIT"),
        ("alter table a set unlogged", "SET UNLOGGED"),
        ("alter table a drop constraint b cascade", "DROP CONSTRAINT … CASCADE"),
        ("alter table a add b int default clean_up()", "a call of clean_up()"),
        ("alter table a frobnicate", "an action that Belay does not know"),
        ("alter type t drop attribute a", "ALTER TYPE … DROP ATTRIBUTE"),
        ("alter type t alter attribute a type int", "ALTER TYPE … ALTER ATTRIBUTE"),
        ("alter sequence s restart", "ALTER SEQUENCE … RESTART"),
        ("alter extension e update", "ALTER EXTENSION … UPDATE"),
        ("do $$ begin end $$", "DO"),
        ("call p()", "CALL"),
        ("execute q", "EXECUTE"),
        ("create table a as execute q", "EXECUTE"),
        ("load 'x'", "LOAD"),
        ("copy a from program 'x'", "COPY … PROGRAM"),
        ("copy (select clean_up()) to '/x'", "a call of clean_up()"),
        ("select clean_up()", "a call of clean_up()"),
        ("select App.\"Clean up\"(1)", "a call of app.\"Clean up\"()"),
        ("select lower(b), other.lower(b) from a", "a call of other.lower()"),
        ("select setval('s', 1)", "a call of setval()"),
        ("select distinct on (a) clean_up() from b", "a call of clean_up()"),
        ("select \"set\"(1)", "a call of set()"),
        ("select 1, filter(2)", "a call of filter()"),
        ("values (clean_up())", "a call of clean_up()"),
        ("insert into a (b) select clean_up()", "a call of clean_up()"),
        ("insert into a values (1, clean_up())", "a call of clean_up()"),
        ("update a set b = 1 where clean_up()", "a call of clean_up()"),
        ("declare c cursor for select clean_up()", "a call of clean_up()"),
        ("create materialized view v as select clean_up()", "a call of clean_up()"),
        ("create table t as select clean_up()", "a call of clean_up()"),
        ("crate table t", "a statement that Belay does not know"),
    ] {
        assert_eq!(loss(text).as_deref(), Some(how), "{text}");
    }
}

#[test]
fn what_leaves_everything_as_it_was_is_not_destructive() {
    for text in [
        "create table a (b numeric(10, 2) default now(), c int references d (e), primary key (b), check (length(c) > 1))",
        "create index on a (lower(b))",
        "drop index a",
        "drop view v",
        "drop function f()",
        "drop trigger t on a",
        "delete from a where b = 1",
        "update a set (b, c) = (1, 2) where d in (1, 2)",
        "update a set b = v.y from (values (1, 2)) v (x, y) where a.b = v.x",
        "update a set b = v.y from (values (1, 2)) as v(x, y) where a.b = v.x",
        "insert into a (b) values (1) on conflict (b) do update set c = excluded.c",
        "insert into s.a (b) select coalesce(max(c), 0) from d group by (e)",
        "insert into a values (gen_random_uuid(), now()), (pg_catalog.gen_random_uuid(), now())",
        "with x (y) as (select 1), z (w) as materialized (select 2) select * from x, z",
        "merge into a using b on a.id = b.id when not matched then insert (c) values (1) when matched then update set c = 2",
        "select count(*) filter (where b) over (partition by c order by (d)) from a",
        "select row_number() over w from a window w as (order by b)",
        "select set_config('a', 'b', false), nextval('s')",
        "select b::numeric(4, 2), cast(c as varchar(3)), d::character varying(3) from a",
        "select * from a where exists (select 1) and b = any (array[1]) and not (c)",
        "select extract(epoch from b), substring(c from 1 for 2) from a group by grouping sets ((b), (c))",
        "explain delete from a",
        "explain (analyze off) delete from a",
        "prepare q as delete from a",
        "alter table a add column b int not null default 0, add constraint c check (b > 0)",
        "alter table a add b text default lower('X') references d (e)",
        "alter table a alter b type text",
        "alter table a alter b type character varying collate \"C\"",
        "alter table a alter b set default clean_up()",
        "alter table a drop constraint b",
        "alter table a rename column b to c",
        "alter table a rename to b",
        "alter table a attach partition b for values in (1)",
        "alter type t add value 'x'",
        "alter sequence s owned by a.b",
        "refresh materialized view v",
        "vacuum a",
        "reindex table a",
        "copy a from '/x'",
        "comment on table a is 'drop table'",
        "grant all on a to b",
        "create function f() returns int language sql as 'delete from a'",
        "set search_path to a",
        "begin",
    ] {
        assert_eq!(loss(text), None, "{text}");
    }
}

#[test]
fn a_statement_too_long_to_be_read_to_its_end_is_not_taken_for_harmless() {
    let long = |n: usize| "1, ".repeat(n) + "1";
    assert_eq!(loss(&format!("insert into a values ({})", long(4000))), None);
    assert_eq!(loss(&format!("create table a (b int{})", ", c int check (c in (1, 2))".repeat(500))), None);
    for text in [
        format!("update a set b = c in ({}) where d", long(4000)),
        format!("select {}, clean_up()", long(4000)),
        format!("insert into a select {}, clean_up()", long(4000)),
        format!("alter table a {} add z int, drop b", "add b int, ".repeat(1200)),
        format!("drop view {} b cascade", "a, ".repeat(2100)),
    ] {
        assert!(loss(&text).is_some());
    }
}

#[test]
fn a_script_tells_the_strongest_lock_of_each_relation_and_leaves_out_what_it_makes() {
    let script = script(
        "CREATE TABLE new_one (id int REFERENCES users);
         ALTER TABLE new_one ADD b int;
         CREATE INDEX ON \"tickets\" (a);
         ALTER TABLE Tickets ADD b int, ALTER a SET STATISTICS 5;
         DELETE FROM tickets WHERE id = 1;
         CREATE TABLE IF NOT EXISTS perhaps ();
         CREATE INDEX ON perhaps (a);
         DROP INDEX i; DROP INDEX j;
         DO $$ BEGIN END $$;",
    );
    let told: Vec<_> =
        script.locks().iter().map(|lock| format!("{} {}: {}", lock.command, lock.relation, lock.mode)).collect();
    assert_eq!(
        told,
        [
            "ALTER TABLE tickets: ACCESS EXCLUSIVE",
            "DROP INDEX i: ACCESS EXCLUSIVE",
            "DROP INDEX j: ACCESS EXCLUSIVE",
            "CREATE TABLE users: SHARE ROW EXCLUSIVE",
            "CREATE INDEX perhaps: SHARE",
        ]
    );
    assert_eq!(script.more_locks(), ["the table of the index", "what its body names"]);
    assert_eq!(script.destructive().map(|(at, how)| (at.line, how)), Some((9, "DO")));
}

#[test]
fn names_are_folded_as_postgresql_does() {
    let of = |text: &str| {
        script(text).locks().iter().map(|ScriptLock { relation, .. }| (*relation).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        of("lock table A, \"b\", S.\"C d\", \"x\"\"y\", only (e), f *"),
        ["\"x\"\"y\"", "a", "b", "e", "f", "s.\"C d\""]
    );
    assert_eq!(of("alter table if exists only \"Ä\" add b int"), ["\"Ä\""]);
}

/// Pieces that the tables take for something.
const PIECES: &[&str] = &[
    "explain ",
    "explain (",
    "analyze ",
    "(",
    ")",
    ",",
    " ",
    ".",
    ";",
    "select ",
    "from ",
    "join ",
    "using ",
    "where ",
    "as ",
    "with ",
    "t ",
    "\"t\"",
    "\"\"",
    "\"",
    "u&\"t\"",
    "only ",
    "for update of ",
    "update ",
    "set ",
    "delete from ",
    "insert into ",
    "values ",
    "merge into ",
    "alter table ",
    "alter ",
    "add ",
    "drop ",
    "column ",
    "type ",
    "restart ",
    "restart",
    "create ",
    "table ",
    "partition of ",
    "like ",
    "references ",
    "inherits (",
    "on ",
    "vacuum ",
    "full ",
    "copy ",
    "lock ",
    "in ",
    "mode",
    "comment on column ",
    "f(",
    "cascade",
    "= ",
    "é",
];

proptest::proptest! {
    #![proptest_config(crate::testing::same_cases(2000))]

    #[test]
    fn no_statement_is_too_strange(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)) {
        for statement in script(&pieces.concat()).statements {
            let effect = statement.effect;
            proptest::prop_assert!(effect.locks.iter().all(|lock| !lock.relation.is_empty()));
            proptest::prop_assert!(!effect.forms.is_empty() || effect.destructive.is_some(), "what is not known is destructive");
        }
    }
}

#[test]
fn nesting_has_no_limit() {
    for piece in ["explain ", "(", "explain (analyze) ", "select (", "with a as ("] {
        script(&piece.repeat(5000));
    }
}

#[test]
fn modes_are_ordered_by_strength() {
    assert!(LockMode::ALL.is_sorted());
    assert_eq!(LockMode::ALL.last().map(ToString::to_string).as_deref(), Some("ACCESS EXCLUSIVE"));
}
