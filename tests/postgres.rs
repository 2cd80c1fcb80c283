//! Promises of src/postgres, against a real server.

mod support;

mod postgres {
    mod adopt;
    mod apply;
    mod blockers;
    mod cancel;
    mod check;
    mod connect;
    mod copy;
    mod corpus;
    mod dates;
    mod effect_examples;
    mod effects;
    mod failover;
    mod guard;
    mod halfway;
    mod ledger;
    mod leftovers;
    mod lock;
    mod locks;
    mod lost;
    mod majors;
    mod mutations;
    mod outside;
    mod pooler;
    mod prepared;
    mod privileges;
    mod psql;
    mod reading;
    mod row_security;
    mod scripts;
    mod secrets;
    mod settled;
    mod settling;
    mod standby;
    mod tls;
}
