//! Belay takes PostgreSQL databases from one schema version to the next, and never leaves anyone
//! guessing what happened: a proven backup below every run, a transaction around it, a lock beside
//! it, a health check above it, and an honest account after it.
//!
//! The rooms, from pure to worldly: [`script`] and [`plan`] do no I/O; [`source`], [`postgres`],
//! [`backup`] and [`health`] each talk to one kind of thing outside; [`controller`] joins them for
//! Kubernetes and [`cli`] for people without a cluster; [`api`] is what users write and read.

pub mod api;
pub mod backup;
pub mod cli;
pub mod controller;
pub mod health;
pub mod plan;
pub mod postgres;
pub mod script;
pub mod source;
pub mod telemetry;
#[cfg(test)]
mod testing;
