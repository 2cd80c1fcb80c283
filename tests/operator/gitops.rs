//! What Flux and Argo CD see, by their own code, of every status that there is over whole lives of objects.

use serde_json::{Value, json};

use crate::shop::{SOON, Shop};
use crate::support::gitops::{Recorder, State, course, honest};
use crate::support::postgres::Postgres;

const ONE: [(&str, &str); 1] = [("001_a.sql", "create table a (id int);")];

/// What is Current is what its own spec asks for, and nothing is left to do.
fn current_only_where_the_spec_is_fulfilled(states: &[State]) {
    for state in states.iter().filter(|state| state.kstatus == "Current") {
        let (spec, status) = (&state.object["spec"], &state.object["status"]);
        let latest = spec["source"]["inline"].as_object().unwrap().keys().max().unwrap().split('_').next().unwrap();
        let target = spec["target"].as_str().unwrap_or(latest);
        assert_eq!(status["version"], target, "{state:?}");
        assert_eq!((&status["pending"], status.get("run")), (&json!(0), None), "{state:?}");
    }
}

/// The state with this reason in this generation.
fn state<'a>(states: &'a [State], generation: i64, reason: &str) -> &'a State {
    let found = states.iter().find(|state| state.generation() == generation && state.reason() == reason);
    found.unwrap_or_else(|| panic!("no {reason} in generation {generation}: {states:?}"))
}

/// A Migration through everything that becomes of one; each change of its spec is a generation.
#[tokio::test]
async fn a_migration_is_current_only_when_it_is_and_failed_only_when_a_person_has_to_act() {
    let shop = Shop::on(Postgres::shared(), "kstatus").await;
    let recorder = Recorder::start(&shop.namespace).await;
    let operator = shop.operator();
    let two = [ONE[0], ("002_b.sql", "create table b (id int);")];
    // 1: its inputs are missing, and come.
    shop.migrate_with(&two, json!({ "target": "001" })).await;
    shop.reason("DatabaseNotFound").await;
    shop.apply_database(json!({})).await;
    shop.reason("Succeeded").await;
    // 2: a new target.
    shop.migrate(&two).await;
    shop.reason("Succeeded").await;
    // 3: a script fails. 4: it is corrected.
    shop.migrate(&[two[0], two[1], ("003_c.sql", "select 1/0;")]).await;
    shop.reason("ScriptFailed").await;
    let three = [two[0], two[1], ("003_c.sql", "create table c (id int);")];
    shop.migrate(&three).await;
    shop.reason("Succeeded").await;
    // 5: suspended, with a script pending. 6: no more.
    let four = [three[0], three[1], three[2], ("004_d.sql", "create table d (id int);")];
    shop.migrate_with(&four, json!({ "suspend": true })).await;
    shop.reason("Suspended").await;
    shop.migrate(&four).await;
    shop.reason("Succeeded").await;
    // 7: a check fails, more than once, and passes in the end.
    let query = "select count(*) > 0 from a";
    let check = json!({ "name": "rows", "sql": { "query": query }, "timeout": "10ms", "interval": "10ms" });
    shop.migrate_with(&four, json!({ "healthChecks": [check] })).await;
    let tries = async || (operator.log().matches("CheckHealth").count() >= 3).then_some(());
    shop.namespace.wait_for("the third try", SOON, tries).await;
    shop.reason("Unhealthy").await;
    shop.database.admin("insert into a values (1)").await;
    shop.reason("Succeeded").await;
    // 8: a script that takes its time. 9: another one comes meanwhile.
    let sleeping =
        "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let mut more = four.to_vec();
    more.push(("005_e.sql", "select pg_sleep(1);"));
    shop.migrate(&more).await;
    shop.until(sleeping, "1").await;
    more.push(("006_f.sql", "create table f ();"));
    shop.migrate(&more).await;
    shop.reason("Succeeded").await;
    // 10: a script that never ends. 11: the object is deleted meanwhile.
    more.push(("007_g.sql", "select pg_sleep(600);"));
    shop.migrate(&more).await;
    shop.until(sleeping, "1").await;
    shop.namespace.delete("Migration", "shop").await;
    let gone = async || shop.namespace.get("Migration", "shop").await.is_none().then_some(());
    shop.namespace.wait_for("its end", SOON, gone).await;

    let states = recorder.of("Migration", "shop").await;
    honest(&states);
    current_only_where_the_spec_is_fulfilled(&states);
    let seen = course(&states);
    let course = [
        "1 InProgress Progressing",
        "1 Current Healthy",
        "2 InProgress Progressing",
        "2 Current Healthy",
        "3 InProgress Progressing",
        "3 Failed Degraded",
        "4 InProgress Progressing",
        "4 Current Healthy",
        "5 InProgress Progressing",
        "5 Failed Suspended",
        "6 InProgress Progressing",
        "6 Current Healthy",
        "7 InProgress Progressing",
        "7 Failed Degraded",
        "7 Current Healthy",
        "8 InProgress Progressing",
        "9 InProgress Progressing",
        "9 Current Healthy",
        "10 InProgress Progressing",
        "11 Terminating Progressing",
    ];
    assert_eq!(seen, course, "{states:?}");

    argo_cds_actions_do_what_they_say(&states);
}

