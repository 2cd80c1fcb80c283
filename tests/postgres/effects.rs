//! What the tables of src/script/effect say, row by row, against what the server does.

use std::collections::{BTreeMap, BTreeSet};

use belay::script::{Effect, History, harmless_functions, statement_forms};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::effect_examples::{EXAMPLES, Example, How, SCHEMA};
use crate::support::postgres::{Postgres, TestDatabase};
use crate::support::{SOON, eventually};

/// Relation → its strongest lock.
type Locks = BTreeMap<String, String>;

fn effect(sql: &str) -> Effect {
    let history = History::from_files([("001_a.sql".to_owned(), sql.as_bytes().to_vec())])
        .unwrap_or_else(|faults| panic!("{sql}: {faults:?}"));
    let script = history.latest().unwrap();
    assert_eq!(script.statements.len(), 1, "{sql}");
    script.statements[0].effect.clone()
}

async fn database() -> TestDatabase {
    let database = Postgres::shared().database().await;
    database
        .admin(&format!("{SCHEMA}; CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO {}", database.role))
        .await;
    database
}

async fn run(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The relations outside the system's schemas: their OIDs.
async fn relations(connection: &mut PgConnection) -> Vec<i64> {
    let sql = "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
               WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'";
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

/// The strongest lock of a backend on each of these relations, held or asked for. Indexes and sequences count if they are
/// named: they go with their table.
async fn locks(connection: &mut PgConnection, pid: i32, before: &[i64], named: &[String]) -> Locks {
    let rows = sqlx::query(
        "SELECT relname::text, mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
         WHERE l.pid = $1 AND locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND c.oid::bigint = ANY($2) AND (relkind IN ('r', 'p', 'v', 'm', 'f', 'c') OR relname = ANY($3))",
    )
    .bind(pid)
    .bind(before)
    .bind(named)
    .fetch_all(connection)
    .await
    .unwrap();
    let mut strongest: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let (relation, mode): (String, String) = (row.get(0), row.get(1));
        let rank = MODES.iter().position(|(name, _)| *name == mode).unwrap_or_else(|| panic!("{mode}"));
        strongest.entry(relation).and_modify(|known| *known = rank.max(*known)).or_insert(rank);
    }
    strongest.into_iter().map(|(relation, rank)| (relation, MODES[rank].1.to_owned())).collect()
}

/// pg_locks' names and the documentation's, weakest first: not taken from what is tested.
const MODES: [(&str, &str); 8] = [
    ("AccessShareLock", "ACCESS SHARE"),
    ("RowShareLock", "ROW SHARE"),
    ("RowExclusiveLock", "ROW EXCLUSIVE"),
    ("ShareUpdateExclusiveLock", "SHARE UPDATE EXCLUSIVE"),
    ("ShareLock", "SHARE"),
    ("ShareRowExclusiveLock", "SHARE ROW EXCLUSIVE"),
    ("ExclusiveLock", "EXCLUSIVE"),
    ("AccessExclusiveLock", "ACCESS EXCLUSIVE"),
];

/// What the effect says, of relations that were there before.
fn told(effect: &Effect) -> Locks {
    let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_owned();
    effect.locks.iter().map(|lock| (bare(&lock.relation), lock.mode.to_string())).collect()
}

/// Whether the server locks what is not told by name.
fn has_more(effect: &Effect, seen: &Locks) -> bool {
    let told = told(effect);
    seen.keys().any(|relation| !told.contains_key(relation))
}

/// Rows whose examples lock nothing more, because what they run is empty here: an extension's script, a library, one tablespace.
const OPEN: [&str; 4] = ["CREATE EXTENSION", "ALTER EXTENSION … UPDATE", "LOAD", "ALTER … ALL IN TABLESPACE"];

/// What is wrong with what is told, if anything.
fn differ(example: &Example, effect: &Effect, seen: &Locks) -> Option<String> {
    let told = told(effect);
    let missing: Vec<_> = told.iter().filter(|(relation, mode)| seen.get(*relation) != Some(*mode)).collect();
    let untold: Vec<_> = seen.iter().filter(|(relation, _)| !told.contains_key(*relation)).collect();
    let wrong = !missing.is_empty() || !untold.is_empty() && effect.more.is_none();
    wrong.then(|| {
        format!("{}: {}\n    told {told:?}, more {:?}\n    seen {seen:?}", example.form, example.sql, effect.more)
    })
}

#[test]
fn every_row_has_an_example_that_it_matches_and_no_name_is_used_twice() {
    let rows: Vec<_> = statement_forms().collect();
    let names: BTreeSet<_> = rows.iter().copied().collect();
    assert_eq!(rows.len(), names.len(), "two rows have one name");
    let examples: BTreeSet<_> = EXAMPLES.iter().map(|example| example.form).collect();
    let without: Vec<_> = names.difference(&examples).collect();
    assert!(without.is_empty(), "rows without an example: {without:?}");
    let other: Vec<_> = examples.difference(&names).collect();
    assert!(other.is_empty(), "examples of no row: {other:?}");
    for example in EXAMPLES {
        let told = effect(example.sql);
        assert!(told.forms.contains(&example.form), "{}: {:?} told {}", example.form, told.forms, example.sql);
        if let How::Unproven(why) = example.how {
            assert!(told.locks.is_empty(), "{} claims a lock, and is not proven: {why}", example.form);
        }
    }
}

#[tokio::test]
async fn each_row_tells_the_locks_that_the_server_takes() {
    let database = database().await;
    let (mut session, mut observer) = (database.superuser().await, database.superuser().await);
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut session).await.unwrap();
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int / 10000")
        .fetch_one(&mut session)
        .await
        .unwrap();
    let mut more: BTreeMap<&str, bool> = BTreeMap::new();
    run(&mut session, "PREPARE known AS DELETE FROM u").await;
    let before = relations(&mut observer).await;
    let mut wrong = Vec::new();
    for example in EXAMPLES {
        let told = effect(example.sql);
        let named: Vec<_> = self::told(&told).into_keys().collect();
        match example.how {
            How::InTransaction | How::AsOwner => {}
            How::Since(first) if version >= first => {}
            _ => continue,
        }
        run(&mut session, "BEGIN").await;
        if matches!(example.how, How::AsOwner) {
            run(&mut session, &format!("SET LOCAL ROLE {}", database.role)).await;
        }
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(example.sql)).execute(&mut session).await {
            wrong.push(format!("{}: {}: {error}", example.form, example.sql));
        } else {
            let seen = locks(&mut observer, pid, &before, &named).await;
            if told.more.is_some() {
                *more.entry(example.form).or_default() |= has_more(&told, &seen);
            }
            wrong.extend(differ(example, &told, &seen));
        }
        run(&mut session, "ROLLBACK").await;
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), EXAMPLES.len(), wrong.join("\n"));
    let idle: Vec<_> = more.iter().filter(|(form, more)| !**more && !OPEN.contains(form)).collect();
    assert!(idle.is_empty(), "they say that more is locked, and no example shows it: {idle:?}");
}

