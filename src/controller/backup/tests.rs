//! The rules as tables: what is there → what is done and said; and the Jobs that come of it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::decide::{Decision, Observed, Step, decide, status};
use super::job::{self, Image};
use super::pod::{JobFacts, Phase};
use crate::api::{
    BACKUP_FINALIZER, BackupMethod, DeletionPolicy, MIGRATION_LABEL, PostgresBackup, PostgresBackupStatus,
    PostgresDatabase, Reason, Verified, conditions,
};
use crate::backup::{Outcome, is_taken};
use crate::controller::migration::Trouble;

const DEADLINE: Duration = Duration::from_secs(300);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn database(method: serde_json::Value) -> PostgresDatabase {
    let spec = json!({
        "connection": {
            "secretRef": { "name": "shop-postgres" }, "host": "db", "sslMode": "verify-full",
            "caRef": { "kind": "ConfigMap", "name": "ca", "key": "root.pem" },
            "clientCertSecretRef": { "name": "shop-client" },
        },
        "role": "owner",
        "backup": { "method": method, "lockWait": "90s" },
    });
    PostgresDatabase::new("shop", serde_json::from_value(spec).unwrap())
}

fn dump_method(template: serde_json::Value) -> serde_json::Value {
    json!({ "pgDump": {
        "store": { "persistentVolumeClaim": { "claimName": "backups", "path": "shop" } }, "podTemplate": template,
    } })
}

fn backup() -> PostgresBackup {
    let spec = json!({ "databaseRef": { "name": "shop" } });
    let mut backup = PostgresBackup::new("nightly", serde_json::from_value(spec).unwrap());
    backup.metadata.namespace = Some("ns".into());
    backup.metadata.uid = Some("12345678-9abc-0000-0000-000000000000".into());
    backup.metadata.generation = Some(1);
    backup.metadata.creation_timestamp = Some(Time(at(0)));
    backup
}

fn facts(phase: Phase) -> Option<JobFacts> {
    Some(JobFacts { name: "nightly-12345678".into(), created_at: at(0), phase })
}

fn observed<'a>(
    backup: &'a PostgresBackup,
    database: Option<&'a PostgresDatabase>,
    phase: Option<Phase>,
) -> Observed<'a> {
    Observed { backup, database, connection: Ok(()), job: phase.and_then(facts), deletion: None }
}

fn said(decision: &Decision) -> (Reason, &str) {
    let (reason, message) = decision.say.as_ref().unwrap();
    (*reason, message)
}

fn taken() -> Outcome {
    let json = json!({ "taken": {
        "location": "shop/nightly-12345678.dump", "bytes": 7, "sha256": "ab", "serverVersion": "15.18",
        "toolVersion": "15.18", "snapshotAt": "2026-11-23T10:42:00Z", "ledgerVersion": "041",
        "completedAt": "2026-11-23T10:43:00Z", "verified": "Read",
        "database": { "systemIdentifier": "7", "oid": 5, "name": "shop", "address": "db:5432/shop" },
    } });
    Outcome::read(&json.to_string()).unwrap()
}

#[test]
fn what_is_missing_is_waited_for_and_named() {
    let (backup, with) = (backup(), database(dump_method(json!({}))));
    let without = database(json!(null));
    for (o, reason, words) in [
        (observed(&backup, None, None), Reason::DatabaseNotFound, "PostgresDatabase shop does not exist"),
        (observed(&backup, Some(&without), None), Reason::BackupNotConfigured, "no spec.backup.method"),
        (
            Observed {
                connection: Err(Trouble { reason: Reason::SecretNotFound, message: "Secret ns/shop-postgres".into() }),
                ..observed(&backup, Some(&with), None)
            },
            Reason::SecretNotFound,
            "Secret ns/shop-postgres",
        ),
    ] {
        let decision = decide(&o, DEADLINE, at(1));
        assert_eq!(decision.step, Step::Rest);
        assert!(decision.requeue.is_some(), "{reason}");
        let (said, message) = said(&decision);
        assert!(said == reason && message.contains(words), "{message}");
        let status = status(&o, &decision, at(1));
        assert_eq!((status.job, status.store), (None, None));
    }
}

