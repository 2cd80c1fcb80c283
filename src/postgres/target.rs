//! Where a database is, as whom to connect, and the rules that hold while scripts run.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::client_certificate::{ClientCertificate, ClientCertificateError};
use super::uri;

/// Where a database is. Shown as `host:port/dbname`: the only part of a [`Target`] that messages name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, an address, or the directory of a Unix socket.
    pub host: String,
    pub port: u16,
    pub dbname: String,
}

impl Address {
    /// The server that the database is on: `host:port`.
    pub fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
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

/// What a target cannot be made of. Names keys, never their values.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    #[error("no {what}: {remedy}")]
    Missing { what: &'static str, remedy: &'static str },
    #[error("{key} is not usable: {why}")]
    Invalid { key: String, why: &'static str },
    #[error("the certificate authority is not usable: it holds no certificate in PEM. Correct it, or caRef")]
    Authority,
    #[error("the client certificate is not usable: {0}. Correct it, or clientCertSecretRef")]
    ClientCertificate(#[from] ClientCertificateError),
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
    pub(super) client_certificate: Option<ClientCertificate>,
    search_path_in_uri: Option<String>,
    role_in_uri: Option<String>,
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
    /// The files of a certificate and its key.
    pub ssl_client: Option<(PathBuf, PathBuf)>,
    /// The parameters of a URI that ask for a search_path and a role, as messages call them.
    pub search_path_in_uri: Option<String>,
    pub role_in_uri: Option<String>,
}

impl Parts {
    /// Takes from `other` what is absent here.
    pub fn or(self, other: Self) -> Self {
        Self {
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            dbname: self.dbname.or(other.dbname),
            user: self.user.or(other.user),
            password: self.password.or(other.password),
            ssl_mode: self.ssl_mode.or(other.ssl_mode),
            ssl_root_cert: self.ssl_root_cert.or(other.ssl_root_cert),
            ssl_client: self.ssl_client.or(other.ssl_client),
            search_path_in_uri: self.search_path_in_uri.or(other.search_path_in_uri),
            role_in_uri: self.role_in_uri.or(other.role_in_uri),
        }
    }

    /// Looks for the files that the mode needs: later, one that is missing would be told as a server that is.
    fn find_files(&self) -> Result<(), TargetError> {
        let mode = self.ssl_mode.unwrap_or(SslMode::VerifyFull);
        let roots = self.ssl_root_cert.as_ref().filter(|_| mode.verifies());
        let asks_for_tls = !matches!(mode, SslMode::Disable | SslMode::Prefer);
        let (certificate, key) =
            self.ssl_client.as_ref().filter(|_| asks_for_tls).map(|(certificate, key)| (certificate, key)).unzip();
        for (parameter, path) in [("sslrootcert", roots), ("sslcert", certificate), ("sslkey", key)] {
            if let Some(path) = path.filter(|path| std::fs::File::open(path).is_err()) {
                let key = format!("{parameter} ({})", path.display());
                return Err(TargetError::Invalid { key, why: "the file cannot be read" });
            }
        }
        Ok(())
    }
}

impl Target {
    /// From a connection URI alone.
    pub fn from_url(url: &str) -> Result<Self, TargetError> {
        Self::build(uri::parse("the database URL", url)?, PgConnectOptions::new_without_pgpass())
    }

    /// As psql finds its server: from the URI if there is one, and for the rest from PG* variables and the password
    /// file. For people at a terminal only. Without any sslmode: prefer.
    pub fn from_environment(url: Option<&str>) -> Result<Self, TargetError> {
        let parts = match url {
            Some(url) => uri::parse("the database URL", url)?,
            None => Parts::default(),
        };
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let invalid = |name: &str, why| TargetError::Invalid { key: format!("the variable {name}"), why };
        let port = variable("PGPORT").filter(|_| parts.port.is_none());
        let port =
            port.map(|port| port_in(&port).ok_or_else(|| invalid("PGPORT", "a port is a number from 1 to 65535")));
        let ssl_mode = match variable("PGSSLMODE").filter(|_| parts.ssl_mode.is_none()) {
            Some(mode) => SslMode::parse(&mode).ok_or_else(|| {
                invalid("PGSSLMODE", "it is disable, allow, prefer, require, verify-ca or verify-full")
            })?,
            None => SslMode::Prefer,
        };
        let fallback = PgConnectOptions::new_without_pgpass();
        let from_variables = Parts {
            host: Some(fallback.get_host().to_owned()),
            port: Some(port.transpose()?.unwrap_or(5432)),
            dbname: variable("PGDATABASE"),
            user: Some(fallback.get_username().to_owned()),
            password: variable("PGPASSWORD"),
            ssl_mode: Some(ssl_mode),
            ssl_root_cert: variable("PGSSLROOTCERT").filter(|root| root != "system").map(PathBuf::from),
            ssl_client: variable("PGSSLCERT").zip(variable("PGSSLKEY")).map(|(cert, key)| (cert.into(), key.into())),
            ..Parts::default()
        };
        let mut parts = parts.or(from_variables);
        // As psql: the database is called after the user.
        parts.dbname = parts.dbname.or_else(|| parts.user.clone());
        if parts.password.is_none() {
            parts.password = uri::password_file(&parts);
        }
        parts.find_files()?;
        Self::build(parts, fallback)
    }

    pub(super) fn build(parts: Parts, base: PgConnectOptions) -> Result<Self, TargetError> {
        let missing = |what, remedy| TargetError::Missing { what, remedy };
        let host =
            parts.host.ok_or(missing("host", "give the Secret a key uri or host, or set spec.connection.host"))?;
        let dbname = parts
            .dbname
            .ok_or(missing("database name", "give the Secret a key uri or dbname, or set spec.connection.dbname"))?;
        // They are shown, and a URI may hold a password.
        for (key, part) in [("host", &host), ("database name", &dbname)] {
            if part.contains("://") {
                let why = "it is a URI. Give that as the key uri, as --database-url, or in parts";
                return Err(TargetError::Invalid { key: format!("the {key}"), why });
            }
        }
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
            client_certificate: None,
            search_path_in_uri: parts.search_path_in_uri,
            role_in_uri: parts.role_in_uri,
            ssl_mode: parts.ssl_mode.unwrap_or(SslMode::VerifyFull),
            options: sqlx::ConnectOptions::disable_statement_logging(options),
            role: None,
            search_path: Vec::new(),
            history_schema: "belay".to_owned(),
            locks: Locks::default(),
            blockers: Blockers::default(),
        })
    }

