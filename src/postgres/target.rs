//! Where a database is, as whom to connect, and the rules that hold while scripts run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::uri;

/// Where a database is. Shown as `host:port/dbname`: the only part of a [`Target`] that messages name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, an address, or the directory of a Unix socket.
    pub host: String,
    pub port: u16,
    pub dbname: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.dbname)
    }
}

/// How TLS is used, as libpq's sslmode has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// TLS if the server has it. Never chosen by Belay; a connection URI can ask for it.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    /// Reads libpq's name of a mode; `allow` is taken as `prefer`, which is no weaker.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    fn to_sqlx(self) -> PgSslMode {
        match self {
            Self::Disable => PgSslMode::Disable,
            Self::Prefer => PgSslMode::Prefer,
            Self::Require => PgSslMode::Require,
            Self::VerifyCa => PgSslMode::VerifyCa,
            Self::VerifyFull => PgSslMode::VerifyFull,
        }
    }
}

/// How long scripts may wait, and make others wait: rule 5 of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locks {
    /// The most that any one try may make others wait.
    pub lock_timeout: Duration,
    /// statement_timeout of the scripts; zero: none.
    pub statement_timeout: Duration,
    /// How long to keep trying for locks, or for a lost server, before the run fails.
    pub retry_for: Duration,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_secs(3),
            statement_timeout: Duration::ZERO,
            retry_for: Duration::from_secs(15 * 60),
        }
    }
}

/// What is done to sessions that keep a script waiting for locks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Blockers {
    /// Nothing: they are shown, and waited for.
    #[default]
    Wait,
    /// Those that are idle in a transaction for longer are ended; what they had not committed is lost to them.
    TerminateIdleInTransaction { older_than: Duration },
    /// What sessions with one of these application names run is cancelled.
    CancelApplications { names: Vec<String> },
}

impl From<&crate::api::LockPolicy> for Blockers {
    fn from(policy: &crate::api::LockPolicy) -> Self {
        let Some(blockers) = &policy.blockers else { return Self::Wait };
        match (&blockers.terminate_idle_in_transaction, &blockers.cancel_applications) {
            (Some(idle), _) => Self::TerminateIdleInTransaction { older_than: idle.older_than.get() },
            (None, Some(applications)) => Self::CancelApplications { names: applications.names.clone() },
            (None, None) => Self::Wait,
        }
    }
}

impl From<&crate::api::LockPolicy> for Locks {
    fn from(policy: &crate::api::LockPolicy) -> Self {
        Self {
            lock_timeout: policy.lock_timeout.get(),
            statement_timeout: policy.statement_timeout.get(),
            retry_for: policy.retry_for.get(),
        }
    }
}

/// What a Database's spec says in place of its Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub dbname: Option<String>,
    pub ssl_mode: Option<SslMode>,
}

/// What a target cannot be made of. Names keys, never their values.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    #[error("no {what}: {remedy}")]
    Missing { what: &'static str, remedy: &'static str },
    #[error("{key} is not usable: {why}")]
    Invalid { key: String, why: &'static str },
    #[error(
        "the environment variable {0} is set, and would change every connection: take it out of the operator's Pod"
    )]
    Environment(&'static str),
}

/// One PostgreSQL database to migrate. Debug shows the address only.
#[derive(Clone)]
pub struct Target {
    pub(super) address: Address,
    pub(super) options: PgConnectOptions,
    /// Kept beside the options, which don't give them back: PostgreSQL's own programs need them too.
    pub(super) password: Option<String>,
    pub(super) ssl_mode: SslMode,
    pub(super) ssl_root_cert: Option<PathBuf>,
    pub(super) ssl_client: Option<(PathBuf, PathBuf)>,
    /// `SET ROLE`, so that objects have one owner.
    pub role: Option<String>,
    /// search_path while scripts run; empty: the login's own.
    pub search_path: Vec<String>,
    /// The schema in which the ledger lives.
    pub history_schema: String,
    pub locks: Locks,
    pub blockers: Blockers,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.address.to_string()).finish_non_exhaustive()
    }
}

/// The parts of a connection, from wherever they came; what is absent is absent.
#[derive(Default)]
pub(super) struct Parts {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub dbname: Option<String>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub ssl_mode: Option<SslMode>,
    pub ssl_root_cert: Option<PathBuf>,
    pub ssl_client: Option<(PathBuf, PathBuf)>,
}