#[test]
fn a_job_is_made_once_and_its_store_is_kept() {
    let (backup, database) = (backup(), database(dump_method(json!({}))));
    let o = observed(&backup, Some(&database), None);
    let decision = decide(&o, DEADLINE, at(1));
    assert!(matches!(decision.step, Step::Create(_)));
    assert_eq!(said(&decision).0, Reason::BackupRunning);
    let written = status(&o, &decision, at(1));
    assert_eq!(written.store.unwrap().persistent_volume_claim.claim_name, "backups");
    assert_eq!(written.job, None, "the Job is named once it is there: its absence then means that it was deleted");
    // It is there: nothing is made any more.
    let o = observed(&backup, Some(&database), Some(Phase::Running));
    let decision = decide(&o, DEADLINE, at(2));
    assert_eq!(decision.step, Step::Rest);
    assert_eq!(status(&o, &decision, at(2)).job.as_deref(), Some("nightly-12345678"));
}

#[test]
fn a_failed_deleted_or_foreign_job_is_a_failed_backup_and_final() {
    let database = database(dump_method(json!({})));
    for (phase, job, words) in [
        (Some(Phase::Failed { why: "the volume is full.".into() }), None, "The volume is full. No backup was taken."),
        (Some(Phase::Deleting), None, "was deleted before it was done"),
        (Some(Phase::Foreign), None, "is not this Backup's"),
        (None, Some("nightly-12345678"), "was deleted before it was done"),
        (Some(Phase::Complete { at: None, outcomes: vec![] }), None, "its Pod is gone"),
        (Some(Phase::Complete { at: None, outcomes: vec![Outcome::Deleted] }), None, "its Pod is gone"),
    ] {
        let mut backup = backup();
        backup.status = Some(PostgresBackupStatus { job: job.map(str::to_owned), ..PostgresBackupStatus::default() });
        let o = observed(&backup, Some(&database), phase);
        let decision = decide(&o, DEADLINE, at(1));
        let (reason, message) = said(&decision);
        assert_eq!((reason, &decision.step), (Reason::BackupFailed, &Step::Rest), "{message}");
        assert!(message.contains(words) && message.contains("make another Backup"), "{message}");
        let failed = status(&o, &decision, at(1));
        backup.status = Some(failed.clone());
        // Whatever comes after, and whoever looks.
        let later = observed(&backup, Some(&database), Some(Phase::Running));
        let decision = decide(&later, DEADLINE, at(9));
        assert_eq!(decision.step, Step::Rest);
        assert_eq!(status(&later, &decision, at(9)).conditions, failed.conditions);
    }
}

#[test]
fn below_a_run_the_migration_says_what_to_do_next() {
    let mut backup = backup();
    backup.metadata.labels = Some([(MIGRATION_LABEL.to_owned(), "m".to_owned())].into());
    let o = observed(&backup, None, Some(Phase::Failed { why: "x".into() }));
    assert_eq!(said(&decide(&o, DEADLINE, at(1))).1, "X. No backup was taken.");
}

#[test]
fn a_pod_that_does_not_start_says_why_and_fails_after_a_time() {
    let (backup, database) = (backup(), database(dump_method(json!({}))));
    let why = Some("persistentvolumeclaim \"backups\" not found".to_owned());
    let waiting = Phase::Waiting { since: at(10), why: why.clone() };
    let o = observed(&backup, Some(&database), Some(waiting));
    let early = decide(&o, DEADLINE, at(309));
    assert_eq!((said(&early).0, &early.step), (Reason::BackupRunning, &Step::Rest));
    assert!(said(&early).1.contains("cannot start: persistentvolumeclaim \"backups\" not found"), "{early:?}");
    let late = decide(&o, DEADLINE, at(310));
    assert_eq!((said(&late).0, &late.step), (Reason::BackupFailed, &Step::Stop));
    assert!(said(&late).1.contains("within 5 min: persistentvolumeclaim"), "{late:?}");
}

#[test]
fn what_the_pod_said_is_what_the_status_says() {
    let (backup, database) = (backup(), database(dump_method(json!({}))));
    let o = observed(&backup, Some(&database), Some(Phase::Complete { at: None, outcomes: vec![taken()] }));
    let decision = decide(&o, DEADLINE, at(60));
    assert_eq!((said(&decision).0, &decision.step), (Reason::Succeeded, &Step::Rest));
    let status = status(&o, &decision, at(60));
    assert!(is_taken(&status));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.location.as_deref(), Some("shop/nightly-12345678.dump"));
    assert_eq!((status.bytes, status.verified), (Some(7), Some(Verified::Read)));
    assert_eq!(status.ledger_version.as_deref(), Some("041"));
    assert_eq!((status.system_identifier.as_deref(), status.database_oid), (Some("7"), Some(5)));
}

