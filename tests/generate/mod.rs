//! What `make generate` writes, as text. No file is written here.

mod cli;
mod reference;
mod values;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use belay::api::{Reason, State};
use belay::controller::metrics::table::{self, Kind};

pub use cli::cli;
pub use reference::api;
pub use values::values;

/// What helm takes the cluster to be when it renders without one; its own guess is older than the chart allows.
pub const KUBERNETES: &str = "1.34";

const NOTE: &str = "<!-- Generated from the code by `make generate`. -->";

/// The chart's copy of a CRD: it stays when the chart is uninstalled, and a value leaves it out.
pub fn chart_crd(text: &str) -> String {
    const KEPT: &str = "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n";
    assert!(!text.contains("{{"), "helm would read it as a template");
    let text = text.replacen("metadata:\n", KEPT, 1);
    format!("{{{{- if .Values.crds.install }}}}\n{text}{{{{- end }}}}\n")
}

/// The catalogue of reasons.
pub fn reasons() -> String {
    let mut text = format!(
        "{NOTE}\n\n# Reasons\n\n\
         `kubectl get` shows the reason of the condition `Ready`; `Reconciling` and `Stalled` carry the same one. Exactly one \
         of the three is True. The condition's message names the object, the script and the line, says what state the data is \
         in, and what to do next. These names do not change: scripts and alerts can rely on them.\n\n\
         | reason | True | cause | next step |\n| --- | --- | --- | --- |\n"
    );
    for reason in Reason::ALL {
        let state = match reason.state() {
            State::Ready => "Ready",
            State::Reconciling => "Reconciling",
            State::Stalled => "Stalled",
            State::Missing => "Reconciling; after 5 minutes Stalled",
        };
        writeln!(text, "| `{reason}` | {state} | {} | {} |", cell(reason.cause()), cell(reason.next_step())).unwrap();
    }
    text
}

/// The metrics, from their own table.
pub fn metrics() -> String {
    let mut text = format!(
        "{NOTE}\n\n# Metrics\n\n\
         Served at `/metrics` on the operator's port 8080, by plain HTTP; nothing in it is secret. Labels are names of objects and \
         words of Belay's own, never messages; what is told of an object goes when the object does. Only the replica that leads tells \
         of objects, so a sum over replicas counts each once; what a process counted begins anew with it, as counters do.\n\n\
         The chart's value `metrics.serviceMonitor.enabled` has them scraped by the Prometheus Operator, \
         `metrics.prometheusRule.enabled` brings the alerts of \
         [`alerts.yaml`](../charts/belay/files/alerts.yaml), which serve any Prometheus, and `metrics.dashboard.enabled` a ConfigMap with \
         [a dashboard](../charts/belay/files/dashboard.json) for Grafana.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
    );
    for metric in table::ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{}` | {kind} | {} | {}. |", metric.name, labels.join(", "), cell(metric.help)).unwrap();
    }
    text
}

/// The chart, rendered with its own values for those who do not use helm.
pub fn plain_manifests(root: &Path) -> String {
    let rendered =
        helm(root, &["template", "belay", "charts/belay", "--namespace", "belay-system", "--kube-version", KUBERNETES]);
    let manifests: String = rendered
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("# Source:") && !line.contains("app.kubernetes.io/managed-by: Helm"))
        .filter(|line| line.trim() != "helm.sh/resource-policy: keep" && line.trim_end() != "  annotations:")
        .collect();
    format!(
        "# Rendered from charts/belay by `make generate`: kubectl apply -f deploy/belay.yaml\n\
         apiVersion: v1\nkind: Namespace\nmetadata:\n  name: belay-system\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n{manifests}"
    )
}

/// What helm prints.
///
/// # Panics
/// When helm is not to be had, or says no.
pub fn helm(root: &Path, arguments: &[&str]) -> String {
    ask_helm(root, arguments).unwrap_or_else(|refusal| panic!("helm {arguments:?}: {refusal}"))
}

/// What helm prints, or why it says no: the one that tests/cluster/tools builds from its pin, so that everyone renders alike.
///
/// # Panics
/// When helm is not to be had.
pub fn ask_helm(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let tools = Command::new(root.join("tests/cluster/tools")).status().unwrap();
    assert!(tools.success(), "tests/cluster/tools failed: what it said is above");
    let built = root.join("target/cluster/bin/helm");
    let helm = if built.exists() { built } else { "helm".into() };
    let output = Command::new(helm).args(arguments).current_dir(root).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Text for one cell of a Markdown table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
