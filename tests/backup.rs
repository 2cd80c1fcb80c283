//! Promises of src/backup and of the commands that run in backup Jobs, against a real server and real volumes.

mod support;

mod backup {
    mod credentials;
    mod dump;
    mod fixture;
    mod locks;
    mod process;
    mod tls;
    mod volume;
}
