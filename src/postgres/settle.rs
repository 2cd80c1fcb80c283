//! Whether a statement that ran outside a transaction was done, as the catalogue has it, and what it left half done.
//!
//! A CREATE INDEX CONCURRENTLY that failed leaves an invalid index, which a later IF NOT EXISTS takes for the index; a
//! DETACH PARTITION CONCURRENTLY that was cut short is pending. Both are put right here. Everything is asked with the
//! search_path that the script has set, so every name of Belay's own is qualified.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::attempt::{Sent, Task};
use super::engine::Engine;
use super::message::Message;
use super::outside::milliseconds;
use super::quote::Literal;
use super::session::{Fault, Row, text};
use super::sqlstate::{Retry, retry};
use super::watch::Limit;
use crate::script::{IndexDefinition, Object, Settle};

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Done,
    /// And nothing of it is left: it may be run again.
    NotDone,
    /// It may be run again, but something that it left could not be put away.
    Left,
    /// Nobody can tell.
    InDoubt,
}

/// An index, and how it is.
struct Index {
    /// Qualified and quoted.
    name: String,
    /// The same of its table.
    table: String,
    /// Quoted: that without its schema.
    of: String,
    /// Then that is no table.
    materialized: bool,
    valid: bool,
}

impl Engine {
    /// What the catalogue has before a statement, for [`Engine::settle`] to tell later what it made.
    pub(super) async fn snapshot(&mut self, settle: &Settle) -> Result<Value, Fault> {
        let mut before = self.seen_before(settle).await?;
        if let Some(before) = before.as_object_mut() {
            before.insert("of".to_owned(), self.place().await?.into());
        }
        Ok(before)
    }

    /// Where a snapshot's OIDs mean something. A ledger that was restored is another table, if not in another database.
    async fn place(&mut self) -> Result<String, Fault> {
        let sql = format!("SELECT {}::pg_catalog.oid::text", relation(&self.table("statement")));
        let rows = self.try_query(sql).await?;
        let table = rows.first().map(|row| text(row, 0)).unwrap_or_default();
        let identity = &self.identity;
        let system = identity.system_identifier.as_deref().unwrap_or_default();
        Ok(format!("{system}/{}/{table}", identity.database_oid))
    }

    /// What still counts of a snapshot: its OIDs only where they are from. One of an older Belay does not say where.
    async fn what_counts(&mut self, before: &Value) -> Result<Value, Fault> {
        let mut before = before.clone();
        if let Some(seen) = before.as_object_mut()
            && let Some(of) = seen.get("of").and_then(Value::as_str)
            && of != self.place().await?
        {
            for oids in ["keys", INDEXES, "invalid"] {
                seen.remove(oids);
            }
        }
        Ok(before)
    }

    async fn seen_before(&mut self, settle: &Settle) -> Result<Value, Fault> {
        let of_indexes = |condition: String| {
            format!(
                "SELECT coalesce(pg_catalog.json_agg(i.indexrelid::pg_catalog.int8), '[]')::text FROM pg_catalog.pg_index i \
                 WHERE {condition}"
            )
        };
        Ok(match settle {
            Settle::CreateIndex(index) => {
                let sql = of_indexes(format!("i.indrelid = {}", relation(&index.table)));
                json!({ INDEXES: self.json(sql).await? })
            }
            Settle::Reindex => json!({ "invalid": self.json(of_indexes("NOT i.indisvalid".to_owned())).await? }),
            Settle::Create(object, name) => json!({ "exists": !self.is_gone(of_name(*object, name)).await? }),
            Settle::DropIndexes(names) => self.doomed(&of_indexes_named(names)).await?,
            Settle::Drop(object, name) => self.doomed(&of_name(*object, name)).await?,
            Settle::Detach { table, partition } => self.doomed(&inheritance(table, partition)).await?,
            Settle::Repeat | Settle::Unknown => Value::Null,
        })
    }

