//! Which Backups a Migration makes, uses again, and lets go. Pure.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use uuid::Uuid;

use crate::api::{
    BACKUP_DATABASE_GENERATION, BACKUP_PLAN, BACKUP_RUN, BackupMethod, DATABASE_LABEL, DeletionPolicy, LocalRef,
    MIGRATION_LABEL, Migration, PostgresBackup, PostgresBackupSpec, PostgresBackupStatus, PostgresDatabase, Reason,
    Verified, conditions,
};
use crate::postgres::Identity;
use crate::script::Version;

/// The most characters that a Backup's name may have.
const MAX_NAME: usize = 50;

/// What a Backup has to be like to stand below a run.
#[derive(Clone, Copy, Debug)]
pub struct Usable<'a> {
    /// How the Database's policy wants it taken.
    pub method: &'a BackupMethod,
    /// Which database it is, as the run's own connection saw it.
    pub identity: &'a Identity,
    /// What the ledger shows, as it was written.
    pub version: Option<&'a str>,
    /// The run that it is to stand below: a Backup that this run had made is fresh, however long it took.
    pub run: &'a Uuid,
    pub max_age: Duration,
    pub now: Timestamp,
}

impl Usable<'_> {
    /// Whether this Backup holds what a new one would: taken as the policy says, of that very database, at the same version, and
    /// no older than `max_age`.
    pub fn holds(&self, backup: &PostgresBackup) -> bool {
        let Some(status) = backup.status.as_ref().filter(|status| is_taken(status)) else { return false };
        let method = match (&self.method.pg_dump, &self.method.job) {
            (Some(dump), _) => status.store.as_ref() == Some(&dump.store) && status.verified == Some(Verified::Read),
            (None, Some(_)) => {
                status.store.is_none() && backup.spec.method.as_ref().is_none_or(|method| method == self.method)
            }
            (None, None) => false,
        };
        // What neither knows does not count: not every login may read the server's own identity.
        let server = status.system_identifier == self.identity.system_identifier
            && status.database_oid == Some(self.identity.database_oid);
        let number = |version: Option<&str>| version.map(|version| version.parse::<Version>().ok());
        let version = number(status.ledger_version.as_deref());
        let young = self.now.checked_sub(self.max_age).is_ok_and(|oldest| snapshot_at(status) >= Some(oldest));
        let fresh = young || backup.annotations().get(BACKUP_RUN) == Some(&self.run.to_string());
        let stays = backup.metadata.deletion_timestamp.is_none();
        method && server && version != Some(None) && version == number(self.version) && fresh && stays
    }
}

/// A name for the next Backup below a run, which none of these has: at most 50 characters.
pub fn name_for<B: Borrow<PostgresBackup>>(migration: &str, run: &Uuid, backups: &[B]) -> String {
    let taken = |name: &String| backups.iter().any(|backup| backup.borrow().metadata.name.as_ref() == Some(name));
    // One of so many numbers more than there are names is free.
    let mut names = (0..=backups.len()).map(|n| nth_name(migration, run, n));
    names.find(|name| !taken(name)).unwrap_or_else(|| nth_name(migration, run, 0))
}

fn nth_name(migration: &str, run: &Uuid, n: usize) -> String {
    let run: String = run.simple().to_string().chars().take(8).collect();
    let end = if n == 0 { format!("-{run}") } else { format!("-{run}-{n}") };
    // Names are ASCII: cutting anywhere is safe.
    let migration = migration.get(..MAX_NAME - end.len()).unwrap_or(migration).trim_end_matches(['-', '.']);
    format!("{migration}{end}")
}

/// The Backup below a run of this plan, to be created. Nobody owns it: it outlives its Migration.
pub fn for_run(
    migration: &Migration,
    database: &PostgresDatabase,
    name: &str,
    plan: &str,
    run: &Uuid,
) -> PostgresBackup {
    let labels = [(DATABASE_LABEL, database.name_any()), (MIGRATION_LABEL, migration.name_any())];
    let generation = database.metadata.generation.unwrap_or_default().to_string();
    let annotations =
        [(BACKUP_PLAN, plan.to_owned()), (BACKUP_RUN, run.to_string()), (BACKUP_DATABASE_GENERATION, generation)];
    let map = |pairs: &[(&str, String)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    };
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: migration.namespace(),
        labels: Some(map(&labels)),
        annotations: Some(map(&annotations)),
        ..ObjectMeta::default()
    };
    let spec = PostgresBackupSpec {
        database_ref: LocalRef { name: database.name_any() },
        method: None,
        deletion_policy: DeletionPolicy::Retain,
    };
    PostgresBackup { metadata, spec, status: None }
}

