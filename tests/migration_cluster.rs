//! The main path on a real cluster: scripts in a ConfigMap become a backed-up, migrated and checked database. The
//! operator runs as a Deployment from its own image, backups run in real Jobs, and the files are those of examples/.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/server.rs"]
mod server;

use serde_json::{Value, json};

use cluster::{Cluster, DEADLINE, Namespace, message, ready, text};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// The manifests of examples/shop in a namespace of the test's own, with a server that the cluster has.
fn shop(namespace: &Namespace) -> String {
    let rendered = namespace.cluster.kubectl(["kustomize", &format!("{EXAMPLES}/shop")]);
    assert!(rendered.status.success(), "{}", text(&rendered.stderr));
    let rendered = text(&rendered.stdout)
        .replace("namespace: shop\n", &format!("namespace: {}\n", namespace.name))
        .replace("postgres.shop.svc", &format!("postgres.{}.svc", namespace.name))
        .replace("image: postgres:17", &format!("image: {}", namespace.cluster.postgres_image()));
    // The namespace is there, and is the test's.
    let documents = rendered.split("\n---\n").filter(|document| !document.contains("kind: Namespace"));
    documents.collect::<Vec<_>>().join("\n---\n")
}

fn sql(namespace: &Namespace, query: &str) -> String {
    let psql = ["exec", "statefulset/postgres", "--", "psql", "-U", "shop", "-d", "shop", "-XAtqc", query];
    namespace.kubectl(&psql).trim().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{EXAMPLES}/{path}")).unwrap()
}

/// A release: the ConfigMap gets another script.
async fn release(namespace: &Namespace, file: &str, text: &str) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "shop-migrations" }, "data": { file: text }
    });
    // As another field manager than the one that brought the others: they stay.
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager", "release", "--filename", "-"];
    let output =
        namespace.cluster.kubectl_with(["--namespace", &namespace.name].iter().chain(&apply), &map.to_string());
    assert!(output.status.success(), "{}", text_of(&output));
}