    /// Before a statement: puts away what an earlier try, whoever's, has left in its place. Done: somebody did just this
    /// already.
    pub(super) async fn clear_the_way(
        &mut self,
        task: &Task<'_>,
        number: usize,
        settle: &Settle,
    ) -> Result<Settled, Fault> {
        let Settle::CreateIndex(definition @ IndexDefinition { name: Some(name), .. }) = settle else {
            return Ok(Settled::NotDone);
        };
        let there = self.indexes(definition, &format!("c.relname = {}", folded(name))).await?;
        match there.first() {
            Some(index) if index.valid => match self.is_defined_so(task, number, index, definition).await? {
                Some(true) => Ok(Settled::Done),
                // The server has words for it.
                Some(false) | None => Ok(Settled::NotDone),
            },
            Some(index) => {
                self.drop_invalid(task, number, index, Limit::patient(self, task)).await?;
                Ok(Settled::NotDone)
            }
            None => Ok(Settled::NotDone),
        }
    }

    /// Whether statement `number` of the task's script, which was begun, is done; what it left half done is put right, within
    /// the task's patience. `before`: see [`Engine::snapshot`]. Needs the certainty that nobody is running it any more.
    pub(super) async fn settle(
        &mut self,
        task: &Task<'_>,
        number: usize,
        settle: &Settle,
        before: &Value,
    ) -> Result<Settled, Fault> {
        let before = &self.what_counts(before).await?;
        let done_if = |done: bool| if done { Settled::Done } else { Settled::NotDone };
        // A row of an older Belay does not say.
        let was_there = before.get("exists").and_then(Value::as_bool);
        match settle {
            Settle::Repeat => Ok(Settled::NotDone),
            Settle::Unknown => Ok(Settled::InDoubt),
            Settle::Reindex => self.drop_leftovers(task, number, before).await,
            Settle::CreateIndex(definition) => self.settle_index(task, number, definition, before).await,
            Settle::Create(object, name) => {
                Ok(done_if(was_there != Some(true) && !self.is_gone(of_name(*object, name)).await?))
            }
            // What was not there is gone without its doing.
            Settle::DropIndexes(_) | Settle::Drop(..) | Settle::Detach { .. } if was_there == Some(false) => {
                Ok(Settled::NotDone)
            }
            Settle::DropIndexes(names) => match self.settle_drop(of_indexes_named(names), before).await? {
                // A REINDEX CONCURRENTLY puts another in the place of one that is still there.
                Settled::Done if !self.is_gone(of_indexes_named(names)).await? => Ok(Settled::InDoubt),
                settled => Ok(settled),
            },
            Settle::Drop(object, name) => self.settle_drop(of_name(*object, name), before).await,
            Settle::Detach { table, partition } => {
                self.settle_detach(task, number, &inheritance(table, partition).that_were_there(before)).await
            }
        }
    }

    async fn settle_index(
        &mut self,
        task: &Task<'_>,
        number: usize,
        definition: &IndexDefinition,
        before: &Value,
    ) -> Result<Settled, Fault> {
        let mut condition = not_among(before, INDEXES);
        if let Some(name) = &definition.name {
            condition.push_str(&format!(" AND c.relname = {}", folded(name)));
        }
        // Without a name, one that is just like it may have been there before.
        let may_be_older = definition.name.is_none() && before.get(INDEXES).is_none();
        let mut settled = Settled::NotDone;
        for index in self.indexes(definition, &condition).await? {
            let alike = self.is_defined_so(task, number, &index, definition).await?;
            // Somebody else's, made meanwhile. Where that is not known, one that is invalid goes all the same: it serves nobody.
            if alike == Some(false) {
                continue;
            }
            if index.valid || !self.drop_invalid(task, number, &index, Limit::patient(self, task)).await? {
                settled = if alike.is_some() && !may_be_older { Settled::Done } else { Settled::InDoubt };
            }
        }
        Ok(settled)
    }

    /// The indexes of a definition's table.
    async fn indexes(&mut self, definition: &IndexDefinition, condition: &str) -> Result<Vec<Index>, Fault> {
        let sql = format!("{INDEX} WHERE i.indrelid = {} AND {condition}", relation(&definition.table));
        Ok(self.try_query(sql).await?.iter().map(index).collect())
    }

