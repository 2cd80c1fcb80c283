//! The Jobs of a Backup: pure, from its spec to the object that is created once and never applied again.
//!
//! Credentials reach a Pod as a mounted Secret and nothing else: no argument, no variable, no annotation holds one.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, KeyToPath, PersistentVolumeClaimVolumeSource,
    PodSpec, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::template::{self, TERMINATION_LOG, USER};
use crate::api::{
    BACKUP_LABEL, BACKUP_RUN, BackupMethod, CaKind, Connection, DATABASE_LABEL, JobMethod, MIGRATION_LABEL, PgDump,
    PodTemplate, PostgresBackup, PostgresDatabase, SslMode, Store,
};
use crate::backup::{Credentials, location};
use crate::postgres::{ClientCertificate, LibpqFiles};

/// The name of Belay's container in a Pod template.
pub const CONTAINER: &str = "backup";
/// The name of Belay's init container before a team's own.
pub const INIT_CONTAINER: &str = "belay-credentials";
/// The annotation with the resource version that the connection's Secret had when a Job was made.
pub const SECRET_VERSION: &str = "belay.dev/secret-version";
/// Selects the Jobs that the backup controller makes.
pub const SELECTOR: &str = "app.kubernetes.io/managed-by=belay,app.kubernetes.io/component=backup";

const SECRET_FOLDER: &str = "/run/belay/secret";
const CA_FOLDER: &str = "/run/belay/ca";
const CLIENT_FOLDER: &str = "/run/belay/client";
const CONNECTION_FOLDER: &str = "/run/belay/connection";
const STORE_FOLDER: &str = "/backup";

/// Pods that were evicted, or lost with their node, are followed by this many others.
const BACKOFF_LIMIT: i32 = 2;
/// Long enough to look at a log after a weekend; what the Job found out is in the Backup's status.
const TTL_SECONDS: i32 = 3 * 24 * 3600;

/// The image that Jobs run, and when it is pulled.
#[derive(Clone, Debug)]
pub struct Image {
    pub name: String,
    pub pull_policy: String,
}

/// The name of the Job that takes this Backup: the same at every reconcile, another for another object of the same name.
pub fn name(backup: &PostgresBackup) -> String {
    stem(backup)
}

/// The name of the Job that deletes its data.
pub fn deletion_name(backup: &PostgresBackup) -> String {
    format!("{}-del", stem(backup))
}

/// Where the dump is in its store: named with the UID, so that no Backup overwrites another's.
pub fn dump_location(backup: &PostgresBackup, store: &Store) -> String {
    location(&store.persistent_volume_claim.path, &stem(backup))
}

/// At most 59 characters, of those that a Pod's name can have.
fn stem(backup: &PostgresBackup) -> String {
    let uid: String = backup.uid().unwrap_or_default().chars().filter(char::is_ascii_hexdigit).take(8).collect();
    let name = backup.name_any().replace('.', "-");
    let name = name.get(..50).unwrap_or(&name);
    format!("{name}-{uid}")
}

/// The Job that takes the Backup.
///
/// # Errors
/// When the Pod template cannot be read; the error names the field.
pub fn build(
    backup: &PostgresBackup,
    database: &PostgresDatabase,
    method: &BackupMethod,
    image: &Image,
) -> Result<Job, serde_json::Error> {
    let pod = match method {
        BackupMethod { pg_dump: Some(pg_dump), .. } => dump_pod(backup, database, pg_dump, image)?,
        BackupMethod { job: Some(job), .. } => team_pod(backup, database, job, image)?,
        // The API server's own rule forbids it.
        BackupMethod { pg_dump: None, job: None } => PodTemplateSpec::default(),
    };
    Ok(job(backup, name(backup), pod))
}

/// The Job that deletes the Backup's data.
///
/// # Errors
/// When the Pod template cannot be read; the error names the field.
pub fn build_deletion(
    backup: &PostgresBackup,
    store: &Store,
    template: Option<&PodTemplate>,
    image: &Image,
) -> Result<Job, serde_json::Error> {
    let mut pod = template::read(template)?;
    let spec = pod.spec.get_or_insert_with(PodSpec::default);
    template::harden(spec, true);
    template::add_volumes(spec, vec![claim_volume(store)]);
    let arguments = vec![
        "delete-backup".to_owned(),
        format!("--store={STORE_FOLDER}"),
        format!("--location={}", dump_location(backup, store)),
        format!("--uid={}", backup.uid().unwrap_or_default()),
        format!("--termination-log={TERMINATION_LOG}"),
    ];
    let container = template::container(spec, CONTAINER);
    ours(container, image, arguments, &[mount("belay-store", STORE_FOLDER, false)], &[]);
    run_as(spec, CONTAINER);
    Ok(job(backup, deletion_name(backup), pod))
}

