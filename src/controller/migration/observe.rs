//! Reads everything that a decision rests on.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use uuid::Uuid;

use super::view::View;
use crate::api::{
    Adopt, BackupWhen, Failure, Migration, MigrationStatus, OutOfOrder, PostgresBackup, PostgresDatabase, REQUESTED_AT,
    RUN_FINALIZER, Reason, conditions,
};
use crate::controller::Context;
use crate::controller::memory::Memory;
use crate::controller::pin::Pin;
use crate::plan::Policy;
use crate::script::History;
use crate::source::kubernetes as source;

/// Something that keeps a Migration from going on, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub reason: Reason,
    pub message: String,
}

impl Trouble {
    /// As status and ledger have what stopped a run.
    pub fn into_failure(self) -> Failure {
        Failure { reason: self.reason.as_str().to_owned(), message: self.message, ..Failure::default() }
    }
}

/// What a run was started for. With the same key nothing new is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    pub generation: i64,
    pub database_generation: i64,
    pub source_digest: Option<String>,
    pub request: Option<String>,
    /// How often a person has accepted another database for the one that was known.
    pub accepted: u32,
}

/// The annotation that asks for another try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub text: String,
    pub at: Timestamp,
}

/// Everything that a decision rests on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub namespace: String,
    pub name: String,
    /// `<cluster>/<namespace>/<name>`, as the ledger names its claimant.
    pub claimant: String,
    pub deleting: bool,
    pub has_finalizer: bool,
    pub suspend: bool,
    pub has_health_checks: bool,
    pub backup_override: Option<BackupWhen>,
    /// The health checks passed for this generation and source, as the status has it.
    pub health_passed: bool,
    /// The last request of a person, handled or not.
    pub request: Option<Request>,
    pub request_handled: bool,
    /// What the status says so far.
    pub status: MigrationStatus,
    /// An older Migration of the same Database.
    pub rival: Option<String>,
    /// The ConfigMaps of the source; none: it is inline.
    pub config_maps: Vec<String>,
    pub database_name: String,
    pub database: Result<Arc<PostgresDatabase>, Trouble>,
    /// What that Database is known to be.
    pub pin: Pin,
    pub source: Result<Arc<History>, Trouble>,
    pub policy: Result<Policy, Trouble>,
    /// The Backups of the same Database.
    pub backups: Vec<Arc<PostgresBackup>>,
    pub key: Key,
    pub run: Option<View>,
    /// With the present key, nothing is to be done before then.
    pub settled_until: Option<Timestamp>,
    /// Tries in a row that failed for what may recover by itself.
    pub attempts: u32,
    /// Between 0 and 1: spreads what would otherwise happen at once.
    pub chance: f64,
}

impl Observed {
    /// Whether there is a request that was not handled yet.
    pub fn is_requested(&self) -> bool {
        self.request.is_some() && !self.request_handled
    }

    /// Whether a person asked, after `at`, for another try, and has not had it.
    pub fn request_is_after(&self, at: Timestamp) -> bool {
        self.is_requested() && self.was_requested_after(at)
    }

    /// Whether a person asked, after `at`, for another try, and the run is the one that was begun for it: a backup may come first.
    pub fn run_was_requested_after(&self, at: Timestamp, run: Uuid) -> bool {
        let told = self.status.run.as_ref().is_some_and(|told| told.id == run.to_string());
        told && self.request_handled && self.was_requested_after(at)
    }

    fn was_requested_after(&self, at: Timestamp) -> bool {
        self.request.as_ref().is_some_and(|request| request.at > at)
    }

    /// Whether a run is to take the lock: a preview claims nothing, but what was begun is to be closed.
    pub fn wants_lock(&self) -> bool {
        !self.suspend || self.status.run.is_some()
    }

    /// The safer of what the Database's policy and the Migration ask for.
    pub fn backup_when(&self) -> BackupWhen {
        let of_database = self.database.as_ref().map_or(BackupWhen::Never, |database| database.spec.backup.when);
        of_database.max(self.backup_override.unwrap_or(BackupWhen::Never))
    }

    /// Where the database is: as the run has just read it, else as the status has it from the last time.
    pub fn version(&self) -> Option<&str> {
        match self.run.as_ref().and_then(|run| run.inspection.as_ref()) {
            Some(inspection) => inspection.ledger.current().map(|row| row.version.as_written()),
            None => self.status.version.as_deref(),
        }
    }

    /// The Database's interval, spread by a tenth either way.
    pub fn interval(&self) -> Duration {
        let interval = self.database.as_ref().map_or(Duration::from_secs(600), |database| database.spec.interval.get());
        interval.mul_f64(0.9 + 0.2 * self.chance.clamp(0.0, 1.0)).max(Duration::from_secs(1))
    }
}