fn argo_cds_actions_do_what_they_say(states: &[State]) {
    let offered = |state: &State| -> Vec<String> {
        let actions = state.actions.as_object().unwrap();
        actions.iter().filter(|(_, becomes)| !becomes.is_null()).map(|(name, _)| name.clone()).collect()
    };
    let healthy = state(states, 4, "Succeeded");
    assert_eq!(offered(healthy), ["suspend"]);
    let failed = state(states, 3, "ScriptFailed");
    assert_eq!(offered(failed), ["retry", "suspend"]);
    let suspended = state(states, 5, "Suspended");
    assert_eq!(offered(suspended), ["resume"]);

    // Each changes what it says, and nothing beside it.
    let changed = |state: &State, action: &str, pointer: &str, value: Value| {
        let mut expected = state.object.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = parent.trim_start_matches('/').split('/');
        let parent = parent.fold(&mut expected, |at, key| &mut at[key]);
        parent[key.replace("~1", "/")] = value;
        assert_eq!(state.actions[action], expected, "{action}");
    };
    changed(healthy, "suspend", "/spec/suspend", json!(true));
    changed(suspended, "resume", "/spec/suspend", json!(false));
    let asked = failed.actions["retry"]["metadata"]["annotations"]["belay.dev/requestedAt"].clone();
    assert!(asked.as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{asked}");
    changed(failed, "retry", "/metadata/annotations/belay.dev~1requestedAt", asked);
}

#[tokio::test]
async fn a_database_is_current_only_when_its_server_was_seen_by_its_present_spec() {
    let shop = Shop::on(Postgres::shared(), "dbstatus").await;
    let recorder = Recorder::start(&shop.namespace).await;
    let _operator = shop.operator();
    let database = async |fields: Value| {
        let mut spec =
            json!({ "connection": { "secretRef": { "name": "shop-postgres" } }, "backup": { "when": "Never" } });
        spec.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
        shop.apply(&json!({
            "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresDatabase", "metadata": { "name": "shop" }, "spec": spec,
        }))
        .await;
    };
    let until = async |reason: &str| {
        let look = async || {
            let object = shop.namespace.get("PostgresDatabase", "shop").await?;
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            (current && crate::shop::ready(&object["status"])["reason"] == reason).then_some(())
        };
        shop.namespace.wait_for(reason, SOON, look).await;
    };
    // 1: the Secret is missing. 2: it is there. 3: another server is expected. 4: none in particular.
    database(json!({})).await;
    until("SecretNotFound").await;
    shop.apply_secret().await;
    database(json!({ "interval": "5m" })).await;
    until("Succeeded").await;
    database(json!({ "expect": { "systemIdentifier": "1" } })).await;
    until("IdentityChanged").await;
    database(json!({ "interval": "9m" })).await;
    until("Succeeded").await;
    let states = recorder.of("PostgresDatabase", "shop").await;
    honest(&states);
    let course = course(&states);
    let expected = [
        "1 InProgress Progressing",
        "2 InProgress Progressing",
        "2 Current Healthy",
        "3 InProgress Progressing",
        "3 Failed Degraded",
        "4 InProgress Progressing",
        "4 Current Healthy",
    ];
    assert_eq!(course, expected, "{states:?}");
}

#[tokio::test]
async fn a_backup_that_nothing_can_be_said_of_yet_is_in_progress() {
    let shop = Shop::on(Postgres::shared(), "bkstatus").await;
    let recorder = Recorder::start(&shop.namespace).await;
    let _operator = shop.operator();
    // Its finalizer is set before anything is said of it.
    shop.apply(&json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "PostgresBackup", "metadata": { "name": "nightly" },
        "spec": { "databaseRef": { "name": "shop" }, "deletionPolicy": "Delete" },
    }))
    .await;
    let missing = async || {
        let object = shop.namespace.get("PostgresBackup", "nightly").await?;
        (crate::shop::ready(&object["status"])["reason"] == "DatabaseNotFound").then_some(())
    };
    shop.namespace.wait_for("DatabaseNotFound", SOON, missing).await;
    shop.namespace.delete("PostgresBackup", "nightly").await;
    let gone = async || shop.namespace.get("PostgresBackup", "nightly").await.is_none().then_some(());
    shop.namespace.wait_for("its end", SOON, gone).await;
    let states = recorder.of("PostgresBackup", "nightly").await;
    honest(&states);
    assert_eq!(course(&states), ["1 InProgress Progressing", "2 Terminating Progressing"], "{states:?}");
}