/// The hash of the plan that a Backup was made for.
pub fn plan_of(backup: &PostgresBackup) -> Option<&str> {
    backup.annotations().get(BACKUP_PLAN).map(String::as_str)
}

/// The generation of the PostgresDatabase by whose policy a Backup was made.
pub fn database_generation_of(backup: &PostgresBackup) -> Option<i64> {
    backup.annotations().get(BACKUP_DATABASE_GENERATION)?.parse().ok()
}

/// The names of the Backups that go: of those that Migrations made of this Database, all but the newest `keep`, and of their
/// failed ones likewise. Never one that is `protected`: below a run that is held or unhealthy.
pub fn to_prune<B: Borrow<PostgresBackup>>(
    backups: &[B],
    database: &str,
    keep: usize,
    protected: &[&str],
) -> Vec<String> {
    let of_migrations = |backup: &&PostgresBackup| {
        backup.spec.database_ref.name == database
            && backup.labels().contains_key(MIGRATION_LABEL)
            && backup.metadata.deletion_timestamp.is_none()
    };
    let (mut taken, mut failed) = (Vec::new(), Vec::new());
    for backup in backups.iter().map(Borrow::borrow).filter(of_migrations) {
        match &backup.status {
            Some(status) if is_taken(status) => taken.push(backup),
            Some(status) if is_failed(status) => failed.push(backup),
            _ => {}
        }
    }
    [taken, failed]
        .into_iter()
        .flat_map(|mut backups| {
            backups.sort_by_key(|backup| std::cmp::Reverse((age_key(backup), backup.name_any())));
            backups.into_iter().skip(keep)
        })
        .map(ResourceExt::name_any)
        .filter(|name| !protected.contains(&name.as_str()))
        .collect()
}

fn age_key(backup: &PostgresBackup) -> Option<Timestamp> {
    let created = backup.metadata.creation_timestamp.as_ref().map(|created| created.0);
    backup.status.as_ref().and_then(snapshot_at).or(created)
}

fn snapshot_at(status: &PostgresBackupStatus) -> Option<Timestamp> {
    status.snapshot_at.as_ref()?.parse().ok()
}

/// Whether the backup is there, and was checked as far as its method allows.
pub fn is_taken(status: &PostgresBackupStatus) -> bool {
    conditions::is_true(&status.conditions, conditions::READY)
}

