//! Promises of src/postgres, against a real server.

mod support;

mod postgres {
    mod apply;
    mod cancel;
    mod connect;
    mod copy;
    mod effect_examples;
    mod effects;
    mod guard;
    mod ledger;
    mod lock;
    mod locks;
    mod lost;
    mod outside;
    mod pooler;
    mod scripts;
    mod tls;
}