impl Parts {
    /// Takes from `other` what is absent here.
    fn or(self, other: Self) -> Self {
        Self {
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            dbname: self.dbname.or(other.dbname),
            user: self.user.or(other.user),
            password: self.password.or(other.password),
            ssl_mode: self.ssl_mode.or(other.ssl_mode),
            ssl_root_cert: self.ssl_root_cert.or(other.ssl_root_cert),
            ssl_client: self.ssl_client.or(other.ssl_client),
        }
    }
}

impl Target {
    /// From a Secret's keys: `uri` or `url`, or `host`, `port`, `dbname`, `user` (or `username`) and `password`.
    /// Keys fill what the URI leaves out; `overrides` win over both.
    ///
    /// Takes nothing from the environment. Without any sslmode: verify-full.
    pub fn from_secret(keys: &BTreeMap<String, Vec<u8>>, overrides: &Overrides) -> Result<Self, TargetError> {
        // sqlx reads these with no way to set them back.
        for variable in ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY"] {
            if std::env::var_os(variable).is_some() {
                return Err(TargetError::Environment(variable));
            }
        }
        let text = |key: &str| -> Result<Option<String>, TargetError> {
            let Some(bytes) = keys.get(key) else { return Ok(None) };
            let text = std::str::from_utf8(bytes)
                .map_err(|_| TargetError::Invalid { key: format!("the key {key}"), why: "it is not UTF-8" })?;
            // Secrets made with `echo` end in a newline that nobody meant.
            let text = text.trim_end_matches(['\n', '\r']);
            Ok((!text.is_empty()).then(|| text.to_owned()))
        };
        let from_uri = match (text("uri")?, text("url")?) {
            (Some(uri), _) => uri::parse("the key uri", &uri)?,
            (None, Some(url)) => uri::parse("the key url", &url)?,
            (None, None) => Parts::default(),
        };
        let port = match text("port")? {
            Some(port) => Some(port.parse().map_err(|_| TargetError::Invalid {
                key: "the key port".into(),
                why: "a port is a number up to 65535",
            })?),
            None => None,
        };
        let user = match text("user")? {
            Some(user) => Some(user),
            None => text("username")?,
        };
        let from_keys = Parts {
            host: text("host")?,
            port,
            dbname: text("dbname")?,
            user,
            password: text("password")?,
            ..Parts::default()
        };
        let overrides = Parts {
            host: overrides.host.clone(),
            port: overrides.port,
            dbname: overrides.dbname.clone(),
            ssl_mode: overrides.ssl_mode,
            ..Parts::default()
        };
        Self::build(overrides.or(from_uri).or(from_keys), PgConnectOptions::new_without_pgpass(), false)
    }

    /// From a connection URI alone.
    pub fn from_url(url: &str) -> Result<Self, TargetError> {
        Self::build(uri::parse("the database URL", url)?, PgConnectOptions::new_without_pgpass(), false)
    }

    /// As psql finds its server: from the URI if there is one, and for the rest from PG* variables and the password
    /// file. For people at a terminal only. Without any sslmode: prefer.
    pub fn from_environment(url: Option<&str>) -> Result<Self, TargetError> {
        let parts = match url {
            Some(url) => uri::parse("the database URL", url)?,
            None => Parts::default(),
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let fallback = PgConnectOptions::new_without_pgpass();
        let from_variables = Parts {
            host: Some(fallback.get_host().to_owned()),
            port: Some(fallback.get_port()),
            dbname: variable("PGDATABASE"),
            user: Some(fallback.get_username().to_owned()),
            password: variable("PGPASSWORD"),
            ssl_mode: variable("PGSSLMODE").and_then(|mode| SslMode::parse(&mode)).or(Some(SslMode::Prefer)),
            ..Parts::default()
        };
        let mut parts = parts.or(from_variables);
        // As psql: the database is called after the user.
        parts.dbname = parts.dbname.or_else(|| parts.user.clone());
        if parts.password.is_none() {
            parts.password = uri::password_file(&parts);
        }
        Self::build(parts, fallback, true)
    }

    fn build(parts: Parts, base: PgConnectOptions, environment: bool) -> Result<Self, TargetError> {
        let missing = |what, remedy| TargetError::Missing { what, remedy };
        let host =
            parts.host.ok_or(missing("host", "give the Secret a key uri or host, or set spec.connection.host"))?;
        let dbname = parts
            .dbname
            .ok_or(missing("database name", "give the Secret a key uri or dbname, or set spec.connection.dbname"))?;
        let user = parts.user.ok_or(missing("user", "give the Secret a key uri, user or username"))?;
        let port = parts.port.unwrap_or(5432);
        let mut options = base
            .port(port)
            .username(&user)
            // Set even if there is none: sqlx would take PGPASSWORD.
            .password(parts.password.as_deref().unwrap_or_default())
            .database(&dbname)
            .ssl_mode(parts.ssl_mode.unwrap_or(SslMode::VerifyFull).to_sqlx())
            // Poolers refuse this startup parameter; Belay reads no floats.
            .extra_float_digits(None);
        options = if host.starts_with('/') { options.socket(&host) } else { options.host(&host) };
        options = match parts.ssl_root_cert.clone() {
            Some(path) => options.ssl_root_cert(path),
            None if environment => options,
            // Set even if there is none: sqlx would take PGSSLROOTCERT.
            None => options.ssl_root_cert_from_pem(Vec::new()),
        };
        if let Some((cert, key)) = parts.ssl_client.clone() {
            options = options.ssl_client_cert(cert).ssl_client_key(key);
        }
        Ok(Self {
            address: Address { host, port, dbname },
            password: parts.password,
            ssl_root_cert: parts.ssl_root_cert,
            ssl_client: parts.ssl_client,
            ssl_mode: parts.ssl_mode.unwrap_or(SslMode::VerifyFull),
            options: sqlx::ConnectOptions::disable_statement_logging(options),
            role: None,
            search_path: Vec::new(),
            history_schema: "belay".to_owned(),
            locks: Locks::default(),
            blockers: Blockers::default(),
        })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The login.
    pub fn user(&self) -> &str {
        self.options.get_username()
    }

    /// Trusts this certificate authority (PEM) besides the system's.
    pub fn with_ca(mut self, pem: &[u8]) -> Self {
        self.options = self.options.ssl_root_cert_from_pem(pem.to_vec());
        self
    }

    /// Shows the server this certificate and key, both PEM.
    pub fn with_client_certificate(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.options = self.options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
        self
    }

    /// The same server and login, another database: where a backup is tried out.
    pub fn with_database(mut self, dbname: &str) -> Self {
        self.options = self.options.database(dbname);
        self.address.dbname = dbname.to_owned();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn secrets_of_the_known_operators_work_as_they_are() {
        let cnpg = keys(&[
            ("uri", "postgresql://app:s3cr%2Ft@shop-rw.db:5432/app"),
            ("jdbc-uri", "jdbc:postgresql://shop-rw.db:5432/app"),
            ("username", "app"),
            ("user", "app"),
            ("password", "s3cr/t"),
            ("host", "shop-rw"),
            ("port", "5432"),
            ("dbname", "app"),
            ("pgpass", "shop-rw:5432:app:app:s3cr/t"),
        ]);
        let target = Target::from_secret(&cnpg, &Overrides::default()).unwrap();
        assert_eq!(target.address().to_string(), "shop-rw.db:5432/app");
        assert_eq!(target.user(), "app");

        let zalando = keys(&[("username", "app"), ("password", "x\n")]);
        let overrides = Overrides { host: Some("db".into()), dbname: Some("shop".into()), ..Overrides::default() };
        let target = Target::from_secret(&zalando, &overrides).unwrap();
        assert_eq!(target.address().to_string(), "db:5432/shop");
        assert!(matches!(target.options.get_ssl_mode(), PgSslMode::VerifyFull));
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = Target::from_secret(&keys(&[("host", "db"), ("user", "u")]), &Overrides::default()).unwrap_err();
        assert!(error.to_string().contains("dbname"), "{error}");
        let error = Target::from_secret(&keys(&[("host", "db"), ("port", "secret")]), &Overrides::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("port") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn overrides_win_over_the_uri_and_the_uri_over_the_keys() {
        let secret = keys(&[("uri", "postgres://u:p@a:1/x?sslmode=disable"), ("host", "b"), ("port", "2")]);
        let overrides = Overrides { port: Some(3), ssl_mode: Some(SslMode::Require), ..Overrides::default() };
        let target = Target::from_secret(&secret, &overrides).unwrap();
        assert_eq!(target.address().to_string(), "a:3/x");
        assert!(matches!(target.options.get_ssl_mode(), PgSslMode::Require));
    }

    #[test]
    fn debug_shows_no_password() {
        let target = Target::from_url("postgres://u:hunter2@h/d").unwrap();
        assert_eq!(format!("{target:?}"), r#"Target("h:5432/d", ..)"#);
    }
}
