//! The life of a Migration, against a real API server and a real PostgreSQL. The operator is a process of the test's
//! own, which sees one namespace, and which the test can kill.

#[path = "operator/claims.rs"]
mod claims;
#[path = "operator/deaths.rs"]
mod deaths;
#[path = "operator/holds.rs"]
mod holds;
#[path = "operator/hostile.rs"]
mod hostile;
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
#[path = "operator/shop.rs"]
mod shop;
mod support;
