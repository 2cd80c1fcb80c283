//! From a target to a session that may migrate: reachable, new enough, writable, and without a pooler in between.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{ConnectOptions, Error};

use super::dates;
use super::error::PostgresError;
use super::nodelay;
use super::pooler;
use super::quote::Ident;
use super::retry;
use super::server_error::ServerError;
use super::session::{Backend, Fault, Row, Session, as_login, query, text};
use super::target::{Address, Locks, Target, TargetError};
use super::tls;

/// How long a server may take to let us in.
const CONNECT: Duration = Duration::from_secs(10);

/// The oldest server, as server_version_num has it.
const OLDEST: u32 = 140_000;

/// The server looks this often whether its client still lives. It frees the lock of a dead operator within half a
/// second, where TCP would take hours.
const CHECK_INTERVAL: &str = "500";

/// What a script finds set, at its first try. Asked for at startup, so that RESET ALL, which costs less than a SET for each of
/// them, goes back to it whatever a script did; and since poolers do not pass startup options on, they also tell one (see
/// [`pooler`]), through which these are to be SET.
pub(super) fn settings(locks: &Locks) -> [(&'static str, String); 6] {
    let zero = || "0".to_owned();
    [
        ("client_connection_check_interval", CHECK_INTERVAL.to_owned()),
        // As crate::script reads strings. Where backslashes escape, transaction control could hide in one.
        ("standard_conforming_strings", "on".to_owned()),
        // A backup may take hours between two messages of ours.
        ("idle_session_timeout", zero()),
        ("idle_in_transaction_session_timeout", zero()),
        ("lock_timeout", retry::first_lock_timeout(locks).as_millis().to_string()),
        ("statement_timeout", locks.statement_timeout.as_millis().to_string()),
    ]
}

/// Asked for at startup too: the server gives a client up that is not heard of for about 20 s, and frees its lock. By
/// default it would wait for hours. Over a Unix socket the server takes these for nothing; Belay's own end has no such
/// settings in sqlx: there, [`super::watch`] notices a session that is gone.
const KEEPALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "20000"),
];

/// application_name is cut by the server after so many bytes.
pub(super) const APPLICATION_BYTES: usize = 63;

/// Which server and database this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// From pg_control_system(). None: the login may not execute it, see [`Identity::missing_grant`].
    pub system_identifier: Option<String>,
    pub database_oid: u32,
    pub database: String,
    /// As the server says it: `15.18`.
    pub server_version: String,
    /// As `server_version_num`: 150018.
    pub server_version_num: u32,
}

impl Identity {
    /// The GRANT that would let Belay tell this server from a copy of it, if the login lacks it.
    pub fn missing_grant(&self, login: &str) -> Option<String> {
        let grant = || format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO {};", Ident(login));
        self.system_identifier.is_none().then(grant)
    }

    /// Whether both can be the same database. What one of them does not know does not count.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let systems_differ = matches!(
            (&self.system_identifier, &other.system_identifier),
            (Some(one), Some(other)) if one != other
        );
        !systems_differ && self.database_oid == other.database_oid
    }
}

/// A session, and what was learnt on the way to it.
pub(super) struct Connected {
    pub session: Session,
    pub identity: Identity,
    pub deadlock_timeout: Duration,
    /// The server took the startup options; else they are to be SET.
    pub options_taken: bool,
    /// A transaction_timeout (from PostgreSQL 17 on) is to be SET off.
    pub transaction_timeout: bool,
    /// How dates are read, as far as it is to be SET for scripts: see [`dates`].
    pub dates: Vec<String>,
    /// The database is of no encoding: positions in what is sent are counted in bytes.
    pub counts_bytes: bool,
}

