//! The program itself, run as people run it, against a real PostgreSQL.

mod adopt;
mod apply;
mod bad_input;
mod bench;
mod concurrency;
mod faults;
mod files;
mod ledger;
mod repair;
#[path = "../support/mod.rs"]
mod support;