#[test]
fn a_teams_own_job_is_never_called_verified() {
    let backup = backup();
    let database = database(json!({ "job": { "template": {} } }));
    let before = json!({ "prepared": { "serverVersion": "15.18", "snapshotAt": "2026-11-23T10:42:00Z",
        "database": { "oid": 5, "name": "shop", "address": "db:5432/shop" } } });
    let outcomes = vec![Outcome::read(&before.to_string()).unwrap()];
    let o = observed(&backup, Some(&database), Some(Phase::Complete { at: Some(at(50)), outcomes }));
    let decision = decide(&o, DEADLINE, at(60));
    assert_eq!(said(&decision).0, Reason::Succeeded);
    let status = status(&o, &decision, at(60));
    assert_eq!((status.verified, status.location, status.store), (Some(Verified::None), None, None));
    assert_eq!(status.snapshot_at.as_deref(), Some("2026-11-23T10:42:00Z"), "before the script began");
}

#[test]
fn a_generation_is_observed_only_once_something_is_said_of_it() {
    let database = database(dump_method(json!({})));
    let mut backup = backup();
    backup.spec.deletion_policy = DeletionPolicy::Delete;
    let o = observed(&backup, Some(&database), None);
    let decision = decide(&o, DEADLINE, at(1));
    assert_eq!((&decision.step, said(&decision).0), (&Step::Hold(true), Reason::BackupRunning));
    let first = status(&o, &decision, at(1));
    assert_eq!(first.observed_generation, backup.metadata.generation);

    // A later change of deletionPolicy: of what the backup is, nothing is said anew.
    backup.status = Some(PostgresBackupStatus { observed_generation: Some(0), ..first });
    let o = observed(&backup, Some(&database), None);
    let decision = decide(&o, DEADLINE, at(2));
    assert_eq!((&decision.step, &decision.say), (&Step::Hold(true), &None));
    assert_eq!(status(&o, &decision, at(2)).observed_generation, Some(0), "kstatus would take it for Current");
}

#[test]
fn data_goes_with_its_backup_only_where_that_is_asked_for() {
    let database = database(dump_method(json!({})));
    let store = method(&database).pg_dump.unwrap().store;
    let mut kept = backup();
    kept.spec.deletion_policy = DeletionPolicy::Delete;
    assert_eq!(decide(&observed(&kept, Some(&database), None), DEADLINE, at(1)).step, Step::Hold(true));
    kept.metadata.finalizers = Some(vec![BACKUP_FINALIZER.to_owned()]);
    kept.metadata.deletion_timestamp = Some(Time(at(5)));
    // Nothing was written.
    assert_eq!(decide(&observed(&kept, Some(&database), None), DEADLINE, at(6)).step, Step::Hold(false));
    kept.status = Some(PostgresBackupStatus { store: Some(store.clone()), ..PostgresBackupStatus::default() });
    let deleting = |phase: Option<Phase>, deletion: Option<Phase>| {
        let o = Observed { deletion: deletion.and_then(facts), ..observed(&kept, None, phase) };
        let decision = decide(&o, DEADLINE, at(6));
        let reason = decision.say.as_ref().map(|(reason, _)| *reason);
        (decision.step, reason)
    };
    assert_eq!(deleting(Some(Phase::Running), None).0, Step::Stop, "its Pod may still be writing");
    assert_eq!(deleting(Some(Phase::Deleting), None).0, Step::Stop);
    assert_eq!(deleting(None, None), (Step::Erase(store), Some(Reason::DeletingBackup)));
    assert_eq!(deleting(None, Some(Phase::Running)), (Step::Rest, Some(Reason::DeletingBackup)));
    let failed = Phase::Failed { why: "w".into() };
    assert_eq!(deleting(None, Some(failed)), (Step::Rest, Some(Reason::DeletionFailed)));
    let done = Phase::Complete { at: None, outcomes: vec![Outcome::Deleted] };
    assert_eq!(deleting(None, Some(done)).0, Step::Hold(false));
    // A try that was refused says so once, and not that it begins each time.
    let o = observed(&kept, None, None);
    let refused = Decision::refused(&o, "the Job was refused: quota");
    assert_eq!(said(&refused).0, Reason::DeletionFailed);
    assert!(said(&refused).1.contains("still there. Set spec.deletionPolicy to Retain"), "{refused:?}");
    let mut told = kept.clone();
    told.status = Some(status(&o, &refused, at(6)));
    let again = decide(&observed(&told, None, None), DEADLINE, at(7));
    assert!(matches!(again.step, Step::Erase(_)) && again.say.is_none(), "{again:?}");
    // A person changes their mind.
    let mut let_go = kept.clone();
    let_go.spec.deletion_policy = DeletionPolicy::Retain;
    assert_eq!(decide(&observed(&let_go, None, None), DEADLINE, at(6)).step, Step::Hold(false));
    let_go.metadata.finalizers = None;
    assert_eq!(decide(&observed(&let_go, None, None), DEADLINE, at(6)).step, Step::Rest);
}