    /// Whether an index is what a definition asks for: the server builds the definition on an empty table that is like the
    /// other one, and shows both. None: it does not build it, for want of the right to temporary tables, say.
    async fn is_defined_so(
        &mut self,
        task: &Task<'_>,
        number: usize,
        index: &Index,
        definition: &IndexDefinition,
    ) -> Result<Option<bool>, Fault> {
        let unique = if definition.unique { "UNIQUE " } else { "" };
        // What pg_get_indexdef() says behind the table's name, and whether the index is unique.
        let shown = |index: &str| {
            format!(
                "SELECT i.indisunique::text || pg_catalog.substring(pg_catalog.pg_get_indexdef(i.indexrelid), ' USING .*') \
                 FROM pg_catalog.pg_index i WHERE i.indexrelid = pg_catalog.to_regclass({index})"
            )
        };
        // Of the table's own name: the definition may use it.
        let like = format!(
            "BEGIN;CREATE TEMPORARY TABLE {like} (LIKE {table}) ON COMMIT DROP;\
             CREATE {unique}INDEX belay_like_index ON pg_temp.{like} {rest}\n",
            like = index.of,
            table = index.table,
            rest = definition.rest,
        );
        let both =
            format!("{};{};ROLLBACK", shown(&Literal(&index.name).to_string()), shown("'pg_temp.belay_like_index'"));
        let compared = match self.mend(task, number, like, Limit::of_try(self, task)).await {
            Ok(()) => self.try_query(both).await,
            Err(fault) => Err(fault),
        };
        match compared {
            Ok(rows) => Ok(Some(matches!(&rows[..], [one, other] if !text(one, 0).is_empty() && one == other))),
            Err(fault) => {
                let _ = self.rollback().await;
                match fault {
                    Fault::Server(error) if retry(&error.sql_state) == Retry::No && !task.cancel.is_cancelled() => {
                        Ok(None)
                    }
                    fault => Err(fault),
                }
            }
        }
    }

    /// A wait long enough for an autovacuum to give way.
    fn short_wait(&self, task: &Task<'_>) -> Limit {
        Limit::within(task, self.deadlock_timeout + Duration::from_secs(1))
    }

    /// REINDEX CONCURRENTLY builds beside the old index, under its name with _ccnew or _ccold behind it. Those of TOAST
    /// tables are nobody's to lock or to drop: the server passes over them when it is run again.
    async fn drop_leftovers(&mut self, task: &Task<'_>, number: usize, before: &Value) -> Result<Settled, Fault> {
        let sql = format!(
            "{INDEX} WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' AND t.relkind <> 't' AND {}",
            not_among(before, "invalid")
        );
        let left: Vec<_> = self.try_query(sql).await?.iter().map(index).collect();
        let mut settled = Settled::NotDone;
        for index in &left {
            match self.drop_invalid(task, number, index, self.short_wait(task)).await {
                Ok(_) => {}
                // It may be of somebody else's REINDEX, and is in the way of nothing.
                Err(Fault::Server(error)) => {
                    tracing::warn!(index = index.name, "an invalid index could not be dropped: {error}");
                    settled = Settled::Left;
                    if task.cancel.is_cancelled() || task.patience.left().is_zero() {
                        break;
                    }
                }
                Err(lost) => return Err(lost),
            }
        }
        Ok(settled)
    }

    /// Drops an invalid index. Not dropped, so false, when it is valid after all: somebody was still building it, which
    /// the lock that a build holds on the table tells.
    async fn drop_invalid(
        &mut self,
        task: &Task<'_>,
        number: usize,
        index: &Index,
        limit: Limit,
    ) -> Result<bool, Fault> {
        let lock = match index.materialized {
            // LOCK refuses it. This takes the same lock, and is rolled back.
            true => format!("COMMENT ON MATERIALIZED VIEW {} IS NULL", index.table),
            false => format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", index.table),
        };
        let is_valid = format!(
            "SELECT i.indisvalid::text FROM pg_catalog.pg_index i WHERE i.indexrelid = pg_catalog.to_regclass({});ROLLBACK",
            Literal(&index.name)
        );
        let looked = match self.mend(task, number, format!("BEGIN;{lock}"), limit).await {
            Ok(()) => self.try_query(is_valid).await,
            Err(fault) => Err(fault),
        };
        let rows = match looked {
            Ok(rows) => rows,
            Err(fault) => {
                let _ = self.rollback().await;
                return Err(fault);
            }
        };
        if rows.first().is_some_and(|row| text(row, 0) == "true") {
            return Ok(false);
        }
        tracing::info!(index = index.name, "an invalid index is dropped");
        let limit = Limit::patient(self, task);
        self.mend(task, number, format!("DROP INDEX CONCURRENTLY IF EXISTS {}", index.name), limit).await?;
        Ok(true)
    }

