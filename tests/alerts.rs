//! The chart's alerts, as a Prometheus reads them: promtool checks them, and plays to each what it is for. And the queries of
//! its dashboard.

#[path = "generate/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only helm is wanted here")]
mod generate;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use belay::controller::metrics::table;
use serde::Deserialize as _;
use serde_yaml::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chart's one object of this kind, with these values.
fn rendered(values: &str, kind: &str) -> Value {
    let arguments = ["template", "belay", "charts/belay", "--kube-version", generate::KUBERNETES, "--set", values];
    let rendered = generate::helm(root(), &arguments);
    let mut objects = serde_yaml::Deserializer::from_str(&rendered).map(Value::deserialize);
    objects.find_map(|object| object.ok().filter(|object| object["kind"] == kind)).expect(kind)
}

/// The rules as the chart renders them, beside their tests, in a directory that goes when this does.
struct Rules {
    directory: PathBuf,
    groups: Value,
}

impl Rules {
    fn render() -> Self {
        let groups = rendered("metrics.prometheusRule.enabled=true", "PrometheusRule")["spec"].clone();
        let directory = std::env::temp_dir().join(format!("belay-alerts-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("alerts.yaml"), serde_yaml::to_string(&groups).unwrap()).unwrap();
        std::fs::copy(root().join("tests/alerts/belay.yaml"), directory.join("belay.yaml")).unwrap();
        Self { directory, groups }
    }

    fn promtool(&self, arguments: &[&str]) {
        let output = Command::new("promtool")
            .args(arguments)
            .current_dir(&self.directory)
            .output()
            .expect("promtool is missing: tests/cluster/prometheus-packages installs it");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }

    fn alerts(&self) -> Vec<&Value> {
        let groups = self.groups["groups"].as_sequence().into_iter().flatten();
        groups.flat_map(|group| group["rules"].as_sequence().into_iter().flatten()).collect()
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn each_alert_comes_when_it_should_and_not_before() {
    let rules = Rules::render();
    rules.promtool(&["check", "rules", "alerts.yaml"]);
    rules.promtool(&["test", "rules", "belay.yaml"]);
}

#[test]
fn no_alert_goes_untried() {
    let tests = std::fs::read_to_string(root().join("tests/alerts/belay.yaml")).unwrap();
    let tests: Value = serde_yaml::from_str(&tests).unwrap();
    let cases = tests["tests"].as_sequence().into_iter().flatten();
    let cases = cases.flat_map(|test| test["alert_rule_test"].as_sequence().into_iter().flatten());
    let tried: BTreeSet<_> =
        cases.filter(|case| case["exp_alerts"].is_sequence()).filter_map(|case| case["alertname"].as_str()).collect();
    let rules = Rules::render();
    let there: BTreeSet<_> = rules.alerts().into_iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert!(there.len() > 5, "the test looks at the wrong thing: {there:?}");
    assert_eq!(tried, there);
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let rules = Rules::render();
    for expression in rules.alerts().into_iter().filter_map(|rule| rule["expr"].as_str()) {
        names_only_what_there_is(expression);
    }
}

/// The queries of the dashboard, as the chart brings it.
fn queries() -> Vec<String> {
    let found = rendered("metrics.dashboard.enabled=true", "ConfigMap");
    let dashboard = found["data"]["belay.json"].as_str().expect("a dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_asks_what_a_prometheus_can_answer() {
    let queries = queries();
    assert!(queries.len() > 10, "the test looks at the wrong thing: {queries:?}");
    let rules: Vec<_> = queries
        .iter()
        .map(|query| {
            names_only_what_there_is(query);
            // Grafana puts its own values here.
            let query = query.replace("$__rate_interval", "5m").replace("$namespace", ".*");
            assert!(!query.contains('$'), "{query}");
            serde_json::json!({ "record": "tried", "expr": query, "labels": { "query": query } })
        })
        .collect();
    let tried = Rules::render();
    let text = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    std::fs::write(tried.directory.join("dashboard.yaml"), text).unwrap();
    tried.promtool(&["check", "rules", "dashboard.yaml"]);
}

/// Every word of the expression that looks like a metric of Belay's is in the table.
fn names_only_what_there_is(expression: &str) {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut named: Vec<_> = words.filter(|word| word.starts_with("belay_")).collect();
    assert!(!named.is_empty(), "{expression}");
    named.retain(|name| !table::ALL.iter().any(|metric| metric.exposes(name)));
    assert!(named.is_empty(), "{named:?} of {expression}");
}