fn job(backup: &PostgresBackup, name: String, mut template: PodTemplateSpec) -> Job {
    let labels = labels(backup);
    let metadata = template.metadata.get_or_insert_with(ObjectMeta::default);
    metadata.labels.get_or_insert_with(BTreeMap::new).extend(labels.clone());
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: backup.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![OwnerReference {
                api_version: PostgresBackup::api_version(&()).into_owned(),
                kind: PostgresBackup::kind(&()).into_owned(),
                name: backup.name_any(),
                uid: backup.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(BACKOFF_LIMIT),
            pod_failure_policy: Some(failure_policy()),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// What was interrupted is tried again; what failed by itself would fail again.
fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Count".to_owned(),
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: "True".to_owned(),
                }]),
                on_exit_codes: None,
            },
            PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_pod_conditions: None,
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: None,
                    operator: "NotIn".to_owned(),
                    // Done; ended by SIGINT or SIGTERM, as Belay says it and as a shell does.
                    values: vec![0, 130, 143],
                }),
            },
        ],
    }
}

fn labels(backup: &PostgresBackup) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), "belay".to_owned()),
        ("app.kubernetes.io/component".to_owned(), "backup".to_owned()),
        (BACKUP_LABEL.to_owned(), backup.name_any()),
        (DATABASE_LABEL.to_owned(), backup.spec.database_ref.name.clone()),
    ]);
    if let Some(migration) = backup.labels().get(MIGRATION_LABEL) {
        labels.insert(MIGRATION_LABEL.to_owned(), migration.clone());
    }
    // A longer one is no label's value, and would keep the Job from being made.
    labels.retain(|_, value| value.len() <= 63);
    labels
}

/// pg_dump in Belay's own container.
fn dump_pod(
    backup: &PostgresBackup,
    database: &PostgresDatabase,
    pg_dump: &PgDump,
    image: &Image,
) -> Result<PodTemplateSpec, serde_json::Error> {
    let mut pod = template::read(pg_dump.pod_template.as_ref())?;
    let spec = pod.spec.get_or_insert_with(PodSpec::default);
    template::harden(spec, true);
    let mut volumes = connection_volumes(&database.spec.connection);
    volumes.push(claim_volume(&pg_dump.store));
    template::add_volumes(spec, volumes);
    let policy = &database.spec.backup;
    let mut arguments = vec![
        "backup".to_owned(),
        format!("--store={STORE_FOLDER}"),
        format!("--location={}", dump_location(backup, &pg_dump.store)),
        format!("--compression={}", pg_dump.compression),
        format!("--lock-wait={}", policy.lock_wait),
        format!("--retry-for={}", database.spec.locks.retry_for),
        format!("--scratch={CONNECTION_FOLDER}"),
        format!("--termination-log={TERMINATION_LOG}"),
    ];
    arguments.extend(connection_arguments(database));
    let mut mounts = connection_mounts(&database.spec.connection);
    mounts.push(mount("belay-connection", CONNECTION_FOLDER, false));
    mounts.push(mount("belay-store", STORE_FOLDER, false));
    let container = template::container(spec, CONTAINER);
    ours(container, image, arguments, &mounts, &origin(backup));
    run_as(spec, CONTAINER);
    Ok(pod)
}

/// The team's own containers, after an init container of Belay's that writes the connection's files.
fn team_pod(
    backup: &PostgresBackup,
    database: &PostgresDatabase,
    method: &JobMethod,
    image: &Image,
) -> Result<PodTemplateSpec, serde_json::Error> {
    let mut pod = template::read(Some(&method.template))?;
    let spec = pod.spec.get_or_insert_with(PodSpec::default);
    spec.restart_policy = Some("Never".to_owned());
    template::add_volumes(spec, connection_volumes(&database.spec.connection));

    let mut environment = origin(backup);
    let file = |name: &str| format!("{CONNECTION_FOLDER}/{name}");
    let libpq = [
        variable("PGSERVICEFILE", &file(Credentials::SERVICE_FILE)),
        variable("PGPASSFILE", &file(Credentials::PASSWORD_FILE)),
        variable("PGSERVICE", LibpqFiles::SERVICE),
    ];
    let mut init = Container { name: INIT_CONTAINER.to_owned(), ..Container::default() };
    let mut arguments = vec![
        "credentials".to_owned(),
        format!("--folder={CONNECTION_FOLDER}"),
        format!("--lock-wait={}", database.spec.backup.lock_wait),
        format!("--termination-log={TERMINATION_LOG}"),
    ];
    arguments.extend(connection_arguments(database));
    let mut mounts = connection_mounts(&database.spec.connection);
    mounts.push(mount("belay-connection", CONNECTION_FOLDER, false));
    ours(&mut init, image, arguments, &mounts, &environment);
    // The password file has to be its reader's own: so the files are written as the user that the team's container is.
    let user = user_of(spec, spec.containers.first());
    template::harden_container(&mut init, Some(user.unwrap_or(USER)));
    // The Pod is the team's, and may say it of its own containers only: without it a restricted namespace refuses the Pod.
    template::confine(&mut init);

    environment.extend(libpq);
    let shared = [mount("belay-connection", CONNECTION_FOLDER, true)];
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        template::add_mounts(container, &shared);
        template::add_env(container, &environment);
        container.termination_message_policy.get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
    }
    spec.init_containers.get_or_insert_with(Vec::new).insert(0, init);
    Ok(pod)
}

