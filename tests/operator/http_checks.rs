//! What an http health check may reach: it is a team's, and the operator that makes the request reaches more than the team does.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::shop::{SOON, Shop, ready};
use crate::support::cluster::{Cluster, text};
use crate::support::operator::Operator;

const SCRIPTS: [(&str, &str); 1] = [("001_a.sql", "create table a ();")];

/// A web server on this machine that notes what it is asked for. /healthz answers 200; all else leads there.
struct Web {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    async fn listen(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        let answer = move |uri: Uri| {
            noted.lock().expect("nobody panics").push(uri.path().to_owned());
            let answer = match uri.path() {
                "/healthz" => StatusCode::OK.into_response(),
                _ => Redirect::temporary("/healthz").into_response(),
            };
            std::future::ready(answer)
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { port, asked }
    }

    /// What it was asked for, each path once.
    fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().expect("nobody panics").clone();
        asked.sort();
        asked.dedup();
        asked
    }
}

impl Shop {
    async fn check(&self, url: &str, status: u16) {
        let http = json!({ "url": url, "expectStatus": status });
        let check = json!({ "name": "web", "http": http, "timeout": "2s", "interval": "100ms" });
        self.migrate_with(&SCRIPTS, json!({ "healthChecks": [check] })).await;
    }
}

fn message(status: &Value) -> &str {
    ready(status)["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_allowed_host_is_reached_and_where_it_leads_on_to_is_not() {
    let shop = Shop::new("allowed").await;
    let web = Web::listen([127, 0, 0, 1].into()).await;
    let host = format!("127.0.0.1:{}", web.port);
    let _operator = Operator::start_as(&shop.namespace, &[("BELAY_ALLOWED_HOSTS", &host)]);
    shop.check(&format!("http://{host}/moved"), 200).await;
    let status = shop.reason("Unhealthy").await;
    assert!(message(&status).contains("answered 307, not 200"), "{status}");
    shop.check(&format!("http://{host}/moved"), 307).await;
    shop.reason("Succeeded").await;
    assert_eq!(web.asked(), ["/moved"], "a redirect was followed");
    shop.check(&format!("http://{host}/healthz"), 200).await;
    shop.reason("Succeeded").await;
    assert_eq!(web.asked(), ["/healthz", "/moved"]);
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_refused_by_name_and_is_asked_nothing() {
    let shop = Shop::new("refusedhosts").await;
    let web = Web::listen([127, 0, 0, 1].into()).await;
    let _operator = Operator::start_as(&shop.namespace, &[("BELAY_ALLOWED_HOSTS", "status.example.com,127.0.0.1:1")]);
    let services = "{apiVersion: v1, kind: Service, metadata: {name: elsewhere}, spec: {type: ExternalName, externalName: localhost}}\n---\n\
        {apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None}}";
    shop.namespace.apply(services).await;
    for host in ["127.0.0.1", "localhost", "elsewhere", "headless", "kubernetes.default.svc", "[::1]"] {
        shop.check(&format!("http://{host}:{}/healthz", web.port), 200).await;
        let refused = async || {
            let status = shop.status().await;
            (ready(&status)["reason"] == "CheckRefused" && message(&status).contains(host)).then_some(())
        };
        shop.namespace.wait_for(&format!("that {host} is refused"), SOON, refused).await;
    }
    assert_eq!(web.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_service_of_the_own_namespace_is_reached_at_the_address_that_the_api_server_names() {
    let shop = Shop::new("services").await;
    let Some(address) = node_address(&shop.namespace.cluster) else {
        return eprintln!("not tried: the cluster's node is another machine, from which nothing here is reached");
    };
    let web = Web::listen(address).await;
    // This machine's own resolver knows nothing of the cluster's Services.
    let _operator = shop.operator();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "web", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "endpoints": [{ "addresses": [address] }], "ports": [{ "port": web.port }],
    });
    shop.namespace.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}").await;
    shop.apply(&slice).await;
    let host = format!("web.{}.svc", shop.namespace.name);
    assert!(tokio::net::lookup_host((host.as_str(), 80)).await.is_err(), "{host} resolves here: this shows nothing");
    let check = json!({ "name": "web", "http": { "url": format!("http://{host}/healthz") }, "timeout": "30s", "interval": "100ms" });
    shop.migrate_with(&SCRIPTS, json!({ "healthChecks": [check] })).await;
    shop.reason("Succeeded").await;
    assert_eq!(web.asked(), ["/healthz"]);
    // Nor is one of another namespace, by whatever name.
    shop.check(&format!("http://web.{}/healthz", crate::support::cluster::OPERATOR), 200).await;
    shop.reason("CheckRefused").await;
}

/// An address of the cluster's node, when the node is this machine.
fn node_address(cluster: &Cluster) -> Option<IpAddr> {
    let path = "jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}";
    let addresses = text(&cluster.kubectl(["get", "nodes", "--output", path]).stdout);
    let here = |address: &IpAddr| std::net::TcpListener::bind((*address, 0)).is_ok();
    addresses.split_whitespace().filter_map(|address| address.parse().ok()).find(here)
}