/// `belay/<run>/<ns>/<name>`, cut where the server would, but never inside a character.
pub(super) fn application_name(text: &str) -> &str {
    let mut end = text.len().min(APPLICATION_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Connects, looks, and refuses what cannot be migrated. Nothing is SET before a pooler is ruled out.
pub(super) async fn connect(target: &Target, application: &str) -> Result<Connected, PostgresError> {
    let (mut connection, options_sent) = match open(target, application, true).await {
        Ok(connection) => (connection, true),
        Err(error) if refuses_options(&error) => match open(target, application, false).await {
            Ok(connection) => (connection, false),
            Err(error) => return Err(connect_error(target, error)),
        },
        Err(error) => return Err(connect_error(target, error)),
    };
    let seen = look(&mut connection).await.map_err(|fault| lost(&target.address, fault))?;
    let address = || target.address.clone();
    if seen.identity.server_version_num < OLDEST {
        return Err(PostgresError::TooOld { address: address(), version: seen.identity.server_version });
    }
    let options_taken = options_sent && seen.check_interval == format!("{CHECK_INTERVAL}ms");
    if !options_taken {
        pooler::refuse(target, application, &mut connection).await?;
    }
    if seen.in_recovery {
        return Err(PostgresError::ReadOnly { address: address(), why: "it is a standby. Connect to the primary" });
    }
    if seen.read_only {
        return Err(PostgresError::ReadOnly {
            address: address(),
            why: "default_transaction_read_only is on for the server, the database or the login. Turn it off there",
        });
    }
    let mut backend = seen.backend;
    if backend.started.is_empty() {
        // Hidden from the role that the login takes at each start.
        backend.started = started(&mut connection).await.map_err(|fault| lost(&target.address, fault))?;
    }
    Ok(Connected {
        session: Session { connection, backend, plain: false, prepared: None },
        identity: seen.identity,
        deadlock_timeout: seen.deadlock_timeout,
        options_taken,
        transaction_timeout: seen.transaction_timeout,
        dates: seen.dates,
        counts_bytes: seen.counts_bytes,
    })
}

/// A bare connection, with or without startup options.
pub(super) async fn open(target: &Target, application: &str, options: bool) -> Result<PgConnection, Error> {
    let mut with = target.options.clone().application_name(application_name(application));
    if options {
        with = with.options(settings(&target.locks)).options(KEEPALIVE);
    }
    // Boxed: else each future that may connect, such as the one beside every script, has room for it, and is moved with it.
    match tokio::time::timeout(CONNECT, nodelay::at_once(Box::pin(with.connect()))).await {
        Ok(connection) => connection,
        Err(_) => Err(Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {} s", CONNECT.as_secs()),
        ))),
    }
}

/// Whether a connection was refused for something other than who we are and what we want: a pooler that does not
/// know the startup options (08P01, 0A000), or a server that cannot check for dead clients (22023, 42704).
fn refuses_options(error: &Error) -> bool {
    let Error::Database(error) = error else { return false };
    let code = error.code().unwrap_or_default();
    matches!(&*code, "08P01" | "0A000" | "22023" | "42704" | "55P02")
}

struct Seen {
    backend: Backend,
    identity: Identity,
    in_recovery: bool,
    read_only: bool,
    check_interval: String,
    deadlock_timeout: Duration,
    transaction_timeout: bool,
    counts_bytes: bool,
    dates: Vec<String>,
}

/// All that is asked of a fresh connection, in one message, or a second one of those who may read the server's files.
async fn look(connection: &mut PgConnection) -> Result<Seen, Fault> {
    const SYSTEM: &str = "(SELECT system_identifier::text FROM pg_catalog.pg_control_system())";
    let question = |system: &str| {
        format!(
            "SELECT a.pid::text, a.backend_start::text, current_setting('server_version_num'), \
             current_setting('server_version'), pg_catalog.pg_is_in_recovery()::text, \
             current_setting('transaction_read_only'), \
             coalesce(current_setting('client_connection_check_interval', true), ''), d.datname::text, d.oid::text, \
             {system}, current_setting('deadlock_timeout'), coalesce(current_setting('transaction_timeout', true), '0'), \
             current_setting('server_encoding'), {dates} \
             FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a \
             JOIN pg_catalog.pg_database d ON d.oid = a.datid",
            dates = dates::columns(),
        )
    };
    let rows = match query(connection, question(SYSTEM)).await {
        // Some managed servers take this right away from PUBLIC.
        Err(Fault::Server(error)) if matches!(&*error.sql_state, "42501" | "42883") => {
            query(connection, question("NULL")).await?
        }
        answer => answer?,
    };
    let row: &Row = rows.first().ok_or_else(|| Fault::Lost { why: "the server did not say who it is".into() })?;
    let number = |column| text(row, column).parse::<u64>().unwrap_or_default();
    Ok(Seen {
        backend: Backend { pid: number(0) as i32, started: text(row, 1).to_owned() },
        identity: Identity {
            system_identifier: row.get(9).cloned().flatten(),
            database_oid: number(8) as u32,
            database: text(row, 7).to_owned(),
            // Debian says `15.18 (Debian 15.18-0+deb12u1)`.
            server_version: text(row, 3).split(' ').next().unwrap_or_default().to_owned(),
            server_version_num: number(2) as u32,
        },
        in_recovery: text(row, 4) == "true",
        read_only: text(row, 5) == "on",
        check_interval: text(row, 6).to_owned(),
        deadlock_timeout: guc_duration(text(row, 10)).unwrap_or(Duration::from_secs(1)),
        transaction_timeout: text(row, 11) != "0",
        counts_bytes: text(row, 12) == "SQL_ASCII",
        dates: dates::settings(connection, row.get(13..).unwrap_or_default()).await?,
    })
}

