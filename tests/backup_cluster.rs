//! Backups on a real cluster: real Jobs, real claims, and what is said when one of them is not to be had.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/gitops.rs"]
mod gitops;
#[path = "support/server.rs"]
mod server;

use serde_json::{Value, json};

use cluster::{Cluster, DEADLINE, Namespace, message, ready};
use server::Database;

/// A namespace with a Secret and a PostgresDatabase `db`, whose backups go to the claim `backups`.
async fn namespace(cluster: &Cluster, purpose: &str, backup: &Value) -> (Namespace, Database) {
    let namespace = cluster.namespace(purpose).await;
    let database = cluster.database().await;
    namespace.apply(&database.secret("belay")).await;
    namespace.apply(&database.object(&format!("backup: {backup}"))).await;
    (namespace, database)
}

fn dump() -> Value {
    json!({ "method": { "pgDump": { "store": { "persistentVolumeClaim": { "claimName": "backups", "path": "shop" } } } } })
}

async fn claim(namespace: &Namespace) {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "backups" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    });
    namespace.apply(&claim.to_string()).await;
}

async fn back_up(namespace: &Namespace, name: &str, fields: Value) {
    let mut spec = json!({ "databaseRef": { "name": "db" } });
    spec.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    let backup = json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresBackup", "metadata": { "name": name }, "spec": spec,
    });
    namespace.apply(&backup.to_string()).await;
}

/// Polls until the Backup's condition Ready has this reason, and its message these words.
async fn until(namespace: &Namespace, name: &str, reason: &str, words: &str) -> Value {
    let look = async || {
        let backup = namespace.get("PostgresBackup", name).await?;
        (ready(&backup)?["reason"] == reason && message(&backup).contains(words)).then_some(backup)
    };
    namespace.wait_for(&format!("{reason}: {words}"), DEADLINE, look).await
}

async fn gone(namespace: &Namespace, name: &str) {
    let look = async || namespace.get("PostgresBackup", name).await.is_none().then_some(());
    namespace.wait_for(&format!("the end of {name}"), DEADLINE, look).await;
}

/// A Pod in the restricted profile, with the operator's image and the claim.
fn pod(cluster: &Cluster, command: &str) -> Value {
    let image = ["--namespace", cluster::OPERATOR, "get", "deployment", "belay", "--output"];
    let image = cluster.kubectl(image.iter().chain(&["jsonpath={.spec.template.spec.containers[0].image}"]));
    json!({
        "restartPolicy": "Never",
        "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
        "volumes": [{ "name": "store", "persistentVolumeClaim": { "claimName": "backups" } }],
        "containers": [{
            "name": "own", "image": cluster::text(&image.stdout), "command": ["bash", "-c", command],
            "volumeMounts": [{ "name": "store", "mountPath": "/backup" }],
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        }],
    })
}

/// What a command prints that sees the claim at /backup.
async fn in_the_volume(namespace: &Namespace, command: &str) -> String {
    let name = format!("look-{}", uuid::Uuid::new_v4().simple());
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": pod(&namespace.cluster, command),
    });
    namespace.apply(&object.to_string()).await;
    let look = async || {
        let phase = namespace.kubectl(&["get", "pod", &name, "--output", "jsonpath={.status.phase}"]);
        ["Succeeded", "Failed"].contains(&phase.as_str()).then_some(())
    };
    namespace.wait_for("the look into the volume", DEADLINE, look).await;
    namespace.kubectl(&["logs", &name])
}

/// Waits until pg_dump waits for a lock of the database.
async fn dump_waits(namespace: &Namespace, database: &Database) {
    let waiting = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    let look = async || (database.sql(waiting).trim() != "0").then_some(());
    namespace.wait_for("pg_dump waits for a lock", DEADLINE, look).await;
}

/// A session that holds a table that pg_dump needs, until it is dropped.
struct Lock<'a> {
    database: &'a Database,
    session: Option<std::thread::JoinHandle<()>>,
}

impl<'a> Lock<'a> {
    async fn hold(namespace: &Namespace, database: &'a Database) -> Self {
        database.sql("create table held (id int)");
        let cluster = namespace.cluster.clone();
        let name = database.name.clone();
        let session = std::thread::spawn(move || {
            let exec =
                ["--namespace", "belay-tests", "exec", "--stdin", "deployment/postgres", "--", "psql", "-qU", "belay"];
            let hold = "begin; lock table held in access exclusive mode; select pg_sleep(600)";
            cluster.kubectl(exec.iter().chain(&["-d", &name, "-c", hold]));
        });
        let lock = Self { database, session: Some(session) };
        let held = "select count(*) from pg_locks where relation = 'held'::regclass and granted";
        let look = async || (database.sql(held).trim() == "1").then_some(());
        namespace.wait_for("the lock", DEADLINE, look).await;
        lock
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.database
            .sql("select pg_terminate_backend(pid) from pg_locks where relation = 'held'::regclass and granted");
        let _ = self.session.take().map(std::thread::JoinHandle::join);
    }
}