#[tokio::test]
async fn what_runs_outside_a_transaction_waits_with_the_lock_that_is_told() {
    let database = database().await;
    let mut observer = database.superuser().await;
    let mut wrong = Vec::new();
    for example in EXAMPLES {
        let How::Outside { blocker } = example.how else { continue };
        let told = effect(example.sql);
        let named: Vec<_> = self::told(&told).into_keys().collect();
        let (mut holder, mut session) = (database.superuser().await, database.superuser().await);
        let before = relations(&mut observer).await;
        run(&mut holder, "BEGIN").await;
        run(&mut holder, blocker).await;
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut session).await.unwrap();
        let running = sqlx::raw_sql(AssertSqlSafe(example.sql)).execute(&mut session);
        let looking = async {
            let waits = "SELECT true FROM pg_locks WHERE pid = $1 AND NOT granted";
            eventually(&format!("{} waits", example.sql), SOON, async || {
                sqlx::query_scalar::<_, bool>(waits).bind(pid).fetch_optional(&mut observer).await.unwrap()
            })
            .await;
            let seen = locks(&mut observer, pid, &before, &named).await;
            sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(&mut observer).await.unwrap();
            seen
        };
        let (_, seen) = tokio::join!(running, looking);
        wrong.extend(differ(example, &told, &seen));
        run(&mut holder, "ROLLBACK").await;
        // What was cancelled may have left an index or a partition half detached.
        if !example.mend.is_empty() {
            run(&mut session, example.mend).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Forms that change the rows that they name, or add up to that, and are not counted as destructive for it.
const MEANT: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "MERGE", "WITH"];

/// What a relation holds: of each row the values, whatever their columns are called; of a sequence where it is.
async fn contents(connection: &mut PgConnection, oid: i64) -> Option<Vec<Vec<String>>> {
    let kind = "SELECT relkind::text FROM pg_class WHERE oid::bigint = $1";
    let kind: String = sqlx::query_scalar(kind).bind(oid).fetch_optional(&mut *connection).await.unwrap()?;
    if !["r", "p", "m", "S"].contains(&kind.as_str()) {
        return Some(Vec::new());
    }
    let name: String =
        sqlx::query_scalar("SELECT $1::oid::regclass::text").bind(oid).fetch_one(&mut *connection).await.unwrap();
    let values = match kind.as_str() {
        "S" => "ARRAY[last_value::text, is_called::text]",
        _ => "coalesce((SELECT array_agg(value::text) FROM jsonb_each(to_jsonb(the_row))), ARRAY[]::text[])",
    };
    let sql = format!("SELECT {values} FROM {name} the_row");
    // Planned anew: NO INHERIT does not tell plans of the parent that are kept.
    let rows = sqlx::query_scalar(AssertSqlSafe(sql.clone())).persistent(false).fetch_all(connection).await;
    Some(rows.unwrap_or_else(|error| panic!("{sql}: {error}")))
}

/// Whether each row is still there, with all of its values; it may have more.
fn holds(now: &[Vec<String>], before: &[Vec<String>]) -> bool {
    before.iter().all(|row| now.iter().any(|new| row.iter().all(|value| new.contains(value))))
}

#[tokio::test]
async fn what_is_not_called_destructive_leaves_every_row_as_it_was() {
    let database = database().await;
    let mut session = database.superuser().await;
    let mut before = Vec::new();
    for oid in relations(&mut session).await {
        before.push((oid, contents(&mut session, oid).await.unwrap()));
    }
    assert!(before.iter().filter(|(_, rows)| !rows.is_empty()).count() > 10, "there are rows to lose");
    let (mut wrong, mut harmful) = (Vec::new(), 0);
    for example in EXAMPLES {
        if !matches!(example.how, How::InTransaction) || MEANT.contains(&example.form) {
            continue;
        }
        run(&mut session, "BEGIN; PREPARE known AS DELETE FROM u").await;
        run(&mut session, example.sql).await;
        let mut lost = Vec::new();
        for (oid, rows) in &before {
            let now = contents(&mut session, *oid).await;
            // An index that was rebuilt, or a view, holds nothing.
            let gone = if rows.is_empty() { false } else { now.is_none_or(|now| !holds(&now, rows)) };
            lost.extend(gone.then_some(*oid));
        }
        run(&mut session, "ROLLBACK; DEALLOCATE known").await;
        match effect(example.sql).destructive {
            None if !lost.is_empty() => wrong.push(format!("{}: {}: {lost:?}", example.form, example.sql)),
            None => {}
            Some(_) => harmful += usize::from(!lost.is_empty()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(harmful > 10, "what is called destructive was seen to be so {harmful} times only");
}

#[tokio::test]
async fn a_function_that_is_called_harmless_is_postgresqls_own_and_writes_nothing() {
    let mut session = Postgres::shared().superuser("postgres").await;
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int / 10000")
        .fetch_one(&mut session)
        .await
        .unwrap();
    let rows: Vec<(String, bool)> = sqlx::query_as(
        "SELECT proname::text, bool_or(provolatile = 'v') FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1",
    )
    .fetch_all(&mut session)
    .await
    .unwrap();
    let known: BTreeMap<_, _> = rows.into_iter().collect();
    // They look at a clock, at chance, at the disk or at the session; a setting and a sequence's next number are no data.
    let reads = [
        "clock_timestamp",
        "currval",
        "gen_random_uuid",
        "lastval",
        "nextval",
        "pg_database_size",
        "pg_indexes_size",
        "pg_is_in_recovery",
        "pg_relation_size",
        "pg_table_size",
        "pg_total_relation_size",
        "random",
        "set_config",
        "setseed",
        "timeofday",
        "uuidv4",
        "uuidv7",
        "random_normal",
        "array_shuffle",
        "array_sample",
    ];
    let since = [
        ("any_value", 16),
        ("array_shuffle", 16),
        ("array_sample", 16),
        ("random_normal", 16),
        ("array_sort", 18),
        ("array_reverse", 18),
        ("uuidv4", 18),
        ("uuidv7", 18),
    ];
    for function in harmless_functions() {
        match known.get(function) {
            Some(volatile) => assert!(!volatile || reads.contains(&function), "{function} is volatile"),
            None => {
                let newer = since.iter().any(|(name, first)| *name == function && version < *first);
                assert!(newer, "PostgreSQL {version} has no {function}");
            }
        }
    }
}
