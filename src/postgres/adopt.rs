//! The ledgers of other tools: reading them, and taking one over while its tool keeps still.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::apply::RunContext;
use super::engine::Engine;
use super::error::PostgresError;
use super::quote::{Ident, Literal};
use super::session::{Fault, Row, text};
use crate::plan::{ForeignLedger, ForeignRow, PlannedScript, Tool, crc32};

/// How often another tool that is at work is looked at again.
const POLL: Duration = Duration::from_millis(500);

/// A table that a tool keeps its ledger in, and how it is read: version, name, kind, ok, checksum.
struct Known {
    tool: Tool,
    table: &'static str,
    /// The columns that make it that tool's.
    columns: &'static [&'static str],
    values: &'static str,
    order: &'static str,
}

/// Of two with the same table, the first whose columns are there.
const KNOWN: &[Known] = &[
    Known {
        tool: Tool::Flyway,
        table: "flyway_schema_history",
        columns: &["installed_rank", "version", "script", "type", "success", "checksum"],
        values: "version, script, type, success::text, checksum::text",
        order: "installed_rank",
    },
    Known {
        tool: Tool::GolangMigrate,
        table: "schema_migrations",
        columns: &["version", "dirty"],
        values: "version::text, NULL, NULL, (NOT dirty)::text, NULL",
        order: "version",
    },
    Known {
        tool: Tool::Dbmate,
        table: "schema_migrations",
        columns: &["version"],
        values: "version::text, NULL, NULL, 'true', NULL",
        order: "version",
    },
    Known {
        tool: Tool::Goose,
        table: "goose_db_version",
        columns: &["id", "version_id", "is_applied"],
        values: "version_id::text, NULL, is_applied::text, 'true', NULL",
        order: "id",
    },
    Known {
        tool: Tool::Sqlx,
        table: "_sqlx_migrations",
        columns: &["version", "description", "success", "checksum"],
        values: "version::text, description, NULL, success::text, pg_catalog.encode(checksum, 'hex')",
        order: "version",
    },
    Known {
        tool: Tool::Refinery,
        table: "refinery_schema_history",
        columns: &["version", "name", "checksum"],
        values: "version::text, name, NULL, 'true', checksum::text",
        order: "version",
    },
    Known {
        tool: Tool::Diesel,
        table: "__diesel_schema_migrations",
        columns: &["version"],
        values: "version::text, NULL, NULL, 'true', NULL",
        order: "version",
    },
    Known {
        tool: Tool::Prisma,
        table: "_prisma_migrations",
        columns: &["id", "migration_name", "checksum", "finished_at", "rolled_back_at", "started_at"],
        values: "NULL, migration_name, CASE WHEN rolled_back_at IS NOT NULL THEN 'rolled back' END, \
                 (finished_at IS NOT NULL)::text, checksum",
        order: "started_at, id",
    },
];

impl Engine {
    /// The ledgers of other tools: in the schemas of the search path, with what they say; and in others that the login may
    /// use.
    pub(super) async fn foreign_ledgers(&mut self) -> Result<(Vec<ForeignLedger>, Vec<ForeignLedger>), PostgresError> {
        let (before, schemas, after) = self.schemas();
        let names: Vec<_> = KNOWN.iter().map(|known| Literal(known.table).to_string()).collect();
        let sql = format!(
            "{before}SELECT n.nspname::text, c.relname::text, (SELECT pg_catalog.string_agg(a.attname::text, ',') FROM \
             pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
             (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))::text, \
             (n.nspname = ANY ({schemas}))::text \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE (n.nspname = ANY ({schemas}) OR pg_catalog.has_schema_privilege(n.oid, 'USAGE')) \
             AND c.relname IN ({names}) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' ORDER BY 1, 2{after}",
            names = names.join(", "),
        );
        let tables = self.query("looking for ledgers of other tools", sql).await?;
        let (mut found, mut elsewhere) = (Vec::new(), Vec::new());
        for table in &tables {
            let columns: Vec<_> = text(table, 2).split(',').collect();
            let has = |known: &&Known| known.columns.iter().all(|column| columns.contains(column));
            let Some(known) = KNOWN.iter().filter(|known| known.table == text(table, 1)).find(has) else { continue };
            let mut ledger = ForeignLedger {
                tool: known.tool,
                schema: text(table, 0).to_owned(),
                table: text(table, 1).to_owned(),
                rows: None,
            };
            if text(table, 4) != "true" {
                elsewhere.push(ledger);
                continue;
            }
            if text(table, 3) == "true" {
                let sql = read_sql(&ledger);
                ledger.rows = Some(rows(&self.query("reading the ledger of another tool", sql).await?));
            }
            found.push(ledger);
        }
        Ok((found, elsewhere))
    }

    /// Records what another tool's ledger says was applied, while that tool keeps still: in one transaction its own
    /// advisory lock is tried, its table is locked against writers where this login may, and its ledger is read again.
    ///
    /// # Errors
    /// [`PostgresError::ForeignBusy`] when the tool is at work for as long as `locks.retry_for`, or until `cancel`;
    /// [`PostgresError::ForeignMoved`] when its ledger is not as it was.
    pub(super) async fn adopt(
        &mut self,
        run: &RunContext,
        scripts: &[PlannedScript],
        found: &ForeignLedger,
        cancel: &CancellationToken,
    ) -> Result<(), PostgresError> {
        self.require_lock()?;
        let versions: Vec<_> = scripts.iter().map(|script| script.version.as_written()).collect();
        let detail = serde_json::json!({"tool": found.tool.name(), "table": found.to_string(), "versions": versions});
        let sql = self.present_sql(run, scripts, ("adopted", "adopted"), &detail)?;
        let since = Instant::now();
        while !self.hold_still(found).await? {
            self.rollback().await?;
            tracing::info!(tool = found.tool.name(), table = %found, "another tool is at work: trying again");
            let waited = tokio::select! {
                () = cancel.cancelled() => false,
                () = tokio::time::sleep(POLL) => since.elapsed() < self.target.locks.retry_for,
            };
            if !waited {
                let (address, tool) = (self.target.address.clone(), found.tool.name());
                return Err(PostgresError::ForeignBusy { address, tool, table: found.to_string() });
            }
        }
        let now = self.write("reading the ledger of another tool", read_sql(found)).await?;
        if found.rows.as_ref() != Some(&rows(&now)) {
            self.rollback().await?;
            let address = self.target.address.clone();
            return Err(PostgresError::ForeignMoved { address, table: found.to_string() });
        }
        let written = self.write("taking over the ledger of another tool", sql).await?;
        self.locked_row(&written).await?;
        self.write("taking over the ledger of another tool", "COMMIT".to_owned()).await.map(|_| ())
    }

    /// Begins a transaction in which the tool cannot write. False: it is at work.
    async fn hold_still(&mut self, found: &ForeignLedger) -> Result<bool, PostgresError> {
        let doing = "keeping another tool still";
        let table = quoted(found);
        let keys: Vec<_> = lock_keys(found, &self.identity.database).iter().map(lock_sql).collect();
        let sql = format!(
            "BEGIN;SELECT ({})::text, pg_catalog.has_table_privilege({}, 'UPDATE, DELETE, TRUNCATE')::text",
            keys.iter().map(String::as_str).chain(["true"]).collect::<Vec<_>>().join(" AND "),
            Literal(&table),
        );
        let answer = self.write(doing, sql).await?;
        let is = |column| answer.first().is_some_and(|row| text(row, column) == "true");
        if !is(0) || !is(1) {
            return Ok(is(0));
        }
        match self.try_query(format!("LOCK TABLE {table} IN SHARE MODE NOWAIT")).await {
            Ok(_) => Ok(true),
            // lock_not_available
            Err(Fault::Server(error)) if error.sql_state == "55P03" => Ok(false),
            Err(fault) => {
                let _ = self.rollback().await;
                Err(PostgresError::from_fault(&self.target.address, doing, fault))
            }
        }
    }
}