/// When the session began, as only the login may see it.
async fn started(connection: &mut PgConnection) -> Result<String, Fault> {
    let sql = "SELECT a.backend_start::text FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a";
    let rows = query(connection, as_login(sql)).await?;
    Ok(rows.first().map(|row| text(row, 0).to_owned()).unwrap_or_default())
}

/// A setting of time as the server shows it: `1s`, `1500ms`, `2min`.
fn guc_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

fn lost(address: &Address, fault: Fault) -> PostgresError {
    PostgresError::from_fault(address, "looking at the server", fault)
}

/// What a connection that was not made is called.
pub(super) fn connect_error(target: &Target, error: Error) -> PostgresError {
    let address = target.address.clone();
    match error {
        Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => refused(target, ServerError::new(error)),
            None => PostgresError::Unreachable { address, why: "it does not speak PostgreSQL's protocol".into() },
        },
        Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => tls::refused(target, error),
            None => PostgresError::Unreachable { address, why: error.to_string() },
        },
        Error::Tls(error) => tls::failed(address, error.to_string()),
        // What SASLprep forbids: control characters and the like.
        Error::Configuration(error) if error.to_string().contains("saslprep") => {
            let key = "the user or the password".to_owned();
            PostgresError::Target(TargetError::Invalid { key, why: "it has characters that SCRAM does not take" })
        }
        // Only a client certificate's files are still read this late.
        Error::Configuration(_) => PostgresError::Tls {
            address,
            why: "the client certificate or its key cannot be read".into(),
            remedy: "Correct sslcert and sslkey",
        },
        Error::Protocol(why) if why.contains("authentication method") => {
            PostgresError::AuthenticationMethod { address }
        }
        _ => PostgresError::Unreachable { address, why: "the answer was not understood".into() },
    }
}

const WRONG_PASSWORD: &str = "Correct the user or the password";

/// What the server's own refusal is called.
fn refused(target: &Target, error: ServerError) -> PostgresError {
    let address = target.address.clone();
    let error = Box::new(error);
    match error.sql_state.as_str() {
        "3D000" => PostgresError::NoDatabase { address },
        "28P01" if target.shows_certificate() => PostgresError::Authentication {
            address,
            error,
            // What pg_hba.conf asks for with clientcert=verify-full is refused in the same words as a wrong password.
            remedy: "Correct the user, the password, or the client certificate, whose CN may have to be the user",
        },
        "28000" => PostgresError::Authentication {
            address,
            error,
            remedy: "Correct the user, or give what the server's pg_hba.conf asks of it: TLS (sslMode), a client certificate \
                     (clientCertSecretRef, sslcert), another address",
        },
        "28P01" => PostgresError::Authentication { address, error, remedy: WRONG_PASSWORD },
        "42501" => PostgresError::Permission {
            grant: format!("GRANT CONNECT ON DATABASE {} TO {};", Ident(&address.dbname), Ident(target.user())),
            what: "connecting".into(),
            address,
        },
        // PgBouncer has one SQLSTATE for all that it refuses.
        "08P01" if error.message.contains("no such database") => PostgresError::NoDatabase { address },
        "08P01" if error.message.contains("auth") || error.message.contains("no such user") => {
            PostgresError::Authentication { address, error, remedy: WRONG_PASSWORD }
        }
        _ => PostgresError::Unavailable { address, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_time_are_read_as_the_server_shows_them() {
        assert_eq!(guc_duration("1s"), Some(Duration::from_secs(1)));
        assert_eq!(guc_duration("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(guc_duration("2min"), Some(Duration::from_secs(120)));
        assert_eq!(guc_duration("1"), None);
    }

    #[test]
    fn an_application_name_is_cut_between_characters() {
        assert_eq!(application_name("belay/1/ns/name"), "belay/1/ns/name");
        let long = "é".repeat(40);
        assert_eq!(application_name(&long), "é".repeat(31));
    }
}