    /// Refuses a URI by which scripts would run in another schema, or as another role, than they do.
    pub(super) fn refuse_what_the_uri_asks(&self) -> Result<(), TargetError> {
        let invalid = |key: &String, why| Err(TargetError::Invalid { key: key.clone(), why });
        match (&self.search_path_in_uri, &self.role_in_uri) {
            (Some(key), _) if self.search_path.is_empty() => {
                invalid(key, "Belay does not look at it. Set spec.searchPath (--search-path), which goes before it")
            }
            (_, Some(key)) if self.role.is_none() => {
                invalid(key, "Belay does not look at it. Set spec.role (--role), which goes before it")
            }
            _ => Ok(()),
        }
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

    /// Shows the server this certificate.
    pub fn with_client_certificate(mut self, shown: ClientCertificate) -> Self {
        self.options = self.options.ssl_client_cert_from_pem(shown.certificate()).ssl_client_key_from_pem(shown.key());
        self.client_certificate = Some(shown);
        self
    }

    /// The certificate that the server is shown, if it is not in files of the URI's.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_ref()
    }

    /// Whether the server is shown a certificate.
    pub(super) fn shows_certificate(&self) -> bool {
        self.client_certificate.is_some() || self.ssl_client.is_some()
    }

    /// The same server and login, another database: where a backup is tried out.
    pub fn with_database(mut self, dbname: &str) -> Self {
        self.options = self.options.database(dbname);
        self.address.dbname = dbname.to_owned();
        self
    }
}

/// A port, as psql reads it: with blanks around it, and none that is 0.
fn port_in(text: &str) -> Option<u16> {
    text.trim_matches(|char: char| char.is_ascii_whitespace()).parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_uri_asks_for_beside_the_connection_is_refused_unless_the_spec_says_it() {
        for parameter in ["schema", "search_path", "currentSchema", "schema_search_path", "role"] {
            let mut target = Target::from_url(&format!("postgres://u:p@h/d?{parameter}=tenant1")).unwrap();
            let error = target.refuse_what_the_uri_asks().unwrap_err().to_string();
            let remedy = if parameter == "role" { "--role" } else { "--search-path" };
            assert!(error.contains(&format!("the parameter {parameter} of")) && error.contains(remedy), "{error}");
            target.role = Some("tenant1".into());
            target.search_path = vec!["tenant1".into()];
            assert_eq!(target.refuse_what_the_uri_asks(), Ok(()));
        }
    }

    #[test]
    fn a_file_of_tls_that_cannot_be_read_is_named_as_such() {
        for parameters in ["sslrootcert=/nonexistent/x", "sslcert=/nonexistent/x&sslkey=/dev/null"] {
            let url = format!("postgres://u:p@h/d?sslmode=verify-full&{parameters}");
            let error = Target::from_environment(Some(&url)).unwrap_err().to_string();
            assert!(error.contains("(/nonexistent/x)"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let target = Target::from_url("postgres://u:hunter2@h/d").unwrap();
        assert_eq!(format!("{target:?}"), r#"Target("h:5432/d", ..)"#);
    }
}