fn quoted(ledger: &ForeignLedger) -> String {
    format!("{}.{}", Ident(&ledger.schema), Ident(&ledger.table))
}

fn read_sql(ledger: &ForeignLedger) -> String {
    // Every tool is in the table.
    let known = KNOWN.iter().find(|known| known.tool == ledger.tool);
    let (values, order) = known.map_or(("NULL", "1"), |known| (known.values, known.order));
    format!("SELECT {values} FROM {} ORDER BY {order}", quoted(ledger))
}

fn rows(rows: &[Row]) -> Vec<ForeignRow> {
    let column = |row: &Row, column: usize| row.get(column).cloned().flatten();
    let read = |row: &Row| ForeignRow {
        version: column(row, 0),
        name: column(row, 1),
        kind: column(row, 2),
        ok: text(row, 3) == "true",
        checksum: column(row, 4),
    };
    rows.iter().map(read).collect()
}

fn lock_sql(key: &i64) -> String {
    format!("pg_catalog.pg_try_advisory_xact_lock({key})")
}

/// The keys of the advisory locks that a tool takes while it migrates this database; from each tool's source.
fn lock_keys(ledger: &ForeignLedger, database: &str) -> Vec<i64> {
    let crc = |pieces: &[&str]| crc32(pieces.iter().map(|piece| piece.as_bytes()));
    match ledger.tool {
        Tool::Flyway => {
            // "Flyway" in ASCII, and Java's hash of the quoted name.
            let name = format!("\"{}\".\"{}\"", ledger.schema, ledger.table);
            let hash = name.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
            vec![0x466C_7977_6179 + i64::from(hash)]
        }
        Tool::GolangMigrate => {
            // Its command line takes the path of the URL for the database's name, slash and all.
            let of = |slash| crc(&[&ledger.schema, "\0", &ledger.table, "\0", slash, database]);
            ["", "/"].map(|slash| i64::from(of(slash).wrapping_mul(1_486_364_155))).into()
        }
        Tool::Goose => vec![4_097_083_626],
        // dbmate takes none; this is Rails'.
        Tool::Dbmate => vec![2_053_462_845 * i64::from(crc(&[database]))],
        Tool::Sqlx => vec![0x3d32_ad9e * i64::from(crc(&[database]))],
        Tool::Prisma => vec![72_707_369],
        Tool::Refinery | Tool::Diesel => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_that_the_tools_were_seen_to_hold() {
        let keys = |tool, table: &str| {
            let ledger = ForeignLedger { tool, schema: "public".into(), table: table.into(), rows: None };
            lock_keys(&ledger, "shop")
        };
        // In pg_locks, while a script of theirs ran in a database `shop`: golang-migrate 4.20.1, Flyway 13.12.0, Rails 6.1.7.
        assert!(keys(Tool::GolangMigrate, "schema_migrations").contains(&2_101_699_660));
        assert_eq!(keys(Tool::Flyway, "flyway_schema_history"), [(18028 << 32) + 4_163_491_309]);
        assert_eq!(keys(Tool::Dbmate, "schema_migrations"), [5_939_944_341_529_942_170]);
    }

    #[test]
    fn every_tool_can_be_read() {
        for known in KNOWN {
            let ledger = ForeignLedger { tool: known.tool, schema: "s".into(), table: known.table.into(), rows: None };
            assert!(read_sql(&ledger).ends_with(&format!("FROM \"s\".\"{}\" ORDER BY {}", known.table, known.order)));
        }
    }
}
