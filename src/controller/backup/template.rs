//! A team's Pod template, with what Belay needs merged over it. Pure.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext,
    Volume, VolumeMount,
};

use crate::api::PodTemplate;

/// The user of Belay's image. A number, so that `runAsNonRoot` can be checked.
pub const USER: i64 = 65532;

/// The template as Kubernetes' own type; none: an empty one.
pub fn read(template: Option<&PodTemplate>) -> Result<PodTemplateSpec, serde_json::Error> {
    template.map_or_else(|| Ok(PodTemplateSpec::default()), read_with_containers)
}

/// A template that only says, say, where Pods may run has no containers, which Kubernetes' own type asks for.
fn read_with_containers(template: &PodTemplate) -> Result<PodTemplateSpec, serde_json::Error> {
    let mut template = template.clone();
    if let Some(spec) = template.0.get_mut("spec").and_then(|spec| spec.as_object_mut()) {
        spec.entry("containers").or_insert_with(|| serde_json::Value::Array(Vec::new()));
    }
    template.read()
}

/// Sets what every Pod of Belay's has: no restarts (Jobs make new Pods), no API token, and the restricted profile where the
/// team did not say otherwise.
pub fn harden(pod: &mut PodSpec, fs_group: bool) {
    pod.restart_policy = Some("Never".to_owned());
    pod.automount_service_account_token.get_or_insert(false);
    pod.enable_service_links.get_or_insert(false);
    let security = pod.security_context.get_or_insert_with(PodSecurityContext::default);
    if fs_group {
        // The volume belongs to the group, so that the user may write it; not gone through again once it does.
        security.fs_group.get_or_insert(USER);
        security.fs_group_change_policy.get_or_insert_with(|| "OnRootMismatch".to_owned());
    }
    security.seccomp_profile.get_or_insert_with(runtime_default);
}

/// Confines a container of Belay's own in a Pod that may not say so itself.
pub fn confine(container: &mut Container) {
    let security = container.security_context.get_or_insert_with(SecurityContext::default);
    security.seccomp_profile.get_or_insert_with(runtime_default);
}

fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

/// Sets what a container of Belay's own has. `user`: None where the Pod says it.
pub fn harden_container(container: &mut Container, user: Option<i64>) {
    let security = container.security_context.get_or_insert_with(SecurityContext::default);
    if let Some(user) = user {
        security.run_as_user.get_or_insert(user);
    }
    security.run_as_non_root.get_or_insert(security.run_as_user != Some(0));
    security.allow_privilege_escalation.get_or_insert(false);
    security.read_only_root_filesystem.get_or_insert(true);
    security
        .capabilities
        .get_or_insert_with(|| Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() });
    container.termination_message_policy = Some("FallbackToLogsOnError".to_owned());
    container.termination_message_path = Some(TERMINATION_LOG.to_owned());
}

/// Where the kubelet looks for a container's last words.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// The container of this name; made if the template has none.
pub fn container<'a>(pod: &'a mut PodSpec, name: &str) -> &'a mut Container {
    let at = pod.containers.iter().position(|container| container.name == name).unwrap_or_else(|| {
        pod.containers.push(Container { name: name.to_owned(), ..Container::default() });
        pod.containers.len() - 1
    });
    &mut pod.containers[at]
}

/// Adds volumes; one of the same name gives way.
pub fn add_volumes(pod: &mut PodSpec, volumes: Vec<Volume>) {
    let all = pod.volumes.get_or_insert_with(Vec::new);
    all.retain(|old| volumes.iter().all(|new| new.name != old.name));
    all.extend(volumes);
}

/// Adds mounts; one at the same path gives way.
pub fn add_mounts(container: &mut Container, mounts: &[VolumeMount]) {
    let all = container.volume_mounts.get_or_insert_with(Vec::new);
    all.retain(|old| mounts.iter().all(|new| new.mount_path != old.mount_path));
    all.extend_from_slice(mounts);
}

/// Adds variables; one of the same name gives way.
pub fn add_env(container: &mut Container, variables: &[EnvVar]) {
    let all = container.env.get_or_insert_with(Vec::new);
    all.retain(|old| variables.iter().all(|new| new.name != old.name));
    all.extend_from_slice(variables);
}