#[tokio::test]
async fn a_backup_made_by_hand_is_taken_and_read_back_and_outlives_its_object() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = namespace(&cluster, "backup", &dump()).await;
    claim(&namespace).await;
    database.sql("create table orders as select generate_series(1, 1000) id");
    back_up(&namespace, "by-hand", json!({})).await;
    let backup = until(&namespace, "by-hand", "Succeeded", "read back").await;
    let status = &backup["status"];
    assert_eq!(status["verified"], "Read", "{status}");
    assert_eq!(status["store"]["persistentVolumeClaim"]["claimName"], "backups", "{status}");
    assert!(status["serverVersion"].as_str().unwrap().starts_with("15."), "{status}");
    assert!(
        status["snapshotAt"].is_string() && status["completedAt"].is_string() && status["job"].is_string(),
        "{status}"
    );

    // What the API server knows of the Job and its Pod holds no credential.
    let job = status["job"].as_str().unwrap();
    let secret = namespace.kubectl(&["get", "secret", "db", "--output", "jsonpath={.data.password}"]);
    assert_eq!(secret, "YmVsYXk=");
    for kind in ["job", "pod"] {
        let text = namespace.kubectl(&["get", kind, "--selector", "belay.dev/backup=by-hand", "--output", "json"]);
        let objects: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(objects["items"].as_array().unwrap().len(), 1, "{text}");
        let spec = &objects["items"][0]["spec"];
        let containers = spec.pointer("/template/spec/containers").or(spec.get("containers")).unwrap();
        for variable in containers[0]["env"].as_array().unwrap() {
            assert!(variable["name"].as_str().unwrap().starts_with("BELAY_"), "{variable}");
        }
        assert!(!text.contains("password") && !text.contains(&secret), "{text}");
    }

    // The dump is where the status says, it is what it says, and it stays.
    let location = status["location"].as_str().unwrap().to_owned();
    namespace.delete("PostgresBackup", "by-hand").await;
    gone(&namespace, "by-hand").await;
    let look = format!(
        "cd /backup; sha256sum {location}; /usr/lib/postgresql/15/bin/pg_restore --list {location}; cat {location}.json"
    );
    let seen = in_the_volume(&namespace, &look).await;
    assert!(seen.starts_with(status["sha256"].as_str().unwrap()), "{seen}");
    assert!(seen.contains("TABLE DATA public orders") && seen.contains(r#""name": "by-hand""#), "{seen}");
    let jobs = async || {
        let left = namespace.kubectl(&["get", "job", job, "--ignore-not-found", "--output", "name"]);
        left.is_empty().then_some(())
    };
    namespace.wait_for("the end of the Job, which is the Backup's", DEADLINE, jobs).await;
}

#[tokio::test]
async fn data_goes_with_its_backup_where_that_is_asked_for() {
    let cluster = Cluster::connect().await;
    let (namespace, _database) = namespace(&cluster, "deletion", &dump()).await;
    claim(&namespace).await;
    back_up(&namespace, "kept", json!({})).await;
    back_up(&namespace, "gone", json!({ "deletionPolicy": "Delete" })).await;
    until(&namespace, "kept", "Succeeded", "").await;
    until(&namespace, "gone", "Succeeded", "").await;
    namespace.delete("PostgresBackup", "gone").await;
    gone(&namespace, "gone").await;
    let files = in_the_volume(&namespace, "cd /backup; find . -type f | sort").await;
    let files: Vec<&str> = files.lines().collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().all(|file| file.starts_with("./shop/kept-")), "{files:?}");
}

#[tokio::test]
async fn a_backup_is_current_for_flux_and_argo_cd_only_when_it_was_taken() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = namespace(&cluster, "kstatus", &dump()).await;
    let recorder = gitops::Recorder::start(&namespace).await;
    claim(&namespace).await;
    back_up(&namespace, "good", json!({ "deletionPolicy": "Delete" })).await;
    until(&namespace, "good", "Succeeded", "").await;
    namespace.delete("PostgresBackup", "good").await;
    namespace.apply(&database.secret("wrong")).await;
    back_up(&namespace, "bad", json!({})).await;
    until(&namespace, "bad", "BackupFailed", "").await;
    gone(&namespace, "good").await;
    let ends: [(&str, &[&str]); 2] = [
        ("good", &["1 InProgress Progressing", "1 Current Healthy", "2 Terminating Progressing"]),
        ("bad", &["1 InProgress Progressing", "1 Failed Degraded"]),
    ];
    for (name, course) in ends {
        let states = recorder.of("PostgresBackup", name).await;
        gitops::honest(&states);
        assert_eq!(gitops::course(&states), course, "{states:?}");
        let taken = |state: &&gitops::State| state.kstatus == "Current";
        assert!(states.iter().filter(taken).all(|state| state.object["status"]["sha256"].is_string()), "{states:?}");
    }
}

