//! An API server that does not take a write.

use serde_json::{Value, json};

use crate::support::cluster::{Namespace, text};

/// Updates of Migrations in one namespace are refused until it is dropped.
pub struct Refusal<'a> {
    namespace: &'a Namespace,
    resource: &'a str,
}

impl<'a> Refusal<'a> {
    /// What the API server says then.
    pub const WORDS: &'static str = "refused by a test";

    /// Of this resource, unless the condition holds, which is CEL.
    pub fn of(namespace: &'a Namespace, resource: &'a str, condition: &str) -> Self {
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
        Self { namespace, resource }
    }

    /// Whether this change of a Migration is refused by now: the API server learns of a policy a moment later.
    pub fn meets(&self, name: &str, change: &Value) -> bool {
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
