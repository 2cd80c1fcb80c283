//! What is committed and what the code generates are the same: CRDs, the chart's copy of them, the plain manifests,
//! the reference of fields, the catalogue of reasons. `make generate` (BELAY_GENERATE=1) writes them again.

mod generate;

use std::path::PathBuf;

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
fn helm_finds_nothing_to_complain_about_in_the_chart() {
    generate::helm(&root(), &["lint", "--strict", "--quiet", "charts/belay"]);
    let values =
        "watchNamespace=shop,clusterName=west,httpChecks.allowedHosts={status.example.com},imagePullSecrets={pull}";
    generate::helm(&root(), &["lint", "--strict", "--quiet", "charts/belay", "--set", values]);
    let watched = "replicas=2,metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true";
    generate::helm(&root(), &["lint", "--strict", "--quiet", "charts/belay", "--set", watched]);
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