    async fn settle_drop(&mut self, rows: Rows, before: &Value) -> Result<Settled, Fault> {
        let rows = rows.that_were_there(before);
        let sql =
            format!("SELECT pg_catalog.bool_or({})::text FROM {rows} HAVING pg_catalog.count(*) > 0", rows.broken);
        let was_broken = before.get("broken").and_then(Value::as_bool) == Some(true);
        Ok(match self.try_query(sql).await?.first() {
            None => Settled::Done,
            Some(row) if text(row, 0) == "true" && !was_broken => Settled::Left,
            Some(_) => Settled::NotDone,
        })
    }

    async fn settle_detach(&mut self, task: &Task<'_>, number: usize, inheritance: &Rows) -> Result<Settled, Fault> {
        let sql = format!(
            "SELECT i.inhdetachpending::text, i.inhparent::pg_catalog.regclass::text, \
             i.inhrelid::pg_catalog.regclass::text FROM {inheritance}"
        );
        let rows = self.try_query(sql).await?;
        match rows.first() {
            None => Ok(Settled::Done),
            Some(row) if text(row, 0) == "true" => {
                let (table, partition) = (text(row, 1), text(row, 2));
                // It locks readers of the partition out. Who asks again, pauses before.
                let limit = Limit::of_try(self, task);
                let sql = format!("ALTER TABLE {table} DETACH PARTITION {partition} FINALIZE");
                self.mend(task, number, sql, limit).await?;
                Ok(Settled::Done)
            }
            Some(_) => Ok(Settled::NotDone),
        }
    }

    /// Runs what puts something right as the statement itself would be run: with a look from beside it, within these limits.
    async fn mend(&mut self, task: &Task<'_>, number: usize, sql: String, limit: Limit) -> Result<(), Fault> {
        let mut settings = vec![format!("SET lock_timeout = {}", milliseconds(limit.any))];
        settings.push("SET statement_timeout = 0".to_owned());
        if self.transaction_timeout {
            settings.push("SET transaction_timeout = 0".to_owned());
        }
        self.try_query(settings.join(";")).await?;
        match self.send(&Message::own(sql), task, 0, number, limit).await {
            Sent::Done | Sent::NoRow => Ok(()),
            Sent::Failed { fault, .. } => {
                if matches!(fault, Fault::Lost { .. }) {
                    self.drop_session();
                }
                Err(fault)
            }
        }
    }

    /// What is to be dropped, for a snapshot. What the server will not even look for, it does not drop.
    async fn doomed(&mut self, rows: &Rows) -> Result<Value, Fault> {
        let sql = format!(
            "SELECT pg_catalog.json_build_object('exists', pg_catalog.count(*) > 0, 'keys', coalesce(pg_catalog.json_agg({}::text), '[]'), \
             'broken', coalesce(pg_catalog.bool_or({}), false))::text FROM {rows}",
            rows.key, rows.broken
        );
        match self.json(sql).await {
            Err(Fault::Server(_)) => Ok(json!({ "exists": false })),
            doomed => doomed,
        }
    }

    async fn is_gone(&mut self, rows: Rows) -> Result<bool, Fault> {
        let answer = self.try_query(format!("SELECT (NOT EXISTS (SELECT FROM {rows}))::text")).await?;
        Ok(answer.first().is_some_and(|row| text(row, 0) == "true"))
    }