/// Reads everything that a decision on `migration` rests on.
pub async fn observe(migration: &Migration, context: &Context, memory: &mut Memory) -> Observed {
    let namespace = migration.namespace().unwrap_or_default();
    let spec = &migration.spec;
    let status = memory.status(migration, Timestamp::now());
    let database_name = spec.database_ref.name.clone();
    let database = context.database(&namespace, &database_name).ok_or_else(|| Trouble {
        reason: Reason::DatabaseNotFound,
        message: match context.has_database(&namespace, &database_name) {
            true => format!("PostgresDatabase {namespace}/{database_name} cannot be read: its own conditions say why"),
            false => {
                format!(
                    "PostgresDatabase {namespace}/{database_name} does not exist. Create it: Belay goes on by itself"
                )
            }
        },
    });
    let source = match memory.source(migration) {
        Some(history) => Ok(history),
        None => source::read(&context.client, &namespace, &spec.source)
            .await
            .map(Arc::new)
            .map_err(|error| Trouble { reason: error.reason(), message: error.to_string() }),
    };
    memory.keep_source(migration, source.as_ref().ok());

    let request = request(migration);
    let handled = request.as_ref().is_some_and(|asked| status.last_handled_requested_at.as_ref() == Some(&asked.text));
    let digest = source.as_ref().ok().map(|history| history.digest().to_string());
    let (key, pin) = key(migration, digest, database.as_deref().ok(), context);
    Observed {
        claimant: format!("{}/{namespace}/{}", context.cluster, migration.name_any()),
        name: migration.name_any(),
        deleting: migration.metadata.deletion_timestamp.is_some(),
        has_finalizer: migration.finalizers().iter().any(|finalizer| finalizer == RUN_FINALIZER),
        suspend: spec.suspend,
        config_maps: spec.source.config_map_names().map(str::to_owned).collect(),
        has_health_checks: !spec.health_checks.is_empty(),
        backup_override: spec.backup.as_ref().map(|backup| backup.when),
        health_passed: conditions::is_current(&status.conditions, conditions::HEALTHY, key.generation)
            && status.source_digest == key.source_digest,
        request,
        request_handled: handled,
        rival: rival(migration, context),
        policy: policy(migration, database.as_ref().ok().map(AsRef::as_ref)),
        backups: context.backups_of(&namespace, &database_name),
        run: memory.run.as_ref().map(|run| run.view()),
        settled_until: memory.settled_until(&key),
        attempts: memory.attempts,
        chance: rand::random(),
        namespace,
        status,
        database_name,
        database,
        pin,
        source,
        key,
    }
}

/// What a run on `migration` is about, where its source has this digest; and what its Database is known to be.
pub fn key(
    migration: &Migration,
    source_digest: Option<String>,
    database: Option<&PostgresDatabase>,
    context: &Context,
) -> (Key, Pin) {
    let (pin, accepted) = database.map(|database| context.pins.get(database)).unwrap_or_default();
    let key = Key {
        generation: migration.metadata.generation.unwrap_or_default(),
        database_generation: database.and_then(|database| database.metadata.generation).unwrap_or_default(),
        source_digest,
        request: migration.annotations().get(REQUESTED_AT).cloned(),
        accepted,
    };
    (key, pin)
}

/// The annotation, where it is a time; anything else asks for nothing.
fn request(migration: &Migration) -> Option<Request> {
    let text = migration.annotations().get(REQUESTED_AT)?;
    Some(Request { text: text.clone(), at: text.parse().ok()? })
}

/// An older Migration that claims the same Database. Of two as old, the first by name keeps it.
fn rival(migration: &Migration, context: &Context) -> Option<String> {
    let age = |m: &Migration| (m.metadata.creation_timestamp.as_ref().map(|at| at.0), m.name_any());
    context
        .migrations_of(&migration.namespace()?, &migration.spec.database_ref.name)
        .into_iter()
        .filter(|other| other.metadata.uid != migration.metadata.uid && !other.spec.suspend)
        .filter(|other| {
            other.metadata.deletion_timestamp.is_none() || other.finalizers().iter().any(|f| f == RUN_FINALIZER)
        })
        .filter(|other| age(other) < age(migration))
        .map(|other| other.name_any())
        .min()
}

fn policy(migration: &Migration, database: Option<&PostgresDatabase>) -> Result<Policy, Trouble> {
    let spec = &migration.spec;
    let version = |field: &str, text: &Option<String>| {
        text.as_ref()
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| Trouble { reason: Reason::InvalidSpec, message: format!("spec.{field}: {error}") })
    };
    Ok(Policy {
        target: version("target", &spec.target)?,
        transaction: spec.transaction,
        out_of_order: spec.out_of_order == OutOfOrder::Allow,
        baseline: version("baseline", &spec.baseline)?,
        adopt: spec.adopt == Adopt::Auto,
        role: database.and_then(|database| database.spec.role.clone()),
        search_path: database.map(|database| database.spec.search_path.clone()).unwrap_or_default(),
    })
}