#[tokio::test]
async fn a_missing_claim_is_named_and_waited_for() {
    let cluster = Cluster::connect().await;
    let (namespace, _database) = namespace(&cluster, "claim", &dump()).await;
    back_up(&namespace, "early", json!({})).await;
    let waiting = until(&namespace, "early", "BackupRunning", "persistentvolumeclaim \"backups\" not found").await;
    assert!(message(&waiting).contains("The database is not touched."), "{waiting}");
    claim(&namespace).await;
    until(&namespace, "early", "Succeeded", "").await;
}

#[tokio::test]
async fn a_missing_database_a_missing_method_and_a_missing_secret_are_named_and_waited_for() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("missing").await;
    back_up(&namespace, "b", json!({})).await;
    until(&namespace, "b", "DatabaseNotFound", "PostgresDatabase db").await;
    let database = cluster.database().await;
    namespace.apply(&database.object("backup: {when: Always}")).await;
    until(&namespace, "b", "BackupNotConfigured", "spec.backup.method").await;
    namespace.apply(&database.object(&format!("backup: {}", dump()))).await;
    until(&namespace, "b", "SecretNotFound", "/db").await;
    claim(&namespace).await;
    namespace.apply(&database.secret("belay")).await;
    until(&namespace, "b", "Succeeded", "").await;
}

#[tokio::test]
async fn a_pod_that_is_not_let_in_says_why() {
    let cluster = Cluster::connect().await;
    let mut policy = dump();
    // The namespaces of tests enforce the restricted profile.
    policy["method"]["pgDump"]["podTemplate"] = json!({ "spec": { "hostNetwork": true } });
    let (namespace, _database) = namespace(&cluster, "admission", &policy).await;
    claim(&namespace).await;
    back_up(&namespace, "b", json!({})).await;
    until(&namespace, "b", "BackupRunning", "violates PodSecurity").await;
}

#[tokio::test]
async fn a_failed_jobs_own_words_are_the_backups() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = namespace(&cluster, "words", &dump()).await;
    claim(&namespace).await;
    namespace.apply(&database.secret("wrong")).await;
    back_up(&namespace, "b", json!({})).await;
    let failed = until(&namespace, "b", "BackupFailed", "password authentication failed").await;
    assert!(message(&failed).contains("No backup was taken."), "{failed}");
    assert_eq!(failed["status"]["conditions"].as_array().unwrap().iter().filter(|c| c["status"] == "True").count(), 1);
    assert!(failed["status"]["location"].is_null(), "{failed}");
}

#[tokio::test]
async fn a_teams_own_script_gets_the_connection_as_files_and_is_never_called_verified() {
    let cluster = Cluster::connect().await;
    let script = r#"set -eu; env | grep -c hunter && exit 9
        /usr/lib/postgresql/15/bin/psql -XAtqc "select current_database()" > "/backup/$BELAY_NAMESPACE.$BELAY_DATABASE.$BELAY_BACKUP""#;
    let method = json!({ "method": { "job": { "template": { "spec": pod(&cluster, script) } } } });
    let (namespace, database) = namespace(&cluster, "script", &method).await;
    claim(&namespace).await;
    back_up(&namespace, "own", json!({})).await;
    let backup = until(&namespace, "own", "Succeeded", "did not look at what it wrote").await;
    let status = &backup["status"];
    assert_eq!(status["verified"], "None", "{status}");
    assert!(status["location"].is_null() && status["snapshotAt"].is_string(), "{status}");
    let seen = in_the_volume(&namespace, "cd /backup; grep -r .").await;
    assert_eq!(seen.trim(), format!("{}.db.own:{}", namespace.name, database.name));
}

#[tokio::test]
async fn a_teams_own_script_that_fails_is_quoted_without_the_password() {
    let cluster = Cluster::connect().await;
    let script = r#"echo "the bucket is gone; $(tail -n 1 "$PGPASSFILE")" >&2; exit 3"#;
    let method = json!({ "method": { "job": { "template": { "spec": pod(&cluster, script) } } } });
    let (namespace, _database) = namespace(&cluster, "quoted", &method).await;
    claim(&namespace).await;
    back_up(&namespace, "own", json!({})).await;
    let failed = until(&namespace, "own", "BackupFailed", "ended with exit code 3: the bucket is gone").await;
    assert!(message(&failed).contains("********") && !message(&failed).contains(":belay\""), "{failed}");
}

