//! Of several replicas one acts, and another takes over, whatever becomes of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use sqlx::PgConnection;

use crate::shop::{SOON, Shop, ready};
use crate::support::link::Link;
use crate::support::operator::Operator;

/// What a leader promises: nobody takes the Lease from one that is silent any sooner.
const LEASE: Duration = Duration::from_secs(15);

/// Sleeping in a script.
const SLEEPING: &str =
    "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// Ends when a session of the test's own holds a lock that all sessions of the database can see.
const UNTIL_TOLD: &str = "do $$ begin while not exists (select from pg_locks l join pg_database d on d.oid = l.database
    where d.datname = current_database() and l.locktype = 'advisory' and l.objid = 4242)
    loop perform pg_sleep(0.05); end loop; end $$";

/// Lets [`UNTIL_TOLD`] end, as long as the answer lives.
async fn tell(shop: &Shop) -> PgConnection {
    let mut session = shop.database.superuser().await;
    sqlx::query("SELECT pg_advisory_lock(4242)").execute(&mut session).await.expect("a lock of the test's own");
    session
}

/// Effects that would show if a script ran twice, or half; the last one takes as long as the test wants.
fn scripts(slow: &str) -> [(&'static str, String); 3] {
    [
        ("001_log.sql", "create table log (script text);".to_owned()),
        ("002_one.sql", "insert into log values ('002');".to_owned()),
        ("003_two.sql", format!("insert into log values ('003'); {slow}; create table done ();")),
    ]
}

async fn migrate(shop: &Shop, slow: &str) {
    let scripts = scripts(slow);
    shop.migrate(&scripts.each_ref().map(|(name, sql)| (*name, sql.as_str()))).await;
}

async fn exactly_once(shop: &Shop) {
    let status = shop.reason("Succeeded").await;
    let log = "SELECT string_agg(script, ',' ORDER BY script) FROM log";
    assert_eq!(shop.database.value(log).await.as_deref(), Some("002,003"));
    assert_eq!((shop.ledger().await, shop.tables().await), ("001,002,003".to_owned(), "done,log".to_owned()));
    assert_eq!(status["history"].as_array().map(Vec::len), Some(1), "one run, whoever finished it: {status}");
    // Written when the run's connection closes, after the status.
    shop.until("SELECT string_agg(outcome, ',') FROM belay.run WHERE finished_at IS NOT NULL", "Succeeded").await;
}

async fn leads(shop: &Shop, operator: &Operator) {
    let look = async || operator.says("this replica leads").then_some(());
    shop.namespace.wait_for("a leader", SOON, look).await;
}

async fn follows(shop: &Shop, operator: &Operator) {
    let look = async || operator.says("this replica follows").then_some(());
    shop.namespace.wait_for("a follower", SOON, look).await;
}

/// Two replicas, and who leads is known.
async fn two(shop: &Shop) -> (Operator, Operator) {
    let leader = Operator::replica(&shop.namespace, None);
    leads(shop, &leader).await;
    let follower = Operator::replica(&shop.namespace, None);
    follows(shop, &follower).await;
    (leader, follower)
}

async fn page(operator: &Operator, path: &str) -> (u16, String) {
    let address = operator.address().expect("an address");
    let answer = reqwest::get(format!("http://{address}{path}")).await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

#[tokio::test]
async fn of_two_replicas_one_acts_and_the_other_is_ready_to() {
    let shop = Shop::new("leader").await;
    let (leader, follower) = two(&shop).await;
    migrate(&shop, "select 1").await;
    exactly_once(&shop).await;
    assert!(leader.says("decided") && leader.says("\"reason\":\"Succeeded\""), "{}", leader.log());
    assert!(!follower.says("decided") && !follower.says("\"reason\":"), "{}", follower.log());
    assert_eq!(page(&follower, "/readyz").await.0, 200, "a rollout waits for it");
    let (told, untold) = (page(&leader, "/metrics").await.1, page(&follower, "/metrics").await.1);
    assert!(told.contains("belay_leader 1") && told.contains("belay_migration_info{"), "{told}");
    assert!(untold.contains("belay_leader 0") && !untold.contains("belay_migration_info{"), "{untold}");
}

#[tokio::test]
async fn one_that_is_asked_to_stop_while_it_still_reads_what_there_is_ends_and_never_leads() {
    let shop = Shop::new("starting").await;
    let stranger = shop.namespace.cluster.strangers_kubeconfig().to_str().expect("a path of text");
    let environment = [
        ("BELAY_LOG", "debug"),
        ("BELAY_CLUSTER", "tests"),
        ("BELAY_LEADER_ELECT", "true"),
        ("BELAY_LEASE_NAMESPACE", shop.namespace.name.as_str()),
        ("KUBECONFIG", stranger),
    ];
    let mut operator = Operator::start_as(&shop.namespace, &environment);
    let reads = async || operator.says("list error with 403").then_some(());
    shop.namespace.wait_for("a list that does not come", SOON, reads).await;
    operator.terminate();
    let success = shop.namespace.wait_for("its end", SOON, async || operator.ended()).await;
    assert!(success && !operator.says("this replica leads"), "{}", operator.log());
}

#[tokio::test]
async fn when_the_leader_is_killed_in_mid_run_the_other_brings_the_run_to_its_end() {
    let shop = Shop::new("killedleader").await;
    let (leader, follower) = two(&shop).await;
    migrate(&shop, "select pg_sleep(2)").await;
    shop.until(SLEEPING, "1").await;
    leader.kill();
    leads(&shop, &follower).await;
    exactly_once(&shop).await;
}

#[tokio::test]
async fn a_leader_that_is_asked_to_stop_finishes_its_script_and_hands_over_at_once() {
    let shop = Shop::new("handover").await;
    let (mut leader, follower) = two(&shop).await;
    migrate(&shop, "select pg_sleep(4)").await;
    shop.until(SLEEPING, "1").await;
    leader.terminate();
    let success = shop.namespace.wait_for("the leader's end", SOON, async || leader.ended()).await;
    assert!(success, "{}", leader.log());
    assert_eq!(shop.ledger().await, "001,002,003", "the script in hand was finished before the other led");
    let ended = Instant::now();
    leads(&shop, &follower).await;
    assert!(ended.elapsed() < LEASE / 2, "not before the Lease ran out: {:?}", ended.elapsed());
    exactly_once(&shop).await;
}

#[tokio::test]
async fn a_statement_that_outlasts_the_drain_timeout_is_cancelled_and_rolled_back_and_the_other_runs_it_anew() {
    let shop = Shop::new("outlasts").await;
    let (mut leader, follower) = two(&shop).await;
    migrate(&shop, UNTIL_TOLD).await;
    shop.until(SLEEPING, "1").await;
    leader.terminate();
    let success = shop.namespace.wait_for("the leader's end", SOON, async || leader.ended()).await;
    assert!(success && leader.says("the drain timeout is over"), "{}", leader.log());
    assert!(!follower.says("decided"), "while the leader drains it leads: {}", follower.log());
    assert_eq!((shop.ledger().await, shop.tables().await), ("001,002".to_owned(), "log".to_owned()));
    leads(&shop, &follower).await;
    let _told = tell(&shop).await;
    exactly_once(&shop).await;
}

#[tokio::test]
async fn an_operator_whose_api_server_is_away_in_a_long_statement_tells_of_it_when_it_is_back() {
    let shop = Shop::new("away").await;
    let link = Link::to(shop.namespace.cluster.operators_kubeconfig()).await;
    let environment = [("BELAY_LOG", "debug"), ("KUBECONFIG", link.kubeconfig())];
    let mut operator = Operator::start_as(&shop.namespace, &environment);
    migrate(&shop, UNTIL_TOLD).await;
    shop.until(SLEEPING, "1").await;
    shop.reason("Applying").await;
    link.cut();
    let away = Instant::now();
    let _told = tell(&shop).await;
    shop.until("SELECT count(*)::text FROM belay.history", "3").await;
    let minute = async || (away.elapsed() >= Duration::from_secs(60)).then_some(());
    shop.namespace.wait_for("a minute's end", 2 * SOON, minute).await;
    assert_eq!(ready(&shop.status().await)["reason"], "Applying", "nobody could say more");
    link.mend();
    exactly_once(&shop).await;
    assert_eq!(operator.ended(), None, "without an election it goes on: {}", operator.log());
}

/// A leader that cannot reach the API server since the middle of a statement, and the other, which leads by now.
async fn cut_off_in_mid_run(shop: &Shop) -> (Link, Operator, Operator) {
    let link = Link::to(shop.namespace.cluster.operators_kubeconfig()).await;
    let leader = Operator::replica(&shop.namespace, Some(link.kubeconfig()));
    leads(shop, &leader).await;
    let follower = Operator::replica(&shop.namespace, None);
    follows(shop, &follower).await;
    migrate(shop, UNTIL_TOLD).await;
    shop.until(SLEEPING, "1").await;
    shop.reason("Applying").await;
    link.cut();
    leads(shop, &follower).await;
    (link, leader, follower)
}

#[tokio::test]
async fn a_leader_that_is_cut_off_finishes_its_statement_and_writes_nothing_more_and_the_other_waits_for_its_lock() {
    let shop = Shop::new("cutoff").await;
    let (link, mut leader, _follower) = cut_off_in_mid_run(&shop).await;
    shop.reason("LockHeld").await;
    assert!(leader.says("this replica does not lead any more"), "{}", leader.log());

    // Whatever the former leader had to say, it could say from now on.
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let api = shop.namespace.cluster.api(&shop.namespace.name, "Migration", "migrations");
    let seen = reasons.clone();
    let watched = watcher(api, watcher::Config::default()).applied_objects().try_for_each(move |migration| {
        let status = migration.data["status"].clone();
        seen.lock().expect("nobody panics").push(ready(&status)["reason"].as_str().unwrap_or_default().to_owned());
        futures::future::ready(Ok(()))
    });
    let watched = tokio::spawn(watched);
    link.mend();
    let first = renewed(&shop).await;
    let later = async || (renewed(&shop).await != first).then_some(());
    shop.namespace.wait_for("a renewal", SOON, later).await;

    let _told = tell(&shop).await;
    exactly_once(&shop).await;
    follows(&shop, &leader).await;
    assert_eq!(leader.ended(), None, "it is the one that takes over next: {}", leader.log());
    watched.abort();
    let mut reasons = reasons.lock().expect("nobody panics").clone();
    reasons.dedup();
    assert_eq!(reasons, ["LockHeld", "Succeeded"], "the former leader wrote: {}", leader.log());
}

#[tokio::test]
async fn an_object_is_not_let_go_while_a_leader_that_was_cut_off_is_still_at_its_run() {
    let shop = Shop::new("notyet").await;
    let (_link, _leader, follower) = cut_off_in_mid_run(&shop).await;
    shop.namespace.kubectl(&["delete", "migration", "shop", "--wait=false"]);
    let waits = async || {
        let object = shop.namespace.get("Migration", "shop").await?;
        let deleting = object["metadata"]["deletionTimestamp"].is_string();
        (deleting && ready(&object["status"])["reason"] == "LockHeld").then_some(())
    };
    shop.namespace.wait_for("the wait for the run", SOON, waits).await;
    // It goes on waiting, for as long as two more looks take.
    let looks = || follower.log().matches("decided").count();
    let before = looks();
    shop.namespace.wait_for("two more looks", SOON, async || (looks() >= before + 2).then_some(())).await;
    assert!(shop.namespace.get("Migration", "shop").await.is_some(), "{}", follower.log());
    let _told = tell(&shop).await;
    let gone = async || shop.namespace.get("Migration", "shop").await.is_none().then_some(());
    shop.namespace.wait_for("the object's end", SOON, gone).await;
    assert_eq!((shop.ledger().await, shop.tables().await), ("001,002,003".to_owned(), "done,log".to_owned()));
}

#[tokio::test]
async fn a_former_leader_that_is_asked_to_stop_does_not_wait_for_its_run_for_ever() {
    let shop = Shop::new("former").await;
    let link = Link::to(shop.namespace.cluster.operators_kubeconfig()).await;
    let mut leader = Operator::replica(&shop.namespace, Some(link.kubeconfig()));
    leads(&shop, &leader).await;
    migrate(&shop, UNTIL_TOLD).await;
    shop.until(SLEEPING, "1").await;
    link.cut();
    let lost = async || leader.says("this replica does not lead any more").then_some(());
    shop.namespace.wait_for("the Lease's loss", SOON, lost).await;
    leader.terminate();
    let success = shop.namespace.wait_for("the former leader's end", SOON, async || leader.ended()).await;
    assert!(success && leader.says("the drain timeout is over"), "{}", leader.log());
    assert_eq!((shop.ledger().await, shop.tables().await), ("001,002".to_owned(), "log".to_owned()));
}

#[tokio::test]
async fn a_leader_that_lost_the_lease_and_has_it_again_in_the_same_statement_goes_on_as_if_nothing_had_been() {
    let shop = Shop::new("again").await;
    let link = Link::to(shop.namespace.cluster.operators_kubeconfig()).await;
    let mut operator = Operator::replica(&shop.namespace, Some(link.kubeconfig()));
    migrate(&shop, UNTIL_TOLD).await;
    shop.until(SLEEPING, "1").await;
    let run = shop.reason("Applying").await["run"]["id"].clone();
    link.cut();
    let lost = async || operator.says("this replica does not lead any more").then_some(());
    shop.namespace.wait_for("the Lease's loss", SOON, lost).await;
    link.mend();
    let elections = async || (operator.log().matches("this replica leads").count() == 2).then_some(());
    shop.namespace.wait_for("its election anew", SOON, elections).await;
    // One that is alone must not leave everything else lying for as long as one statement takes.
    shop.migration("preview", &[("001_a.sql", "create table a ();")], json!({ "suspend": true })).await;
    shop.reason_of("preview", "DatabaseInUse").await;
    let status = shop.status().await;
    assert_eq!((ready(&status)["reason"].as_str(), &status["run"]["id"]), (Some("Applying"), &run));
    let _told = tell(&shop).await;
    exactly_once(&shop).await;
    assert_eq!(operator.ended(), None);
}

#[tokio::test]
async fn a_leader_from_whom_the_lease_is_taken_does_nothing_until_it_has_it_again() {
    let shop = Shop::new("taken").await;
    let leader = Operator::replica(&shop.namespace, None);
    leads(&shop, &leader).await;
    let other = r#"{"spec": {"holderIdentity": "another"}}"#;
    shop.namespace.kubectl(&["patch", "lease", "belay", "--type", "merge", "--patch", other]);
    let lost = async || leader.says("another has taken the Lease").then_some(());
    shop.namespace.wait_for("the Lease's loss", SOON, lost).await;
    migrate(&shop, "select 1").await;
    let elections = async || (leader.log().matches("this replica leads").count() == 2).then_some(());
    shop.namespace.wait_for("its election anew", SOON, elections).await;
    exactly_once(&shop).await;
    let log = leader.log();
    let (follows, leads) = (log.find("has taken the Lease"), log.rfind("this replica leads"));
    let between = &log[follows.expect("it lost")..leads.expect("it leads")];
    assert!(!between.contains("decided"), "{log}");
}

/// Each of them changes what the ledger shows.
const SCRIPTS: [(&str, &str); 4] = [
    ("001_a.sql", "create table a ();"),
    ("002_b.sql", "create table b ();"),
    ("003_c.sql", "create table c ();"),
    ("004_d.sql", "create table d ();"),
];

/// Takes the Lease from the one, and gives it to the other.
async fn hand_over(shop: &Shop, from: &Operator, to: &Operator) {
    let log = to.log();
    let said = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let identity = said.filter_map(|line| line["identity"].as_str().map(str::to_owned)).next().expect("its name");
    let holder = json!({ "spec": { "holderIdentity": identity } }).to_string();
    let counts = || {
        let count = |operator: &Operator, words| operator.log().matches(words).count();
        (count(from, "has taken the Lease"), count(to, "this replica leads"))
    };
    let before = counts();
    shop.namespace.kubectl(&["patch", "lease", "belay", "--type", "merge", "--patch", &holder]);
    let handed = async || (counts().0 > before.0 && counts().1 > before.1).then_some(());
    shop.namespace.wait_for("another leader, and no more than one", SOON, handed).await;
}

#[tokio::test]
async fn what_a_leader_knew_before_another_led_counts_no_more() {
    let shop = Shop::new("anew").await;
    let (first, second) = two(&shop).await;
    shop.migrate(&SCRIPTS[..1]).await;
    shop.reason("Succeeded").await;
    shop.pinned("001").await;

    hand_over(&shop, &first, &second).await;
    shop.migrate(&SCRIPTS[..2]).await;
    shop.reason("Succeeded").await;
    shop.pinned("002").await;
    // As a restore of yesterday's backup leaves it.
    shop.database.admin("drop table b; delete from belay.history where version = '002'").await;
    shop.migrate(&SCRIPTS[..3]).await;
    shop.reason("LedgerWentBack").await;

    hand_over(&shop, &second, &first).await;
    shop.migrate(&SCRIPTS).await;
    let status = shop.reason("LedgerWentBack").await;
    let message = ready(&status)["message"].as_str().unwrap_or_default();
    assert!(message.contains("shows 001, and has shown 002"), "{message}");
    assert_eq!((shop.tables().await, shop.ledger().await), ("a".to_owned(), "001".to_owned()));
}

#[tokio::test]
async fn a_leader_reads_anew_what_there_is_before_it_acts() {
    let shop = Shop::new("stale").await;
    let first = Operator::replica(&shop.namespace, None);
    leads(&shop, &first).await;
    let link = Link::to(shop.namespace.cluster.operators_kubeconfig()).await;
    let second = Operator::replica(&shop.namespace, Some(link.kubeconfig()));
    follows(&shop, &second).await;
    // Its change is no change of the Migration.
    shop.config_map(&SCRIPTS[..1]).await;
    shop.migrate_config_map(json!({})).await;
    shop.pinned("001").await;

    // From here on the follower hears of nothing.
    link.cut();
    shop.config_map(&SCRIPTS[..2]).await;
    shop.pinned("002").await;
    shop.database.admin("drop table b; delete from belay.history where version = '002'").await;
    shop.config_map(&SCRIPTS[..3]).await;
    shop.reason("LedgerWentBack").await;
    link.forget();
    hand_over(&shop, &first, &second).await;
    let decided = async || second.says("Close { outcome: ").then_some(());
    // Each connection that is not answered on costs half a minute.
    shop.namespace.wait_for("its first decision", 3 * SOON, decided).await;
    assert!(second.says("Close { outcome: LedgerWentBack }"), "{}", second.log());
    assert_eq!((shop.tables().await, shop.ledger().await), ("a".to_owned(), "001".to_owned()));
}

#[tokio::test]
async fn a_status_that_another_has_written_meanwhile_is_read_again_before_it_is_written_over() {
    let shop = Shop::new("overtaken").await;
    let link = Link::to(shop.namespace.cluster.operators_kubeconfig()).await;
    let environment = [("BELAY_LOG", "debug"), ("KUBECONFIG", link.kubeconfig())];
    let operator = Operator::start_as(&shop.namespace, &environment);
    migrate(&shop, UNTIL_TOLD).await;
    let waits = async || Some(shop.status().await).filter(|status| status["run"]["statement"] == 2);
    let status = shop.namespace.wait_for("the statement that waits", SOON, waits).await;
    // The watch tells the operator of nothing more, and what it writes is on its way until the link is mended.
    link.cut();
    let conditions = status["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().position(|condition| condition["type"] == "Ready").expect("Ready");
    let another =
        json!([{ "op": "replace", "path": format!("/status/conditions/{ready}/reason"), "value": "LockHeld" }]);
    let patch = ["patch", "migration", "shop", "--subresource", "status", "--type", "json", "--patch"];
    shop.namespace.kubectl(&[&patch[..], &[&another.to_string()]].concat());
    let _told = tell(&shop).await;
    let decided = async || operator.says("Close { outcome: Succeeded }").then_some(());
    shop.namespace.wait_for("its decision", SOON, decided).await;
    link.mend();
    exactly_once(&shop).await;
    assert!(operator.says("the reconcile failed"), "it wrote over what it had not read: {}", operator.log());
}

/// When the Lease was renewed.
async fn renewed(shop: &Shop) -> String {
    shop.namespace.kubectl(&["get", "lease", "belay", "--output", "jsonpath={.spec.renewTime}"])
}
