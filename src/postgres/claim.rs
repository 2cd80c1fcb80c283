//! Making the ledger, and whose it is.

use super::engine::Engine;
use super::error::PostgresError;
use super::failpoint;
use super::ledger::Head;
use super::quote::{Ident, Literal};
use super::session::{Fault, text};

/// Belay's own scripts for its ledger: the n-th makes format n of format n - 1.
const SCRIPTS: &[&str] =
    &[include_str!("../../migrations/001_ledger.sql"), include_str!("../../migrations/002_statements.sql")];

/// The newest format that this Belay knows.
pub(super) const FORMAT: u32 = SCRIPTS.len() as u32;

impl Engine {
    /// Makes the ledger if there is none, brings it to this Belay's format, and writes down whose it is:
    /// `<cluster>/<namespace>/<name>`. Refuses when it is another's. Needs the lock.
    pub async fn claim(&mut self, claimant: &str) -> Result<(), PostgresError> {
        self.prepare_ledger(Some(claimant)).await
    }

    /// Makes the ledger if there is none, and brings it to this Belay's format; whose it is stays as it is. For a
    /// person, who asks each time and keeps nothing. Needs the lock.
    pub async fn create_ledger(&mut self) -> Result<(), PostgresError> {
        self.prepare_ledger(None).await
    }

    async fn prepare_ledger(&mut self, claimant: Option<&str>) -> Result<(), PostgresError> {
        self.require_lock()?;
        if self.ledger.is_none() {
            self.ledger().await?;
        }
        let Some(head) = self.ledger.clone() else { return Err(self.damaged("it was not read".into())) };
        match &head.claimant {
            Some(other) if claimant.is_some_and(|claimant| claimant != other) => {
                return Err(PostgresError::InUse { address: self.target.address.clone(), claimant: other.clone() });
            }
            claimed if head.format == FORMAT && (claimed.is_some() || claimant.is_none()) => return Ok(()),
            _ => {}
        }
        let sql = self.claim_sql(&head, claimant);
        failpoint::pass("before-ledger").await;
        match self.try_query(sql).await {
            Ok(_) => {
                failpoint::pass("after-ledger").await;
                let claimant = head.claimant.or_else(|| claimant.map(str::to_owned));
                self.ledger = Some(Head { format: FORMAT, claimant, schema: true });
                Ok(())
            }
            Err(fault) => {
                let _ = self.rollback().await;
                // A person may do what the error says: the next try reads again what there is.
                self.ledger = None;
                Err(match fault {
                    // invalid_schema_name is what a search path of a schema without rights on it is called.
                    Fault::Server(error) if head.format == 0 && matches!(&*error.sql_state, "42501" | "3F000") => {
                        self.may_not_create().await
                    }
                    Fault::Server(error) if error.sql_state == "42501" => self.may_not_use_ledger().await,
                    fault => PostgresError::from_fault(&self.target.address, "making the ledger", fault),
                })
            }
        }
    }

    /// One message. Its COMMIT need not be apart: whether it came through does not matter to a second try, and the
    /// lock is held.
    fn claim_sql(&self, head: &Head, claimant: Option<&str>) -> String {
        let schema = &self.target.history_schema;
        let mut sql = "BEGIN;SET LOCAL lock_timeout = '5s';".to_owned();
        // Looked up before: CREATE SCHEMA IF NOT EXISTS needs the right to create one even if it is there.
        if !head.schema {
            sql.push_str(&format!("CREATE SCHEMA {};", Ident(schema)));
        }
        if head.format < FORMAT {
            sql.push_str(&format!("SET LOCAL search_path = {};", Ident(schema)));
            for script in &SCRIPTS[head.format as usize..] {
                sql.push_str(script);
                sql.push_str("\n;");
            }
            sql.push_str("SET LOCAL search_path = pg_catalog, pg_temp;");
        }
        // A row that is there stays: whose it is was read under the lock.
        sql.push_str(&format!(
            "INSERT INTO {meta} (key, value) VALUES ('format', '{FORMAT}') ON CONFLICT (key) DO UPDATE SET value = \
             excluded.value;",
            meta = self.table("meta"),
        ));
        if let Some(claimant) = claimant {
            sql.push_str(&format!(
                "INSERT INTO {} (key, value) VALUES ('claimant', {}) ON CONFLICT (key) DO NOTHING;",
                self.table("meta"),
                Literal(claimant),
            ));
        }
        sql.push_str("COMMIT");
        sql
    }

