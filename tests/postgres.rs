//! Promises of src/postgres, against a real server.

mod support;

mod postgres {
    mod apply;
    mod blockers;
    mod cancel;
    mod connect;
    mod failover;
    mod guard;
    mod ledger;
    mod lock;
    mod locks;
    mod lost;
    mod pooler;
    mod scripts;
    mod tls;
}