#[test]
fn exactly_one_of_the_conditions_holds_whatever_is_decided() {
    let (backup, database) = (backup(), database(dump_method(json!({}))));
    for phase in [
        None,
        Some(Phase::Running),
        Some(Phase::Waiting { since: at(0), why: None }),
        Some(Phase::Failed { why: String::new() }),
        Some(Phase::Complete { at: None, outcomes: vec![taken()] }),
    ] {
        let o = observed(&backup, Some(&database), phase);
        let status = status(&o, &decide(&o, DEADLINE, at(1)), at(1));
        assert_eq!(status.conditions.iter().filter(|condition| condition.status == "True").count(), 1);
        assert!(conditions::reason_of(&status.conditions, conditions::READY).is_some());
    }
}

fn method(database: &PostgresDatabase) -> BackupMethod {
    *database.spec.backup.method.clone().unwrap()
}

fn build(method_json: serde_json::Value) -> Job {
    let database = database(method_json);
    let image = Image { name: "belay:1".into(), pull_policy: "IfNotPresent".into() };
    job::build(&backup(), &database, &method(&database), &image).unwrap()
}

fn pod(job: &Job) -> &PodSpec {
    job.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn container<'a>(pod: &'a PodSpec, name: &str) -> &'a Container {
    let mut all = pod.init_containers.iter().flatten().chain(&pod.containers);
    all.find(|container| container.name == name).unwrap()
}

#[test]
fn a_job_is_its_backups_own_and_passes_the_restricted_profile() {
    let job = build(dump_method(json!({})));
    assert_eq!(job.metadata.name.as_deref(), Some("nightly-12345678"));
    let owner = &job.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.block_owner_deletion), ("PostgresBackup", Some(false)));
    let pod = pod(&job);
    assert_eq!((pod.restart_policy.as_deref(), pod.automount_service_account_token), (Some("Never"), Some(false)));
    let security = pod.security_context.as_ref().unwrap();
    assert_eq!(
        (security.fs_group, security.seccomp_profile.as_ref().unwrap().type_.as_str()),
        (Some(65532), "RuntimeDefault")
    );
    let container = container(pod, "backup");
    assert_eq!(container.image.as_deref(), Some("belay:1"));
    let security = container.security_context.as_ref().unwrap();
    assert_eq!((security.run_as_non_root, security.run_as_user), (Some(true), Some(65532)));
    assert_eq!((security.allow_privilege_escalation, security.read_only_root_filesystem), (Some(false), Some(true)));
    assert_eq!(security.capabilities.as_ref().unwrap().drop, Some(vec!["ALL".to_owned()]));
    let arguments = container.args.as_ref().unwrap().join(" ");
    for argument in [
        "backup --store=/backup --location=shop/nightly-12345678.dump --compression=gzip:1 --lock-wait=1m30s",
        "--host=db",
        "--ssl-mode=verify-full",
        "--ca=/run/belay/ca/ca.crt",
        "--client-certificate=/run/belay/client",
        "--role=owner",
    ] {
        assert!(arguments.contains(argument), "{argument}: {arguments}");
    }
}

#[test]
fn names_derived_from_the_longest_name_are_valid() {
    let mut long = backup();
    long.metadata.name = Some(format!("{}.b", "a".repeat(48)));
    assert!(job::name(&long).len() <= 59 && !job::name(&long).contains('.'));
    assert!(job::deletion_name(&long).len() <= 63);
}