fn text_of(output: &std::process::Output) -> String {
    text(&output.stderr)
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn the_shop_of_the_examples_goes_from_nothing_to_003_and_a_broken_release_costs_it_nothing() {
    let cluster = Cluster::connect().await;
    let namespace = cluster.namespace("shop").await;
    namespace.apply(&shop(&namespace)).await;

    // From nothing to 003, above a verified backup, with health checks.
    let migration = namespace.reason("shop", "Succeeded").await;
    let status = &migration["status"];
    assert_eq!(status["version"], "003", "{status}");
    assert_eq!((&status["target"], &status["pending"]), (&json!("003"), &json!(0)), "{status}");
    assert_eq!(status["description"], "Ticket escalation", "{status}");
    for kind in ["Ready", "Planned", "BackedUp", "Applied", "Healthy"] {
        assert_eq!(condition(&migration, kind)["status"], "True", "{kind}: {status}");
    }
    for kind in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&migration, kind)["status"], "False", "{kind}: {status}");
    }
    assert!(status["run"].is_null() && status["failure"].is_null(), "{status}");
    let run = &status["history"][0];
    assert_eq!((&run["to"], &run["outcome"]), (&json!("003"), &json!("Succeeded")), "{status}");

    let backup = namespace.get("PostgresBackup", run["backup"].as_str().unwrap()).await.unwrap();
    assert_eq!(ready(&backup).unwrap()["status"], "True", "{backup}");
    assert_eq!(backup["status"]["verified"], "Read", "{backup}");
    assert!(backup["status"]["bytes"].as_i64().unwrap() > 0 && backup["status"]["ledgerVersion"].is_null(), "{backup}");

    // The ledger says the same, in the database itself.
    assert_eq!(run["backup"], sql(&namespace, "select backup from belay.run"), "{status}");
    let ledger = sql(&namespace, "select version, author, mode, not retired from belay.history order by version");
    let rows: Vec<_> = ledger.lines().collect();
    assert_eq!(rows.len(), 3, "{ledger}");
    assert!(rows[0].starts_with("001|DBA Team|") && rows[1].starts_with("002|Accounts Team|"), "{ledger}");
    assert_eq!(sql(&namespace, "select count(*) from user_preferences"), "0");

    // Nothing is held back from whoever deletes it, and the password is nowhere.
    let let_go = async || namespace.get("Migration", "shop").await?["metadata"]["finalizers"].is_null().then_some(());
    namespace.wait_for("the end of the finalizer", DEADLINE, let_go).await;
    assert!(!cluster.report(&namespace.name).contains("change-me"));

    // A broken release: stopped, told, and nothing lost.
    sql(&namespace, &read("demo/rows.sql"));
    release(&namespace, "004_split_totals.sql", &read("demo/004_split_totals.broken.sql")).await;
    let migration = namespace.reason("shop", "ScriptFailed").await;
    let failure = &migration["status"]["failure"];
    assert_eq!(condition(&migration, "Stalled")["status"], "True", "{migration}");
    assert_eq!(
        (&failure["sqlState"], &failure["script"]),
        (&json!("42703"), &json!("004_split_totals.sql")),
        "{failure}"
    );
    assert_eq!((&failure["line"], &failure["column"]), (&json!(10), &json!(45)), "{failure}");
    assert_eq!((&failure["statement"], &failure["command"]), (&json!(3), &json!("UPDATE")), "{failure}");
    assert_eq!(migration["status"]["version"], "003", "{failure}");
    let said = message(&migration);
    for part in [
        "004_split_totals.sql, line 10, column 45",
        "42703",
        "Nothing of 004 is applied",
        "is at 003",
        "shop-migrations",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert_eq!(sql(&namespace, "select count(*), count(*) filter (where status = 'draft') from orders"), "600|200");
    assert_eq!(sql(&namespace, "select count(*) from belay.history"), "3");
    let columns =
        "select count(*) from information_schema.columns where table_name = 'orders' and column_name = 'net_cents'";
    assert_eq!(sql(&namespace, columns), "0");

    // Corrected: nobody tells Belay.
    release(&namespace, "004_split_totals.sql", &read("demo/004_split_totals.sql")).await;
    let look = async || {
        let migration = namespace.get("Migration", "shop").await?;
        (migration["status"]["version"] == "004" && ready(&migration)?["status"] == "True").then_some(migration)
    };
    let migration = namespace.wait_for("version 004", DEADLINE, look).await;
    assert!(migration["status"]["failure"].is_null(), "{migration}");
    let outcomes: Vec<_> =
        migration["status"]["history"].as_array().unwrap().iter().map(|run| run["outcome"].clone()).collect();
    assert_eq!(outcomes, ["Succeeded", "ScriptFailed", "Succeeded"], "newest first");
    assert_eq!(sql(&namespace, "select count(*), count(net_cents) from orders"), "600|600");

    // kubectl tells the story without -o yaml.
    let line = namespace.kubectl(&["get", "migrations", "--no-headers"]);
    let columns: Vec<_> = line.split_whitespace().take(7).collect();
    assert_eq!(columns, ["shop", "shop", "004", "004", "0", "True", "Succeeded"]);
    let events = namespace.kubectl(&["get", "events", "--output", "jsonpath={range .items[*]}{.reason}{\"\\n\"}{end}"]);
    for reason in ["BackupRunning", "Applying", "Succeeded", "ScriptFailed"] {
        assert!(events.lines().any(|line| line == reason), "no event {reason} among {events}");
    }
}