#[tokio::test]
async fn a_teams_own_script_whose_secret_is_another_one_by_now_or_gone_is_not_quoted() {
    let cluster = Cluster::connect().await;
    let script = r#"until [ -e "/backup/$BELAY_BACKUP" ]; do sleep 0.1; done; tail -n 1 "$PGPASSFILE" >&2; exit 3"#;
    let method = json!({ "method": { "job": { "template": { "spec": pod(&cluster, script) } } } });
    let (namespace, database) = namespace(&cluster, "unquoted", &method).await;
    claim(&namespace).await;
    for name in ["changed", "deleted"] {
        namespace.apply(&database.secret("belay")).await;
        back_up(&namespace, name, json!({})).await;
        let selector = format!("belay.dev/backup={name}");
        let running = async || {
            let state = "jsonpath={.items[*].status.containerStatuses[0].state.running.startedAt}";
            let state = namespace.kubectl(&["get", "pod", "--selector", &selector, "--output", state]);
            (!state.is_empty()).then_some(())
        };
        namespace.wait_for("the script's start", DEADLINE, running).await;
        match name {
            "changed" => namespace.apply(&database.secret("another")).await,
            _ => drop(namespace.kubectl(&["delete", "secret", "db"])),
        }
        in_the_volume(&namespace, &format!("touch /backup/{name}")).await;
        let failed = until(&namespace, name, "BackupFailed", "ended with exit code 3").await;
        let said = message(&failed);
        assert!(said.contains("see its Pod's log") && !said.contains("belay-tests.svc"), "{said}");
    }
}

#[tokio::test]
async fn a_pod_that_was_taken_away_is_followed_by_another_and_a_deleted_job_is_a_failed_backup() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = namespace(&cluster, "taken", &dump()).await;
    claim(&namespace).await;
    let lock = Lock::hold(&namespace, &database).await;
    back_up(&namespace, "b", json!({})).await;
    dump_waits(&namespace, &database).await;
    let pods = |phase: &str| {
        namespace.kubectl(&[
            "get",
            "pod",
            "--selector",
            "belay.dev/backup=b",
            "--field-selector",
            phase,
            "--output",
            "name",
        ])
    };
    // Its phase may not tell yet that it runs.
    let first = pods("");
    namespace.kubectl(&["delete", "pod", "--selector", "belay.dev/backup=b", "--wait=false"]);
    until(&namespace, "b", "BackupRunning", "").await;
    // Another Pod, alone, waits for the lock again: one that is only just starting would not hear that it is to stop.
    let another = async || {
        let (all, running) = (pods(""), pods("status.phase=Running"));
        (all.lines().count() == 1 && all == running && all != first).then_some(())
    };
    namespace.wait_for("another Pod", DEADLINE, another).await;
    dump_waits(&namespace, &database).await;
    namespace.kubectl(&["delete", "job", "--selector", "belay.dev/backup=b", "--wait=false"]);
    until(&namespace, "b", "BackupFailed", "was deleted before it was done").await;
    // The Job's Pod goes after it, in its own time: let go before, the lock would let it finish after all.
    let none = async || pods("").is_empty().then_some(());
    namespace.wait_for("the end of the Job's Pod", DEADLINE, none).await;
    drop(lock);
    // What is left in the volume may be unfinished; nothing in it passes for a backup, which has its record beside it.
    assert_eq!(in_the_volume(&namespace, "find /backup -type f -name '*.json'").await, "");
}

#[tokio::test]
async fn the_oldest_backups_of_migrations_go_with_their_data() {
    let cluster = Cluster::connect().await;
    let mut policy = dump();
    policy["keep"] = json!(1);
    policy["maxAge"] = json!("0s");
    let (namespace, _database) = namespace(&cluster, "keep", &policy).await;
    claim(&namespace).await;
    namespace.migrate(&[("001_one.sql", "create table one (id int);")], json!({})).await;
    let first = namespace.reason("m", "Succeeded").await;
    let first = first["status"]["history"][0]["backup"].as_str().unwrap().to_owned();
    let scripts = [("001_one.sql", "create table one (id int);"), ("002_two.sql", "create table two (id int);")];
    namespace.migrate(&scripts, json!({})).await;
    gone(&namespace, &first).await;
    let second = namespace.reason("m", "Succeeded").await;
    let second = second["status"]["history"][0]["backup"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let files = in_the_volume(&namespace, "cd /backup; find . -type f").await;
    assert!(files.contains(&second) && !files.contains(&first), "{files}");
}
