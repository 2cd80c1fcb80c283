//! Does a URL answer with the expected status?
//!
//! A check is written by a team and carried out by the operator, which can reach more than the team may: so it reaches
//! Services of its own namespace only, and hosts that the operator's settings allow, by the address that was looked at,
//! and follows no redirect.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use reqwest::{Url, redirect};

use super::{Seen, Setting};
use crate::api::HttpCheck;

/// The longest that one request may take; the check's own timeout bounds all of them.
const REQUEST: Duration = Duration::from_secs(10);

pub(super) async fn check(check: &HttpCheck, setting: &Setting<'_>) -> Seen {
    let url = match Url::parse(&check.url) {
        Ok(url) => url,
        Err(error) => return Seen::Refused(format!("{} is not a URL: {error}", check.url)),
    };
    let (Some(host), Some(port)) = (url.host_str().map(str::to_owned), url.port_or_known_default()) else {
        return Seen::Refused(format!("{} names no host", check.url));
    };
    let address = match address(&host, port, setting).await {
        Ok(address) => address,
        Err(seen) => return seen,
    };
    let client = reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .resolve(&host, address)
        .timeout(REQUEST)
        .build();
    let answer = match client {
        Ok(client) => client.get(url).send().await,
        Err(error) => return Seen::Refused(format!("no HTTP client can be made: {error}")),
    };
    let expected = check.expect_status.unwrap_or(200);
    match answer {
        Ok(answer) if answer.status().as_u16() == expected => Seen::Passed,
        Ok(answer) => Seen::NotYet(format!("{} answered {}, not {expected}", check.url, answer.status().as_u16())),
        Err(error) => Seen::NotYet(format!("{} did not answer: {}", check.url, root(&error))),
    }
}

/// The address that may be reached under this host name.
async fn address(host: &str, port: u16, setting: &Setting<'_>) -> Result<SocketAddr, Seen> {
    if allows(&setting.policy.allowed_hosts, host, port) {
        let found = tokio::net::lookup_host((host, port)).await;
        return match found.map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(Seen::NotYet(format!("host {host} has no address"))),
            Err(error) => Err(Seen::NotYet(format!("host {host} cannot be resolved: {error}"))),
        };
    }
    let Some(name) = service_name(host, setting.namespace) else {
        return Err(Seen::Refused(format!(
            "host {host} is no Service of namespace {}, nor an allowed host. Write <service>.{}.svc, or have it added to \
             httpChecks.allowedHosts of the chart",
            setting.namespace, setting.namespace
        )));
    };
    let service = Api::<Service>::namespaced(setting.client.clone(), setting.namespace).get_opt(name).await;
    match service {
        Err(error) => Err(Seen::NotYet(format!("Service {name} cannot be read: {error}"))),
        Ok(None) => Err(Seen::NotYet(format!("Service {name} does not exist"))),
        Ok(Some(service)) => cluster_ip(&service, name).map(|ip| SocketAddr::new(ip, port)),
    }
}

/// Whether a host is one of those that the settings allow: on every port, or on this one.
fn allows(allowed: &[String], host: &str, port: u16) -> bool {
    allowed.iter().any(|allowed| allowed == host || *allowed == format!("{host}:{port}"))
}

/// The Service's own address. ExternalName and headless Services have none: they could point anywhere.
fn cluster_ip(service: &Service, name: &str) -> Result<IpAddr, Seen> {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    match spec.and_then(|spec| spec.cluster_ip.as_deref()).filter(|_| !external).map(str::parse) {
        Some(Ok(ip)) => Ok(ip),
        _ => Err(Seen::Refused(format!("Service {name} has no address of its own (ExternalName, or headless)"))),
    }
}

/// The Service of this namespace that a host name means, as the cluster's DNS would read it.
fn service_name<'a>(host: &'a str, namespace: &str) -> Option<&'a str> {
    let host = host.strip_suffix(".cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".svc").unwrap_or(host);
    let (name, rest) = host.split_once('.').unwrap_or((host, namespace));
    let label = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let starts_with_letter = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    (rest == namespace && label && starts_with_letter && name != "localhost").then_some(name)
}

/// The innermost cause, which says what happened.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_of_the_own_namespace_are_reached() {
        for host in ["api", "api.shop", "api.shop.svc", "api.shop.svc.cluster.local"] {
            assert_eq!(service_name(host, "shop"), Some("api"), "{host}");
        }
        for host in [
            "api.other",
            "api.other.svc",
            "api.shop.example.com",
            "example.com",
            "10.0.0.1",
            "127.0.0.1",
            "[::1]",
            "localhost",
            "169.254.169.254",
            "kubernetes.default.svc",
            "api.shop.svc.evil.com",
            "",
            ".shop",
        ] {
            assert_eq!(service_name(host, "shop"), None, "{host}");
        }
    }

    #[test]
    fn a_host_is_allowed_on_every_port_or_on_the_one_that_is_named() {
        let allowed = ["status.example.com".to_owned(), "10.0.0.1:8080".to_owned()];
        assert!(allows(&allowed, "status.example.com", 443) && allows(&allowed, "status.example.com", 8080));
        assert!(allows(&allowed, "10.0.0.1", 8080) && !allows(&allowed, "10.0.0.1", 80));
        assert!(!allows(&allowed, "example.com", 443) && !allows(&allowed, "status.example.com.evil.com", 443));
    }

    #[test]
    fn a_service_that_could_point_anywhere_is_refused() {
        let service = |type_: &str, ip: &str| -> Service {
            serde_json::from_value(serde_json::json!({ "spec": { "type": type_, "clusterIP": ip } })).unwrap()
        };
        assert!(cluster_ip(&service("ClusterIP", "10.96.0.7"), "api").is_ok());
        assert!(cluster_ip(&service("ClusterIP", "None"), "api").is_err());
        assert!(cluster_ip(&service("ExternalName", "10.96.0.7"), "api").is_err());
        assert!(cluster_ip(&Service::default(), "api").is_err());
    }
}