#[tokio::test]
async fn a_suspended_migration_plans_and_touches_nothing_until_it_is_let_go() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("suspend").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    let scripts =
        [("1_a.sql", "create table a (); -- ROLLBACK: drop table a;"), ("2_b.sql", "create table b (); select 1;")];
    namespace.migrate(&scripts, json!({ "suspend": true })).await;
    let migration = namespace.reason("m", "Suspended").await;
    let status = &migration["status"];
    assert_eq!(status["pending"], 2, "{status}");
    assert_eq!(
        status["plan"][1],
        json!({ "version": "2", "description": "b", "mode": "Transaction", "statements": 2, "rollback": "no" })
    );
    assert_eq!(condition(&migration, "Stalled")["status"], "True", "{status}");
    database.is_untouched();

    namespace.patch("Migration", "m", json!({ "spec": { "suspend": false } })).await;
    namespace.reason("m", "Succeeded").await;
    assert_eq!(database.sql("select string_agg(version, ' ' order by version) from belay.history").trim(), "1 2");
}

#[tokio::test]
async fn a_target_is_where_it_stops_and_a_higher_one_takes_it_on() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("target").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    namespace
        .migrate(&[("1_a.sql", "create table a ();"), ("2_b.sql", "create table b ();")], json!({ "target": "1" }))
        .await;
    let migration = namespace.reason("m", "Succeeded").await;
    assert_eq!(migration["status"]["version"], "1");
    namespace.patch("Migration", "m", json!({ "spec": { "target": "2" } })).await;
    let migration = namespace.reason("m", "Succeeded").await;
    assert_eq!(migration["status"]["version"], "2");
    assert_eq!(migration["status"]["history"][0]["from"], "1");
}

#[tokio::test]
async fn all_pending_scripts_share_one_transaction_when_that_is_asked_for() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("together").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    let scripts = [("1_a.sql", "create table a ();"), ("2_b.sql", "create table b (); select 1 / 0;")];
    namespace.migrate(&scripts, json!({ "transaction": "AllPending" })).await;
    let migration = namespace.reason("m", "ScriptFailed").await;
    assert_eq!(migration["status"]["failure"]["sqlState"], "22012");
    assert_eq!(migration["status"]["version"], Value::Null, "{}", message(&migration));
    assert_eq!(database.sql("select to_regclass('a'), count(*) from belay.history").trim(), "|0");
}

#[tokio::test]
async fn a_database_with_tables_is_refused_until_a_baseline_says_where_it_is() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("baseline").await, cluster.database().await);
    database.sql("create table a ()");
    namespace.apply(&database.manifests()).await;
    let scripts = [("1_a.sql", "create table a ();"), ("2_b.sql", "create table b ();")];
    namespace.migrate(&scripts, json!({})).await;
    let migration = namespace.reason("m", "BaselineRequired").await;
    assert!(
        message(&migration).contains("public.a") && message(&migration).contains("baseline"),
        "{}",
        message(&migration)
    );
    assert_eq!(database.sql("select count(*) from pg_namespace where nspname = 'belay'").trim(), "0");

    namespace.patch("Migration", "m", json!({ "spec": { "baseline": "1" } })).await;
    namespace.reason("m", "Succeeded").await;
    assert_eq!(
        database.sql("select version, mode from belay.history order by 1").to_lowercase().trim(),
        "1|baseline\n2|transaction"
    );
}

#[tokio::test]
async fn health_checks_that_fail_say_what_they_saw_and_recover_by_themselves() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("health").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    let check = json!({ "name": "rows", "sql": { "query": "select count(*) > 0 from a" }, "timeout": "300ms", "interval": "100ms" });
    namespace.migrate(&[("1_a.sql", "create table a (n int);")], json!({ "healthChecks": [check] })).await;
    let migration = namespace.reason("m", "Unhealthy").await;
    assert_eq!(migration["status"]["version"], "1", "the scripts are applied");
    assert!(message(&migration).contains("rows"), "{}", message(&migration));
    assert_eq!(condition(&migration, "Applied")["status"], "True", "{migration}");
    assert_eq!(condition(&migration, "Healthy")["status"], "False", "{migration}");
    database.sql("insert into a values (1)");
    namespace.reason("m", "Succeeded").await;
}

