use std::fmt;
use std::str::FromStr;

/// Which of the conditions is True under a reason. Exactly one of Ready, Reconciling and Stalled is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The ledger shows the target, and the health checks passed for it.
    Ready,
    /// Work goes on.
    Reconciling,
    /// Only a person can move it.
    Stalled,
    /// Reconciling for five minutes, then Stalled; watched or tried again all the same.
    Missing,
}

macro_rules! reasons {
    ($($name:ident: $state:ident, $cause:literal, $next:literal;)*) => {
        /// Why a condition is as it is. Users script against these names: they never change.
        ///
        /// One table holds what each means; the catalogue in docs/reasons.md is generated from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $cause] $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The name, as conditions have it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)* }
            }

            /// Which condition is True under it.
            pub const fn state(self) -> State {
                match self { $(Reason::$name => State::$state,)* }
            }

            /// What brings it about.
            pub const fn cause(self) -> &'static str {
                match self { $(Reason::$name => $cause,)* }
            }

            /// What to do next.
            pub const fn next_step(self) -> &'static str {
                match self { $(Reason::$name => $next,)* }
            }
        }
    };
}

reasons! {
    Succeeded: Ready, "The ledger shows the target, and every health check passed; of a Backup: it was taken and verified.",
        "Nothing.";
    Planning: Reconciling, "The source, the server and the ledger are being read.",
        "Wait.";
    BackupRunning: Reconciling, "The backup below the run is being taken and verified. No script has run yet.",
        "Wait. `kubectl get postgresbackups` and the Job's log show how far it is.";
    Applying: Reconciling, "Scripts are being applied.",
        "Wait. status.run names the script and the statement.";
    CheckingHealth: Reconciling, "The scripts are applied; the health checks are being tried until each passes or its timeout ends.",
        "Wait.";
    LockHeld: Reconciling, "Another run holds the advisory lock of this PostgreSQL database.",
        "Wait: Belay goes on when the lock is free. The message names the session that holds it.";
    Suspended: Stalled, "spec.suspend is true and scripts are pending: the plan stands in the status, and nothing is done.",
        "Read status.plan, then set spec.suspend to false.";
    InvalidSpec: Stalled, "The object cannot be read, or a value in it cannot be used.",
        "Correct what the message names.";
    SourceNotFound: Missing, "A ConfigMap of spec.source does not exist.",
        "Create it: Belay goes on by itself.";
    InvalidSource: Stalled, "A file of the source cannot be read as a migration: its name, its encoding, its pairing, or the digest.",
        "Correct the file that the message names.";
    DatabaseNotFound: Missing, "The PostgresDatabase of spec.databaseRef does not exist.",
        "Create it: Belay goes on by itself.";
    SecretNotFound: Missing, "A Secret or the CA of the connection does not exist, or lacks a key.",
        "Create it, or add the key that the message names: Belay tries again every minute at the latest.";
    ConnectionFailed: Missing, "The server cannot be reached, or the database does not exist on it.",
        "Check host, port, dbname and network policies: Belay tries again every minute at the latest.";
    AuthenticationFailed: Missing, "The server refused the user, the password or the client certificate.",
        "Correct the Secret that the message is about: Belay tries again every minute at the latest.";
    TlsFailed: Missing, "The TLS handshake failed, the server's certificate was refused, or the client certificate cannot be used.",
        "Correct what the message names: sslMode, caRef, clientCertSecretRef or the server's certificate.";
    PermissionDenied: Stalled, "The login lacks a privilege.",
        "Run what the message names, then set belay.dev/requestedAt.";
    PoolerDetected: Stalled, "A pooler in transaction mode is between Belay and PostgreSQL: session locks do not hold through it.",
        "Point the Database's host and port at PostgreSQL itself, or at a pool in session mode.";
    ReadOnlyServer: Missing, "The server is a standby, or read-only.",
        "Point the Database's host at the primary.";
    UnsupportedServer: Stalled, "The server is older than PostgreSQL 14, or its ledger is of a newer Belay.",
        "Upgrade the server, or Belay, as the message says.";
    IdentityChanged: Stalled, "Another server or database answers than the one that was known: its system identifier or OID differs.",
        "Find out which is the right one. Point the Database's host at it; or annotate the PostgresDatabase with belay.dev/accept, as the message shows.";
    LedgerWentBack: Stalled, "The ledger shows a lower version than it has shown: somebody restored the database.",
        "Find out who, and what else was lost; then annotate the PostgresDatabase with belay.dev/accept, as the message shows.";
    ChecksumMismatch: Stalled, "A script was edited after it was applied.",
        "Put the script back as it was, and write the change as a new script; or `belay repair` when the edit changes nothing.";
    MissingScript: Stalled, "A script that was applied, or begun, is no longer in the source, or was renamed.",
        "Put the script back; or `belay repair`, as the message shows, when it is gone or renamed on purpose.";
    OutOfOrder: Stalled, "A pending script has a lower version than one that is applied, or begun.",
        "Give it a higher version, or set spec.outOfOrder to Allow.";
    UnknownTarget: Stalled, "spec.target or spec.baseline names a version that the source does not have, or one below what is applied or begun.",
        "Correct it, or add the script.";
    UnsupportedScript: Stalled, "A pending script holds something that Belay cannot run in a transaction.",
        "Change the line that the message names.";
    BaselineRequired: Stalled, "The ledger is empty, but the database already has tables.",
        "If the address is right, set spec.baseline to the version that the database is at (\"0\": before the first script).";
    AdoptionRefused: Stalled, "spec.adopt is Auto, but another tool's ledger cannot be taken at its word: it marks a script as failed, there are two, or it is of another tool than spec.source.layout, or outside of the search path.",
        "Mend it with that tool; name its layout, or put its schema into spec.searchPath; or set spec.baseline to the version that the database is at.";
    DatabaseInUse: Stalled, "Another Migration keeps this database's ledger.",
        "Delete one of the two, or use another historySchema.";
    BackupNotConfigured: Stalled, "A backup is asked for, but the Database has no backup.method.",
        "Set spec.backup.method of the Database, or spec.backup.when to Never.";
    BackupFailed: Stalled, "The backup's Job failed. No script was run.",
        "Mend what the message names, then set belay.dev/requestedAt.";
    DeletingBackup: Reconciling, "The Backup is being deleted, and its data before it.",
        "Wait.";
    DeletionFailed: Stalled, "The Backup is being deleted, and its data could not be. It is tried again.",
        "Mend what the message names; or set spec.deletionPolicy to Retain, which leaves the data.";
    ScriptFailed: Stalled, "A script failed with an error of its own; its transaction was rolled back. The message says what of it is applied.",
        "Correct the script: Belay goes on by itself. Or set belay.dev/requestedAt to try the same plan again.";
    LockTimeout: Stalled, "The locks that a script needs were not to be had within locks.retryFor, or its transaction could not be serialized (40001); the message says what of it is applied.",
        "End the sessions that hold them, or that change the same rows, then set belay.dev/requestedAt.";
    LockLost: Stalled, "The run lost its advisory lock: a script released it. The message says what of it is applied.",
        "Take pg_advisory_unlock_all and DISCARD out of the script.";
    ConnectionLost: Stalled, "The server was lost in mid-run, and did not come back within locks.retryFor; or the connection was lost again and again.",
        "When the server is back, set belay.dev/requestedAt.";
    InDoubt: Stalled, "A statement ran outside a transaction, its answer was lost or it was cancelled, and nothing in the database tells whether it was done; or a script was edited in what is done of it.",
        "Find out whether it was done, and say so with `belay repair --statement`, as the message shows: Belay goes on by itself, and at once with belay.dev/requestedAt. Or put the script back as it was.";
    Cancelled: Reconciling, "The run was cancelled: by deletion, by suspend, or because Belay was shut down. The script in progress was rolled back; one that is run statement by statement, only the statement.",
        "Nothing: Belay goes on when it may.";
    Unhealthy: Stalled, "The scripts are applied, but a health check did not pass within its timeout. It is tried again, and recovers by itself.",
        "Look at what the check saw last.";
    CheckRefused: Stalled, "A health check may not be run: its URL leaves the namespace, or its query or template cannot be used.",
        "Correct the check that the message names.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text).ok_or(())
    }
}