/// Whether it was tried and is not to be had. Final: another try is another Backup.
pub fn is_failed(status: &PostgresBackupStatus) -> bool {
    conditions::is_true(&status.conditions, conditions::STALLED)
        && conditions::reason_of(&status.conditions, conditions::STALLED) == Some(Reason::BackupFailed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    const SERVER: &str = "7000000000000000001";

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn method() -> BackupMethod {
        serde_json::from_value(json!({ "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "c" } } } }))
            .unwrap()
    }

    fn backup(name: &str, minute: i64, reason: Reason, version: Option<&str>) -> PostgresBackup {
        let migration = Migration::new(
            "mig",
            serde_json::from_value(json!({
            "databaseRef": { "name": "shop" }, "source": { "inline": {} } }))
            .unwrap(),
        );
        let database = PostgresDatabase::new(
            "shop",
            serde_json::from_value(json!({
            "connection": { "secretRef": { "name": "s" } } }))
            .unwrap(),
        );
        let mut backup = for_run(&migration, &database, name, "plan", &Uuid::nil());
        let mut status = PostgresBackupStatus {
            snapshot_at: Some(at(minute).to_string()),
            ledger_version: version.map(str::to_owned),
            system_identifier: Some(SERVER.to_owned()),
            database_oid: Some(5),
            store: method().pg_dump.map(|dump| dump.store),
            verified: Some(Verified::Read),
            ..PostgresBackupStatus::default()
        };
        conditions::set_summary(&mut status.conditions, (reason, "m"), Duration::ZERO, Some(1), at(minute));
        backup.status = Some(status);
        backup
    }

    fn holds(backup: &PostgresBackup, version: Option<&str>) -> bool {
        holds_below(backup, version, &Uuid::max())
    }

    fn holds_below(backup: &PostgresBackup, version: Option<&str>, run: &Uuid) -> bool {
        let identity = Identity {
            system_identifier: Some(SERVER.to_owned()),
            database_oid: 5,
            database: "d".into(),
            server_version: "15.18".into(),
            server_version_num: 150_018,
        };
        let (method, max_age) = (method(), Duration::from_secs(3600));
        Usable { method: &method, identity: &identity, version, run, max_age, now: at(100) }.holds(backup)
    }

    #[test]
    fn a_finished_backup_of_the_same_database_and_version_is_used_again_while_it_is_fresh() {
        let good = backup("b", 40, Reason::Succeeded, Some("7"));
        assert!(holds(&good, Some("7")) && holds(&good, Some("007")));
        assert!(!holds(&good, Some("8")) && !holds(&good, None));
        assert!(holds(&backup("b", 40, Reason::Succeeded, None), None));
        let old = backup("b", 39, Reason::Succeeded, Some("7"));
        assert!(!holds(&old, Some("7")), "too old");
        assert!(holds_below(&old, Some("7"), &Uuid::nil()), "its own run waits for no younger one");
        assert!(!holds_below(&old, Some("8"), &Uuid::nil()));
        assert!(!holds(&backup("b", 40, Reason::BackupRunning, Some("7")), Some("7")));
        assert!(!holds(&backup("b", 40, Reason::BackupFailed, Some("7")), Some("7")));
    }

    #[test]
    fn another_servers_another_stores_or_a_vanishing_backup_is_not_used() {
        type Change = fn(&mut PostgresBackup, &mut PostgresBackupStatus);
        let changes: [(&str, Change); 6] = [
            ("another server", |_, status| status.system_identifier = Some("8".into())),
            ("another database", |_, status| status.database_oid = Some(6)),
            ("another store", |_, status| status.store = None),
            ("not read back", |_, status| status.verified = Some(Verified::None)),
            ("a version that is none", |_, status| status.ledger_version = Some("x".into())),
            ("being deleted", |backup, _| backup.metadata.deletion_timestamp = Some(Time(at(99)))),
        ];
        for (what, change) in changes {
            let mut changed = backup("b", 40, Reason::Succeeded, Some("7"));
            let mut status = changed.status.take().unwrap();
            change(&mut changed, &mut status);
            changed.status = Some(status);
            assert!(!holds(&changed, Some("7")), "{what}");
        }
    }

    #[test]
    fn a_runs_backup_has_a_name_that_is_free_and_fits() {
        let run: Uuid = "7f3a2b1c-0000-4000-8000-000000000000".parse().unwrap();
        let none: [PostgresBackup; 0] = [];
        assert_eq!(name_for("billing", &run, &none), "billing-7f3a2b1c");
        let others =
            ["billing-7f3a2b1c", "x", "billing-7f3a2b1c-2"].map(|name| backup(name, 0, Reason::Succeeded, None));
        assert_eq!(name_for("billing", &run, &others), "billing-7f3a2b1c-1");
        assert_eq!(name_for("billing", &run, &others[1..]), "billing-7f3a2b1c");
        let long = nth_name(&"a-".repeat(25), &run, 12);
        assert!(long.len() <= 50 && !long.contains("--"), "{long}");
    }

    #[test]
    fn all_but_the_newest_go_and_never_a_protected_one() {
        let backups = [
            backup("a", 1, Reason::Succeeded, None),
            backup("b", 2, Reason::Succeeded, None),
            backup("c", 3, Reason::Succeeded, None),
            backup("d", 4, Reason::BackupRunning, None),
            backup("e", 5, Reason::BackupFailed, None),
            backup("f", 6, Reason::BackupFailed, None),
        ];
        assert_eq!(to_prune(&backups, "shop", 1, &[]), ["b", "a", "e"]);
        assert_eq!(to_prune(&backups, "shop", 1, &["a"]), ["b", "e"]);
        assert_eq!(to_prune(&backups, "other", 1, &[]), [""; 0]);
        let mut by_hand = backups.clone();
        for backup in &mut by_hand {
            backup.metadata.labels = None;
        }
        assert_eq!(to_prune(&by_hand, "shop", 0, &[]), [""; 0], "a person's own stay");
    }
}