#[tokio::test]
async fn a_second_migration_of_one_database_stalls_and_the_older_keeps_it() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("rivals").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({})).await;
    namespace.reason("m", "Succeeded").await;
    let rival = json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": "rival" },
        "spec": { "databaseRef": { "name": "db" }, "source": { "inline": { "1_z.sql": "create table z ();" } } }
    });
    namespace.apply(&rival.to_string()).await;
    let rival = namespace.reason("rival", "DatabaseInUse").await;
    assert!(message(&rival).contains("Migration m"), "{}", message(&rival));
    assert_eq!(database.sql("select to_regclass('z')").trim(), "");
}

#[tokio::test]
async fn without_a_backup_method_nothing_is_run_unless_the_policy_says_never() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("nomethod").await, cluster.database().await);
    namespace.apply(&database.secret("belay")).await;
    namespace.apply(&database.object("interval: 10m")).await;
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({})).await;
    let migration = namespace.reason("m", "BackupNotConfigured").await;
    assert!(message(&migration).contains("spec.backup"), "{}", message(&migration));
    database.is_untouched();
    namespace.patch("PostgresDatabase", "db", json!({ "spec": { "backup": { "when": "Never" } } })).await;
    namespace.reason("m", "Succeeded").await;
}

#[tokio::test]
async fn a_backup_that_fails_says_why_and_no_sql_is_run() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("nobackup").await, cluster.database().await);
    namespace.apply(&database.secret("belay")).await;
    let job = r#"{job: {template: {spec: {containers: [{name: backup, image: IMAGE, command: [sh, -c, "echo disk on fire >&2; exit 3"],
        securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, runAsUser: 999, capabilities: {drop: [ALL]},
        seccompProfile: {type: RuntimeDefault}}}]}}}}"#;
    let job = job.replace("IMAGE", cluster.postgres_image());
    namespace.apply(&database.object(&format!("backup: {{when: Always, method: {job}}}"))).await;
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({})).await;
    let migration = namespace.reason("m", "BackupFailed").await;
    assert!(message(&migration).contains("No script was run"), "{}", message(&migration));
    database.is_untouched();
}

/// The operator's own image, which has a shell, and whose probes make a small web server.
fn operators_image(cluster: &Cluster) -> String {
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let output = cluster.kubectl(["--namespace", cluster::OPERATOR, "get", "deployment", "belay", "--output", image]);
    text(&output.stdout)
}

const RESTRICTED: &str = "{allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: {drop: [ALL]}, \
    seccompProfile: {type: RuntimeDefault}}";

/// A Job of a check, which runs this script.
fn check_job(image: &str, script: &str) -> Value {
    let security: Value = serde_yaml::from_str(RESTRICTED).unwrap();
    json!({ "template": { "spec": { "containers": [{
        "name": "check", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["bash", "-c", script], "securityContext": security
    }] } } })
}

