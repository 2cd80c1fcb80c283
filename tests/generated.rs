//! What is committed and what the code generates are the same: CRDs, the chart's copy of them, the plain manifests,
//! the references of fields and values, the catalogue of reasons. `make generate` (BELAY_GENERATE=1) writes them again.

mod generate;

use std::path::PathBuf;

use serde::Deserialize as _;
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares the file with `text`, or writes it when BELAY_GENERATE is set.
fn compare(path: &str, text: &str) {
    let file = root().join(path);
    if std::env::var_os("BELAY_GENERATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        return std::fs::write(file, text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    let different = committed.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        committed == text,
        "{path} is not what the code generates (first difference in line {}): run make generate",
        different.map_or_else(|| committed.lines().count().min(text.lines().count()) + 1, |line| line + 1)
    );
}

/// A file that the code no longer generates would otherwise stay, and be applied.
fn nothing_else_in(folder: &str, expected: &[String]) {
    for entry in std::fs::read_dir(root().join(folder)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(expected.contains(&name), "{folder}/{name} is not generated: delete it");
    }
}

#[test]
fn the_crds_are_what_the_types_say() {
    let files = belay::cli::crds::files().unwrap();
    for (name, text) in &files {
        compare(&format!("crds/{name}"), text);
        compare(&format!("charts/belay/templates/crds/{name}"), &generate::chart_crd(text));
    }
    let names: Vec<_> = files.into_iter().map(|(name, _)| name).collect();
    nothing_else_in("crds", &names);
    nothing_else_in("charts/belay/templates/crds", &names);
}

#[test]
fn the_catalogue_of_reasons_is_what_the_table_says() {
    compare("docs/reasons.md", &generate::reasons());
}

#[test]
fn the_list_of_metrics_is_what_the_table_says() {
    compare("docs/metrics.md", &generate::metrics());
}

#[test]
fn the_reference_of_fields_is_what_the_schemas_say() {
    compare("docs/api.md", &generate::api());
}

#[test]
fn the_plain_manifests_are_what_the_chart_renders() {
    compare("deploy/belay.yaml", &generate::plain_manifests(&root()));
}

#[test]
fn the_reference_of_values_is_what_the_chart_and_its_schema_say() {
    compare("docs/values.md", &generate::values(&root()));
}

/// Every object that the schema describes, with what leads there.
fn described(schema: &Value, path: &str, found: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    found.push(path.to_owned());
    for (name, property) in properties {
        described(property, &format!("{path}{name}."), found);
    }
}

#[test]
fn a_misspelt_value_is_refused_by_its_name_wherever_it_stands() {
    let schema = std::fs::read_to_string(root().join("charts/belay/values.schema.json")).unwrap();
    let mut objects = Vec::new();
    described(&serde_json::from_str(&schema).unwrap(), "", &mut objects);
    assert!(objects.contains(&"metrics.serviceMonitor.".to_owned()), "{objects:?}");
    let misspelt =
        objects.iter().map(|path| format!("{path}mispelt=1")).chain(["image.pullPolicy=Somtimes".to_owned()]);
    for value in misspelt {
        let render = ["template", "belay", "charts/belay", "--kube-version", generate::KUBERNETES, "--set", &value];
        let refusal = generate::ask_helm(&root(), &render).expect_err(&value);
        let place = value.split('=').next().unwrap().rsplit('.').next().unwrap();
        assert!(refusal.contains(place), "{value}: {refusal}");
    }
}

#[test]
fn helm_finds_nothing_to_complain_about_in_the_chart() {
    generate::helm(&root(), &["lint", "--strict", "--quiet", "charts/belay"]);
    let values =
        "watchNamespace=shop,clusterName=west,httpChecks.allowedHosts={status.example.com},imagePullSecrets={pull}";
    generate::helm(&root(), &["lint", "--strict", "--quiet", "charts/belay", "--set", values]);
    let watched = "replicas=2,metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true";
    generate::helm(&root(), &["lint", "--strict", "--quiet", "charts/belay", "--set", watched]);
    generate::helm(&root(), &["lint", "--strict", "--quiet", "charts/belay", "--set", "networkPolicy.enabled=true"]);
}

fn rendered(values: &str) -> String {
    let arguments = ["template", "belay", "charts/belay", "--kube-version", generate::KUBERNETES, "--set", values];
    generate::helm(&root(), &arguments)
}

#[test]
fn a_second_replica_brings_a_disruption_budget_and_one_alone_none_that_would_keep_its_node_from_being_drained() {
    assert!(!rendered("replicas=1").contains("kind: PodDisruptionBudget"));
    let two = rendered("replicas=2");
    assert!(two.contains("kind: PodDisruptionBudget") && two.contains("minAvailable: 1"), "{two}");
}

#[test]
fn without_an_election_no_right_on_leases_is_asked_for_and_the_former_operator_ends_first() {
    let elected = rendered("replicas=2");
    assert!(elected.contains("leases") && elected.contains("type: RollingUpdate"), "{elected}");
    let alone = rendered("leaderElection.enabled=false");
    assert!(!alone.contains("leases") && !alone.contains("BELAY_LEADER_ELECT"), "{alone}");
    assert!(alone.contains("type: Recreate"), "{alone}");
}

#[test]
fn a_network_policy_lets_the_metrics_in_and_dns_the_api_server_and_postgresql_out_and_nothing_else() {
    assert!(!rendered("replicas=1").contains("kind: NetworkPolicy"), "it is there unasked");
    let rendered =
        rendered("networkPolicy.enabled=true,networkPolicy.postgresPorts={6432},networkPolicy.dnsPorts={53,5353}");
    let documents = serde_yaml::Deserializer::from_str(&rendered).map(|document| Value::deserialize(document).unwrap());
    let policy = documents.into_iter().find(|document| document["kind"] == "NetworkPolicy").expect("a NetworkPolicy");
    let spec = &policy["spec"];
    assert_eq!(spec["podSelector"]["matchLabels"]["app.kubernetes.io/name"], "belay");
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec["ingress"], json!([{ "ports": [{ "port": "http" }] }]));
    let port = |protocol: &str, port: u16| json!({ "protocol": protocol, "port": port });
    let dns = [port("UDP", 53), port("TCP", 53), port("UDP", 5353), port("TCP", 5353)];
    let others = [port("TCP", 443), port("TCP", 6443), port("TCP", 6432)];
    assert_eq!(spec["egress"], json!([{ "ports": dns }, { "ports": others }]));
}

#[test]
fn with_one_namespace_to_watch_the_chart_asks_for_no_right_in_any_other() {
    let rendered = generate::helm(
        &root(),
        &[
            "template",
            "belay",
            "charts/belay",
            "--kube-version",
            generate::KUBERNETES,
            "--set",
            "watchNamespace=shop,clusterName=west",
        ],
    );
    assert!(rendered.contains("kind: Role\n") && rendered.contains("namespace: shop\n"), "{rendered}");
    assert!(!rendered.contains("kind: ClusterRole"), "{rendered}");
}

#[test]
fn the_reference_of_the_command_line_is_what_the_arguments_say() {
    compare("docs/cli.md", &generate::cli());
}
