//! An API server that does not take a write.

use serde_json::{Value, json};

use crate::support::cluster::{DEADLINE, Namespace, text};
use crate::support::operator::Operator;

/// Updates of Migrations in one namespace are refused until it is dropped.
pub struct Refusal<'a> {
    namespace: &'a Namespace,
    resource: &'a str,
}

impl<'a> Refusal<'a> {
    /// What the API server says then.
    const WORDS: &'static str = "refused by a test";

    /// Of this resource, unless the condition holds, which is CEL. It is in force once this change of the Migration is refused: the
    /// API server learns of a policy a moment later.
    pub async fn of(
        namespace: &'a Namespace,
        resource: &'a str,
        condition: &str,
        migration: &str,
        change: &Value,
    ) -> Self {
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": namespace.name },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": ["belay.dev"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": [resource],
                }] },
                "validations": [{ "expression": condition, "message": Self::WORDS }],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": namespace.name },
            "spec": {
                "policyName": namespace.name, "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace.name } } },
            },
        });
        let both = json!({ "apiVersion": "v1", "kind": "List", "items": [policy, binding] });
        let made = namespace.cluster.kubectl_with(["apply", "--filename", "-"], &both.to_string());
        assert!(made.status.success(), "{}", text(&made.stderr));
        let refusal = Self { namespace, resource };
        let in_force = async || refusal.meets(migration, change).then_some(());
        namespace.wait_for("the refusal", DEADLINE, in_force).await;
        refusal
    }

    /// Waits until the operator has met it, and once more: it did not give up.
    pub async fn is_met_twice(&self, operator: &Operator) {
        let tried = async || (operator.log().matches(Self::WORDS).count() >= 2).then_some(());
        self.namespace.wait_for("two tries", DEADLINE, tried).await;
    }

    fn meets(&self, name: &str, change: &Value) -> bool {
        let part = self.resource.split_once('/').map(|(_, part)| format!("--subresource={part}"));
        let arguments = ["--namespace", &self.namespace.name, "patch", "migrations.belay.dev", name, "--type=merge"];
        let change = [format!("--patch={change}"), "--dry-run=server".to_owned()];
        let answer = self.namespace.cluster.kubectl(arguments.map(str::to_owned).into_iter().chain(change).chain(part));
        text(&answer.stderr).contains(Self::WORDS)
    }
}

impl Drop for Refusal<'_> {
    fn drop(&mut self) {
        let of = "validatingadmissionpolicybinding,validatingadmissionpolicy";
        self.namespace.cluster.kubectl(["delete", of, self.namespace.name.as_str()]);
    }
}
