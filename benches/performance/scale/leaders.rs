//! An idle minute of an operator that leads, and how long it takes until another leads when it ends.

use std::time::{Duration, Instant};

use super::{LATER, Place, counted, database, until_ready};
use crate::sample::{HEAD, Sample};
use crate::support::cluster::Namespace;
use crate::support::eventually;
use crate::support::operator::Operator;
use serde_json::json;

/// How often the leader is ended, each way.
const TIMES: usize = 3;

const MINUTE: Duration = Duration::from_secs(60);

pub async fn measure(place: &Place) -> String {
    let namespace = place.server.cluster.namespace("leaders").await;
    database(&namespace, "idle", &place.postgres.database().await).await;
    let mut leader = replica(place, &namespace).await;
    leads(&leader).await;
    let migration = json!({
        "apiVersion": "belay.dev/v1alpha1", "kind": "Migration", "metadata": { "name": "idle" },
        "spec": { "databaseRef": { "name": "idle" }, "source": { "inline": { "1_a.sql": "create table a ();" } } },
    });
    namespace.apply(&migration.to_string()).await;
    until_ready(&namespace, "Migration", 1).await;
    let idle = minute(place).await;

    let (mut terminated, mut killed) = (Sample::default(), Sample::default());
    for n in 0..2 * TIMES {
        let next = replica(place, &namespace).await;
        eventually("a follower", LATER, async || next.says("this replica follows").then_some(())).await;
        let ended = Instant::now();
        let sample = match n < TIMES {
            true => {
                leader.terminate();
                &mut terminated
            }
            false => {
                leader.kill();
                leader = next;
                leads(&leader).await;
                killed.add(ended.elapsed());
                continue;
            }
        };
        leads(&next).await;
        sample.add(ended.elapsed());
        leader = next;
    }
    format!(
        "### An idle minute\n\n| requests to the API server in a minute | |\n| --- | ---: |\n{idle}\n\
         One replica that leads, with one Migration at rest and its Database; what the audit log has of it.\n\n\
         ### When the leader ends\n\n{HEAD}{}{}\n{TIMES} times each, at rest: from the signal until the other replica says that it leads. \
         A Lease lasts 15 s, and is looked at every 2 s.\n",
        terminated.row("SIGTERM"),
        killed.row("SIGKILL"),
    )
}

async fn replica(place: &Place, namespace: &Namespace) -> Operator {
    let lease = [("BELAY_LEADER_ELECT", "true"), ("BELAY_LEASE_NAMESPACE", namespace.name.as_str())];
    place.operator(namespace, &lease).await
}

async fn leads(operator: &Operator) {
    eventually("a leader", LATER, async || operator.says("this replica leads").then_some(())).await;
}

/// A minute after everything has come to rest.
async fn minute(place: &Place) -> String {
    let rest = async || {
        let mark = place.server.mark();
        tokio::time::sleep(Duration::from_secs(5)).await;
        place.server.requests(mark).iter().all(|request| request["objectRef"]["resource"] == "leases").then_some(())
    };
    eventually("rest", LATER, rest).await;
    let mark = place.server.mark();
    tokio::time::sleep(MINUTE).await;
    let requests = place.server.requests(mark);
    let mut rows = String::new();
    for (what, count) in counted(&requests) {
        rows += &format!("| `{what}` | {count} |\n");
    }
    let others = requests.iter().filter(|request| request["objectRef"]["resource"] != "leases").count();
    rows + &format!("| other than the Lease's; aimed at: none | **{others}** |\n")
}