    async fn json(&mut self, sql: String) -> Result<Value, Fault> {
        let rows = self.try_query(sql).await?;
        Ok(rows.first().and_then(|row| serde_json::from_str(text(row, 0)).ok()).unwrap_or_default())
    }
}

/// Of a snapshot: the indexes of a table.
const INDEXES: &str = "indexes";

/// Rows as [`index`] reads them.
const INDEX: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.format('%I.%I', m.nspname, t.relname), \
    i.indisvalid::text, t.relkind::text, pg_catalog.format('%I', t.relname) FROM pg_catalog.pg_index i \
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace";

fn index(row: &Row) -> Index {
    Index {
        name: text(row, 0).to_owned(),
        table: text(row, 1).to_owned(),
        of: text(row, 4).to_owned(),
        materialized: text(row, 3) == "m",
        valid: text(row, 2) == "true",
    }
}

/// A condition: an index is none of those that a snapshot has.
fn not_among(before: &Value, key: &str) -> String {
    let oids: Vec<_> =
        before.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64).collect();
    match oids.is_empty() {
        true => "true".to_owned(),
        false => {
            let oids: Vec<_> = oids.iter().map(u64::to_string).collect();
            format!("i.indexrelid NOT IN ({})", oids.join(", "))
        }
    }
}

/// A name without a schema, as the catalogue has it: in lower case unless it is quoted, and no longer than the server
/// keeps it.
fn folded(name: &str) -> String {
    format!("(pg_catalog.parse_ident({}))[1]::pg_catalog.name", Literal(name))
}

/// What a relation's name means on the path that the script has set.
fn relation(name: &str) -> String {
    format!("pg_catalog.to_regclass({})", Literal(name))
}

/// Rows of a catalogue, as FROM takes them.
struct Rows {
    catalogue: &'static str,
    /// What tells a row from a later one of the same name.
    key: &'static str,
    /// A condition: it was to be dropped, and that was cut short, so that it is there and of no use.
    broken: &'static str,
    condition: String,
}

impl Rows {
    /// The very rows that a snapshot has. One of an older Belay does not say which: then those of the name.
    fn that_were_there(self, before: &Value) -> Self {
        let Some(keys) = before.get("keys").and_then(Value::as_array) else { return self };
        let keys: Vec<_> = keys.iter().filter_map(Value::as_str).map(|key| Literal(key).to_string()).collect();
        Self { condition: format!("{}::text IN ({})", self.key, keys.join(", ")), ..self }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} WHERE {}", self.catalogue, self.condition)
    }
}

/// The object of this name.
fn of_name(object: Object, name: &str) -> Rows {
    let name = folded(name);
    let (catalogue, key, broken, condition) = match object {
        // DATCONNLIMIT_INVALID_DB
        Object::Database => ("pg_catalog.pg_database d", "d.oid", "d.datconnlimit = -2", format!("d.datname = {name}")),
        Object::Tablespace => ("pg_catalog.pg_tablespace s", "s.oid", "false", format!("s.spcname = {name}")),
        Object::Subscription => (
            "pg_catalog.pg_subscription s",
            "s.oid",
            "false",
            format!(
                "s.subname = {name} AND s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = \
                 pg_catalog.current_database())"
            ),
        ),
    };
    Rows { catalogue, key, broken, condition }
}

fn of_indexes_named(names: &[String]) -> Rows {
    let names: Vec<_> = names.iter().map(|name| relation(name)).collect();
    let condition = format!("c.oid IN ({})", names.join(", "));
    // It serves no query any more, and is written to all the same.
    let broken = "EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid AND NOT i.indisvalid)";
    Rows { catalogue: "pg_catalog.pg_class c", key: "c.oid", broken, condition }
}

/// The row that makes one table the other's partition.
fn inheritance(table: &str, partition: &str) -> Rows {
    let condition = format!("i.inhparent = {} AND i.inhrelid = {}", relation(table), relation(partition));
    Rows {
        catalogue: "pg_catalog.pg_inherits i",
        key: "(i.inhparent, i.inhrelid)",
        broken: "i.inhdetachpending",
        condition,
    }
}
