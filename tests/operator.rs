//! The life of a Migration, against a real API server and a real PostgreSQL. The operator is a process of the test's
//! own, which sees one namespace, and which the test can kill.

#[path = "operator/claims.rs"]
mod claims;
#[path = "operator/connections.rs"]
mod connections;
#[path = "operator/deaths.rs"]
mod deaths;
#[path = "operator/fleet.rs"]
mod fleet;
#[path = "generate/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only helm is wanted here")]
mod generate;
#[path = "operator/gitops.rs"]
mod gitops;
#[path = "operator/halfway.rs"]
mod halfway;
#[path = "operator/holds.rs"]
mod holds;
#[path = "operator/hostile.rs"]
mod hostile;
#[path = "operator/http_checks.rs"]
mod http_checks;
#[path = "operator/identity.rs"]
mod identity;
#[path = "operator/inputs.rs"]
mod inputs;
#[path = "operator/leader.rs"]
mod leader;
#[path = "operator/lifecycle.rs"]
mod lifecycle;
#[path = "operator/metrics.rs"]
mod metrics;
#[path = "operator/mutants.rs"]
mod mutants;
#[path = "operator/refusal.rs"]
mod refusal;
#[path = "operator/secrecy.rs"]
mod secrecy;
#[path = "operator/shop.rs"]
mod shop;
mod support;
