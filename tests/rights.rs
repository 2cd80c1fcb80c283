//! What the chart lets the operator do, beside what it asked for in a whole suite, as the API server noted it. tests/run runs it
//! last.

#[path = "support/audit.rs"]
mod audit;
#[path = "support/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use cluster::{Cluster, OPERATORS_ACCOUNT};

/// When the suite began. Set by tests/run, once the cluster and the operator are there.
const SINCE: &str = "BELAY_SUITE_SINCE";

/// `verb resource.group`, as people say it.
fn right(verb: &str, resource: &str, group: &str) -> String {
    if group.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {resource}.{group}") }
}

/// What every rule of the chart's roles allows, one by one.
fn granted() -> BTreeSet<String> {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/belay.yaml");
    let manifests = std::fs::read_to_string(manifests).unwrap();
    let documents =
        serde_yaml::Deserializer::from_str(&manifests).map(|document| Value::deserialize(document).unwrap());
    let roles = documents.filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role");
    let words = |rule: &Value, field: &str| {
        let words = rule[field].as_array().unwrap_or_else(|| panic!("{field} of {rule}"));
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut granted = BTreeSet::new();
    for role in roles {
        for rule in role["rules"].as_array().unwrap() {
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    granted.extend(words(rule, "verbs").iter().map(|verb| right(verb, &resource, &group)));
                }
            }
        }
    }
    granted
}

/// What a request asked for; None: for no object.
fn asked(request: &Value) -> Option<String> {
    let object = request["objectRef"].as_object()?;
    let field = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let resource = match field("subresource") {
        "" => field("resource").to_owned(),
        subresource => format!("{}/{subresource}", field("resource")),
    };
    Some(right(request["verb"].as_str()?, &resource, field("apiGroup")))
}

/// Whether a request was refused for want of a right, and not because its namespace is on its way out, or its object was not
/// let in.
fn is_forbidden(request: &Value) -> bool {
    let message = request["responseStatus"]["message"].as_str().unwrap_or_default();
    request["responseStatus"]["code"] == 403
        && !["because it is being terminated", "violates PodSecurity", "ValidatingAdmissionPolicy", "exceeded quota"]
            .iter()
            .any(|other| message.contains(other))
}

#[tokio::test]
#[ignore = "it asks what a whole suite used: make test runs it last"]
async fn over_the_whole_suite_the_operator_was_refused_nothing_and_no_rule_of_the_chart_was_idle() {
    let since: Timestamp = std::env::var(SINCE)
        .unwrap_or_else(|_| panic!("{SINCE} does not say when the suite began: make test does"))
        .parse()
        .unwrap();
    let cluster = Cluster::connect().await;
    let files = audit::files(&cluster);
    let time =
        |request: &Value| -> Timestamp { request["requestReceivedTimestamp"].as_str().unwrap().parse().unwrap() };
    let first = audit::requests(&files, "").next().map(|request| time(&request));
    assert!(
        first.is_some_and(|first| first < since),
        "the audit log begins at {first:?}, the suite at {since}: the cluster was brought up anew in between, and what was \
         asked for before is not known. Run make test again"
    );
    let (mut used, mut forbidden, mut requests) = (BTreeSet::new(), BTreeSet::new(), 0);
    for request in audit::requests(&files, OPERATORS_ACCOUNT).filter(|request| time(request) >= since) {
        requests += 1;
        let Some(right) = asked(&request) else { continue };
        if is_forbidden(&request) {
            forbidden.insert(format!("{right}: {}", request["responseStatus"]["message"]));
        } else {
            used.insert(right);
        }
    }
    assert_eq!(forbidden, BTreeSet::new(), "the operator was refused what it asked for: the chart's rules lack it");
    let idle: Vec<_> = granted().difference(&used).cloned().collect();
    assert!(
        idle.is_empty(),
        "of {requests} requests none used these rights: take them away, or test what needs them: {idle:?}"
    );
    eprintln!("{requests} requests used each of {} rights", used.len());
}