#[tokio::test]
async fn every_kind_of_health_check_passes_where_it_should_and_recovers_where_it_did_not() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("checks").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    let image = operators_image(&cluster);
    // /healthz answers 200 whatever the account may do; /readyz answers 503 until the watches have read everything.
    let web = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}}}\n---\n\
         {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{selector: {{matchLabels: {{app: web}}}}, \
         template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: web, image: '{image}', imagePullPolicy: IfNotPresent, \
         args: [controller, --cluster=none, '--namespace={}'], securityContext: {RESTRICTED}}}]}}}}}}}}",
        namespace.name
    );
    let url = |path: &str| format!("http://web.{}.svc{path}", namespace.name);
    let checks = json!([
        { "name": "table", "sql": { "query": "select count(*) = 0 from a" } },
        { "name": "absent", "workload": { "kind": "DaemonSet", "name": "not-there", "ifPresent": true } },
        { "name": "neither", "workload": { "kind": "StatefulSet", "name": "not-there", "ifPresent": true } },
        { "name": "job", "job": check_job(&image, "exit 0") },
        { "name": "rollout", "workload": { "kind": "Deployment", "name": "web" }, "timeout": "500ms", "interval": "100ms" },
        { "name": "answers", "http": { "url": url("/healthz") } },
        { "name": "missing", "http": { "url": url("/nothing-here"), "expectStatus": 404 } }
    ]);
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({ "healthChecks": checks })).await;
    // The Deployment is not there yet: that check says so, and those before it have passed.
    let migration = namespace.reason("m", "Unhealthy").await;
    assert!(message(&migration).contains("rollout") && message(&migration).contains("web"), "{}", message(&migration));
    assert_eq!(migration["status"]["version"], "1");

    namespace.apply(&web).await;
    let migration = namespace.reason("m", "Succeeded").await;
    assert_eq!(condition(&migration, "Healthy")["status"], "True", "{migration}");

    // What it expects now is not what comes.
    let checks = json!([{ "name": "answers", "http": { "url": url("/healthz"), "expectStatus": 204 }, "timeout": "300ms", "interval": "100ms" }]);
    namespace.patch("Migration", "m", json!({ "spec": { "healthChecks": checks } })).await;
    let migration = namespace.reason("m", "Unhealthy").await;
    assert!(message(&migration).contains("200"), "what it saw last is not in {:?}", message(&migration));

    // A Job that fails is tried until its time is up.
    let checks = json!([{ "name": "job", "job": check_job(&image, "exit 3"), "timeout": "5s" }]);
    namespace.patch("Migration", "m", json!({ "spec": { "healthChecks": checks } })).await;
    let migration = namespace.reason("m", "Unhealthy").await;
    assert!(message(&migration).contains("job"), "{}", message(&migration));
}

#[tokio::test]
async fn a_checks_job_ends_with_its_check_and_one_that_failed_stays_for_its_log_until_the_next_has_failed() {
    let cluster = Cluster::connect().await;
    let (namespace, database) = (cluster.namespace("checkjob").await, cluster.database().await);
    namespace.apply(&database.manifests()).await;
    let job = check_job(&operators_image(&cluster), "echo the cache is cold >&2; exit 3");
    let checks = json!([{ "name": "cache", "job": job, "timeout": "30s" }]);
    namespace.migrate(&[("1_a.sql", "create table a ();")], json!({ "healthChecks": checks })).await;
    // The Job that the message sends to, once its log is there.
    let failed = async || {
        let migration = namespace.get("Migration", "m").await?;
        let job = message(&migration).split_once("did not pass: Job ")?.1.split(':').next()?.to_owned();
        let logs = cluster.kubectl(["--namespace", &namespace.name, "logs", &format!("job/{job}")]);
        text(&logs.stdout).contains("the cache is cold").then_some(job)
    };
    let first = namespace.wait_for("a log", DEADLINE, &failed).await;
    let jobs = namespace.kubectl(&["get", "jobs", "--selector", "belay.dev/migration=m", "--output", "json"]);
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    let specs: Vec<_> = jobs["items"].as_array().unwrap().iter().map(|job| &job["spec"]).collect();
    let bounded = |spec: &&Value| spec["activeDeadlineSeconds"] == 30 && spec["ttlSecondsAfterFinished"] == 3600;
    assert!(!specs.is_empty() && specs.iter().all(bounded), "{jobs}");
    let another = async || failed().await.filter(|job| *job != first);
    namespace.wait_for("the log of the next", DEADLINE, another).await;
    let gone = async || {
        let first = namespace.kubectl(&["get", "job", &first, "--ignore-not-found", "--output", "name"]);
        first.is_empty().then_some(())
    };
    namespace.wait_for("the end of the first", DEADLINE, gone).await;
}