/// Each Secret is named once, by the volume that mounts it; nothing else of a Job could hold a credential.
#[test]
fn a_secret_is_mounted_and_never_an_argument_or_a_variable() {
    for method in [
        dump_method(json!({})),
        json!({ "job": { "template": { "spec": { "containers": [{ "name": "own", "image": "x" }] } } } }),
    ] {
        let job = build(method);
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!((text.matches("shop-postgres").count(), text.matches("shop-client").count()), (1, 1));
        assert!(text.contains(r#""secret":{"defaultMode":292,"secretName":"shop-postgres"}"#), "{text}");
        let mounted = pod(&job).volumes.iter().flatten().find(|volume| volume.name == "belay-client").unwrap();
        let mut keys = mounted.secret.iter().flat_map(|secret| secret.items.iter().flatten().map(|item| &item.key));
        assert!(keys.all(|key| key == "tls.crt" || key == "tls.key"), "nothing else that the Secret may hold");
        for container in pod(&job).init_containers.iter().flatten().chain(&pod(&job).containers) {
            assert!(container.env_from.is_none());
            assert!(container.env.iter().flatten().all(|variable| variable.value_from.is_none()));
            assert!(container.env.iter().flatten().all(|variable| variable.name != "PGPASSWORD"));
        }
    }
}

#[test]
fn a_teams_template_holds_where_belay_needs_nothing_else() {
    let job = build(dump_method(json!({
        "metadata": { "labels": { "team": "shop" }, "annotations": { "a": "b" } },
        "spec": {
            "nodeSelector": { "disk": "fast" }, "tolerations": [{ "operator": "Exists" }],
            "imagePullSecrets": [{ "name": "pull" }], "restartPolicy": "OnFailure",
            "securityContext": { "fsGroup": 7, "runAsUser": 5 },
            "containers": [
                { "name": "sidecar", "image": "s" },
                { "name": "backup", "image": "own:2", "args": ["evil"], "resources": { "limits": { "memory": "1Gi" } },
                  "env": [{ "name": "X", "value": "1" }, { "name": "BELAY_BACKUP", "value": "no" }] },
            ],
        },
    })));
    let template = &job.spec.as_ref().unwrap().template;
    let labels = template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
    assert_eq!((labels["team"].as_str(), labels["belay.dev/database"].as_str()), ("shop", "shop"));
    let pod = pod(&job);
    assert_eq!(pod.node_selector.as_ref().unwrap()["disk"], "fast");
    assert_eq!(pod.image_pull_secrets.as_ref().unwrap()[0].name, "pull");
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    assert_eq!(pod.security_context.as_ref().unwrap().fs_group, Some(7));
    assert_eq!(pod.containers.len(), 2);
    let ours = container(pod, "backup");
    assert_eq!((ours.image.as_deref(), ours.args.as_ref().unwrap()[0].as_str()), (Some("own:2"), "backup"));
    assert_eq!(ours.security_context.as_ref().unwrap().run_as_user, Some(5));
    assert!(ours.resources.is_some());
    let variables: Vec<_> = ours.env.iter().flatten().map(|v| (v.name.as_str(), v.value.as_deref().unwrap())).collect();
    assert!(variables.contains(&("X", "1")) && variables.contains(&("BELAY_BACKUP", "nightly")), "{variables:?}");
    assert!(!variables.contains(&("BELAY_BACKUP", "no")));
}

#[test]
fn a_teams_own_script_finds_its_connection_written_by_a_user_that_it_can_be() {
    let job = build(json!({ "job": { "template": { "spec": { "containers": [
        { "name": "own", "image": "x", "securityContext": { "runAsUser": 70 } },
        { "name": "other", "image": "y" },
    ] } } } }));
    let pod = pod(&job);
    let init = container(pod, job::INIT_CONTAINER);
    assert_eq!(init.security_context.as_ref().unwrap().run_as_user, Some(70));
    assert_eq!((init.image.as_deref(), init.args.as_ref().unwrap()[0].as_str()), (Some("belay:1"), "credentials"));
    for name in ["own", "other"] {
        let own = container(pod, name);
        let variable = |name: &str| own.env.iter().flatten().find(|v| v.name == name).and_then(|v| v.value.clone());
        assert_eq!(variable("PGSERVICEFILE").as_deref(), Some("/run/belay/connection/pg_service.conf"));
        assert_eq!(variable("PGPASSFILE").as_deref(), Some("/run/belay/connection/pgpass"));
        assert_eq!(variable("PGSERVICE").as_deref(), Some("belay"));
        assert_eq!(variable("BELAY_BACKUP").as_deref(), Some("nightly"));
        let mounts: Vec<_> = own.volume_mounts.iter().flatten().map(|mount| mount.name.as_str()).collect();
        assert_eq!(mounts, ["belay-connection"], "the Secret itself is Belay's alone");
    }
}