    pub(super) async fn may_not_create(&mut self) -> PostgresError {
        let sql =
            format!("SELECT FROM pg_catalog.pg_namespace WHERE nspname = {}", Literal(&self.target.history_schema));
        let schema_exists = match self.query("looking for the ledger's schema", sql).await {
            Ok(rows) => !rows.is_empty(),
            Err(error) => return error,
        };
        let grantee = Ident(self.owner()).to_string();
        let schema = Ident(&self.target.history_schema).to_string();
        let (what, grant) = if schema_exists {
            (
                format!("creating the ledger's tables in the schema {schema}"),
                format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {grantee};"),
            )
        } else {
            (
                format!("creating the schema {schema} for the ledger"),
                format!(
                    "GRANT CREATE ON DATABASE {} TO {grantee}; or create it: CREATE SCHEMA {schema} AUTHORIZATION {grantee};",
                    Ident(&self.identity.database)
                ),
            )
        };
        PostgresError::Permission { address: self.target.address.clone(), what, grant }
    }

    /// Why the ledger may not be used: row-level security is in the way, against which no GRANT helps, or a right is missing.
    pub(super) async fn may_not_use_ledger(&mut self) -> PostgresError {
        let sql = format!(
            "SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.relnamespace = (SELECT n.oid FROM \
             pg_catalog.pg_namespace n WHERE n.nspname = {}) AND c.relkind = 'r' AND \
             c.relname IN ('meta', 'run', 'history', 'event', 'statement') AND pg_catalog.row_security_active(c.oid) ORDER BY 1",
            Literal(&self.target.history_schema)
        );
        let secured: Vec<_> = match self.query("looking for row-level security", sql).await {
            Ok(rows) => rows.iter().map(|row| self.table(text(row, 0))).collect(),
            Err(error) => return error,
        };
        let schema = Ident(&self.target.history_schema);
        let grantee = Ident(self.owner());
        let (what, grant) = match secured.as_slice() {
            [] => (
                format!("using the ledger in the schema {schema}"),
                format!(
                    "GRANT USAGE ON SCHEMA {schema} TO {grantee}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN \
                     SCHEMA {schema} TO {grantee};"
                ),
            ),
            tables => (
                format!("using the ledger's {} past row-level security", tables.join(", ")),
                format!(
                    "{}; or, as a superuser: ALTER ROLE {grantee} BYPASSRLS;",
                    tables
                        .iter()
                        .map(|table| format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"))
                        .collect::<Vec<_>>()
                        .join("; ")
                ),
            ),
        };
        PostgresError::Permission { address: self.target.address.clone(), what, grant }
    }

    /// Who owns what is made: the role, else the login.
    pub(super) fn owner(&self) -> &str {
        self.target.role.as_deref().unwrap_or_else(|| self.target.user())
    }

    /// Gives the ledger up, so that another object may claim it.
    pub async fn release_claim(&mut self, actor: &str) -> Result<(), PostgresError> {
        self.require_lock()?;
        let sql = format!(
            "BEGIN;INSERT INTO {event} (kind, actor, detail) SELECT 'claim-released', {actor}, \
             pg_catalog.jsonb_build_object('claimant', value) FROM {meta} WHERE key = 'claimant';\
             DELETE FROM {meta} WHERE key = 'claimant';COMMIT",
            event = self.table("event"),
            meta = self.table("meta"),
            actor = Literal(actor),
        );
        self.write("releasing the claim", sql).await?;
        if let Some(head) = &mut self.ledger {
            head.claimant = None;
        }
        Ok(())
    }
}