/// A container of Belay's own; what the team's template says of it holds where Belay needs nothing else.
fn ours(
    container: &mut Container,
    image: &Image,
    arguments: Vec<String>,
    mounts: &[VolumeMount],
    environment: &[EnvVar],
) {
    if container.image.is_none() {
        container.image = Some(image.name.clone());
        container.image_pull_policy.get_or_insert_with(|| image.pull_policy.clone());
    }
    container.args = Some(arguments);
    template::add_mounts(container, mounts);
    template::add_env(container, environment);
}

/// The user of Belay's own container: as the template says, else the image's.
fn run_as(pod: &mut PodSpec, name: &str) {
    let by_pod = pod.security_context.as_ref().and_then(|security| security.run_as_user);
    let container = template::container(pod, name);
    template::harden_container(container, by_pod.or(Some(USER)));
}

/// The user that a container runs as, as far as the template says.
fn user_of(pod: &PodSpec, container: Option<&Container>) -> Option<i64> {
    let own = container.and_then(|container| container.security_context.as_ref()?.run_as_user);
    own.or_else(|| pod.security_context.as_ref()?.run_as_user)
}

fn connection_volumes(connection: &Connection) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: "belay-secret".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(connection.secret_ref.name.clone()),
                // Only Belay's own container mounts it, as whichever user the template says.
                default_mode: Some(0o444),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "belay-connection".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("8Mi".to_owned())),
            }),
            ..Volume::default()
        },
    ];
    if let Some(reference) = &connection.ca_ref {
        let items = Some(vec![KeyToPath { key: reference.key.clone(), path: "ca.crt".to_owned(), mode: None }]);
        let name = reference.name.clone();
        let mut volume = Volume { name: "belay-ca".to_owned(), ..Volume::default() };
        match reference.kind {
            CaKind::Secret => {
                volume.secret = Some(SecretVolumeSource {
                    secret_name: Some(name),
                    items,
                    default_mode: Some(0o444),
                    ..SecretVolumeSource::default()
                });
            }
            CaKind::ConfigMap => {
                volume.config_map = Some(ConfigMapVolumeSource { name, items, ..ConfigMapVolumeSource::default() });
            }
        }
        volumes.push(volume);
    }
    if let Some(reference) = &connection.client_cert_secret_ref {
        let key = |key: &str| KeyToPath { key: key.to_owned(), path: key.to_owned(), mode: None };
        volumes.push(Volume {
            name: "belay-client".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(reference.name.clone()),
                items: Some(vec![key(ClientCertificate::CERTIFICATE), key(ClientCertificate::KEY)]),
                default_mode: Some(0o444),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        });
    }
    volumes
}

fn connection_mounts(connection: &Connection) -> Vec<VolumeMount> {
    let mut mounts = vec![mount("belay-secret", SECRET_FOLDER, true)];
    if connection.ca_ref.is_some() {
        mounts.push(mount("belay-ca", CA_FOLDER, true));
    }
    if connection.client_cert_secret_ref.is_some() {
        mounts.push(mount("belay-client", CLIENT_FOLDER, true));
    }
    mounts
}

fn connection_arguments(database: &PostgresDatabase) -> Vec<String> {
    let spec = &database.spec;
    let connection = &spec.connection;
    let ssl_mode = connection.ssl_mode.map(|mode| match mode {
        SslMode::Disable => "disable",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    });
    let optional = [
        ("ca", connection.ca_ref.as_ref().map(|_| format!("{CA_FOLDER}/ca.crt"))),
        ("client-certificate", connection.client_cert_secret_ref.as_ref().map(|_| CLIENT_FOLDER.to_owned())),
        ("host", connection.host.clone()),
        ("port", connection.port.map(|port| port.to_string())),
        ("dbname", connection.dbname.clone()),
        ("ssl-mode", ssl_mode.map(str::to_owned)),
        ("role", spec.role.clone()),
    ];
    let mut arguments = vec![format!("--secret={SECRET_FOLDER}"), format!("--history-schema={}", spec.history_schema)];
    arguments.extend(optional.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
    arguments
}

/// On whose behalf: for the record beside the dump, and for the team's own script.
fn origin(backup: &PostgresBackup) -> Vec<EnvVar> {
    let known = [
        ("BELAY_BACKUP", Some(backup.name_any())),
        ("BELAY_BACKUP_UID", backup.uid()),
        ("BELAY_NAMESPACE", backup.namespace()),
        ("BELAY_DATABASE", Some(backup.spec.database_ref.name.clone())),
        ("BELAY_MIGRATION", backup.labels().get(MIGRATION_LABEL).cloned()),
        ("BELAY_RUN", backup.annotations().get(BACKUP_RUN).cloned()),
    ];
    known.into_iter().filter_map(|(name, value)| Some(variable(name, &value?))).collect()
}

fn claim_volume(store: &Store) -> Volume {
    Volume {
        name: "belay-store".to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: store.persistent_volume_claim.claim_name.clone(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}
