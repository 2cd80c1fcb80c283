//! The same connection for PostgreSQL's own programs: pg_dump, pg_restore, psql.
//!
//! They get it as a service file and a password file, never as arguments or environment, which others can read.

use std::path::{Path, PathBuf};

use sqlx::PgConnection;

use super::connect::{connect_error, open};
use super::error::PostgresError;
use super::target::{SslMode, Target, TargetError};

/// What a service file and a password file have to say for a [`Target`]. Has a password in it: no Debug.
pub struct LibpqFiles {
    /// Text of a file that PGSERVICEFILE names; its one service is [`LibpqFiles::SERVICE`].
    pub service: String,
    /// Text of a file that PGPASSFILE names. libpq uses it only if nobody but its owner can read it.
    pub passwords: String,
}

/// Where libpq finds what TLS needs.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificate authorities, needed by the modes that verify: libpq has no portable name for the system's own
    /// (`sslrootcert=system` is of version 16).
    pub roots: Option<PathBuf>,
    /// A client certificate and its key. None: those that the URI names, if it does.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl LibpqFiles {
    /// The service's name, for PGSERVICE.
    pub const SERVICE: &str = "belay";
}

impl Target {
    /// The connection as libpq reads it.
    ///
    /// `password_in_service`: libpq ignores a password file that others can read, or that it can't read itself; a service
    /// file has no such rule, and works for programs of another user.
    ///
    /// # Errors
    /// When a value holds what those files can't: a line break, or white space at its end.
    pub fn libpq(&self, files: &TlsFiles, password_in_service: bool) -> Result<LibpqFiles, TargetError> {
        let port = self.address.port.to_string();
        let mut service = format!("[{}]\n", LibpqFiles::SERVICE);
        let mut say = |key: &'static str, value: &str| -> Result<(), TargetError> {
            if value.contains(['\n', '\r', '\0']) || value.trim() != value {
                let why = "PostgreSQL's own programs can't be given a value with line breaks, or with spaces around it";
                return Err(TargetError::Invalid { key: format!("the {key}"), why });
            }
            service.push_str(&format!("{key}={value}\n"));
            Ok(())
        };
        say("host", &self.address.host)?;
        say("port", &port)?;
        say("dbname", &self.address.dbname)?;
        say("user", self.user())?;
        say("sslmode", self.ssl_mode.name())?;
        say("connect_timeout", "10")?;
        if matches!(self.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull)
            && let Some(roots) = &files.roots
        {
            say("sslrootcert", &roots.to_string_lossy())?;
        }
        if let Some((certificate, key)) = files.client.as_ref().or(self.ssl_client.as_ref()) {
            say("sslcert", &certificate.to_string_lossy())?;
            say("sslkey", &key.to_string_lossy())?;
        }
        let password = self.password.as_deref().unwrap_or_default();
        if password_in_service && !password.is_empty() {
            say("password", password)?;
        }
        if password.contains(['\n', '\r', '\0']) {
            let why = "a password file holds no line breaks";
            return Err(TargetError::Invalid { key: "the password".to_owned(), why });
        }
        let mut passwords = String::new();
        if !password.is_empty() {
            // Any database of that server and user: a team's own script may look at more than one.
            let mut hosts = vec![escape(&self.address.host)];
            if self.address.host.starts_with('/') {
                hosts.push("localhost".to_owned());
            }
            for host in hosts {
                passwords.push_str(&format!("{host}:{port}:*:{}:{}\n", escape(self.user()), escape(password)));
            }
        }
        Ok(LibpqFiles { service, passwords })
    }

    /// `text` without the password, should it be in there, as it is or as a password file has it: for what other programs wrote to
    /// stderr. The whole of it: of a password that was cut through, the rest is not known for one.
    pub fn redact(&self, text: &str) -> String {
        const BLOT: &str = "********";
        match self.password.as_deref() {
            Some(password) if !password.is_empty() => text.replace(&escape(password), BLOT).replace(password, BLOT),
            _ => text.to_owned(),
        }
    }

    /// One plain connection, without an [`super::Engine`]'s lock and checks: a backup may also be taken of a standby.
    ///
    /// # Errors
    /// In the same words as an Engine's.
    pub async fn connect_plain(&self, application: &str) -> Result<PgConnection, PostgresError> {
        open(self, application, false).await.map_err(|error| connect_error(self, error))
    }
}

impl SslMode {
    /// libpq's name of the mode.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether the server's certificate is looked at, so that authorities are needed.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl Target {
    /// The file of certificate authorities that the connection URI names.
    pub fn ssl_root_cert(&self) -> Option<&Path> {
        self.ssl_root_cert.as_deref()
    }

    /// How TLS is used.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }
}

/// The file in which a Linux distribution keeps the certificate authorities that it trusts.
pub fn system_roots() -> Option<PathBuf> {
    const USUAL: &[&str] =
        &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let told = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    told.into_iter().chain(USUAL.iter().map(PathBuf::from)).find(|path| path.is_file())
}

/// A field of a password file: colons and backslashes take a backslash.
fn escape(field: &str) -> String {
    field.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(url: &str) -> LibpqFiles {
        let tls = TlsFiles { roots: Some("/roots.pem".into()), client: None };
        Target::from_url(url).unwrap().libpq(&tls, false).unwrap()
    }

    #[test]
    fn the_service_file_holds_all_but_the_password() {
        let files = files("postgres://me:p%3Aw%5Cd@db:6000/shop?sslmode=verify-full");
        assert_eq!(
            files.service,
            "[belay]\nhost=db\nport=6000\ndbname=shop\nuser=me\nsslmode=verify-full\nconnect_timeout=10\n\
             sslrootcert=/roots.pem\n"
        );
        assert_eq!(files.passwords, "db:6000:*:me:p\\:w\\\\d\n");
    }

    #[test]
    fn a_clients_certificate_comes_along() {
        let files = files("postgres://me@db/shop?sslmode=require&sslcert=/c.crt&sslkey=/c.key");
        assert!(files.service.contains("sslcert=/c.crt\nsslkey=/c.key\n"), "{}", files.service);
    }

    #[test]
    fn libpq_would_verify_under_require_if_it_were_given_authorities() {
        assert!(!files("postgres://me@db/shop?sslmode=require").service.contains("sslrootcert"));
    }

    #[test]
    fn a_socket_is_also_called_localhost_in_a_password_file() {
        let files = files("postgres://me:p@%2Frun%2Fpg/shop?sslmode=disable");
        assert_eq!(files.passwords, "/run/pg:5432:*:me:p\nlocalhost:5432:*:me:p\n");
    }

    #[test]
    fn a_line_break_cannot_smuggle_a_parameter_in() {
        let target = Target::from_url("postgres://me:p@db/shop%0Asslmode=disable").unwrap();
        let error = target.libpq(&TlsFiles::default(), false).err().unwrap().to_string();
        assert!(error.contains("dbname"), "{error}");
        let target = Target::from_url("postgres://me:hunter%0A2@db/shop").unwrap();
        let error = target.libpq(&TlsFiles::default(), true).err().unwrap().to_string();
        assert!(error.contains("password") && !error.contains("hunter"), "{error}");
    }

    #[test]
    fn what_other_programs_say_is_shown_without_the_password() {
        let target = Target::from_url("postgres://me:hunter2@db/shop").unwrap();
        assert_eq!(target.redact("no hunter2 here"), "no ******** here");
    }

    #[test]
    fn a_password_is_blotted_out_of_a_password_file_that_a_script_shows() {
        let target = Target::from_url("postgres://me:p%3Aw%5Cd@db/shop").unwrap();
        let shown = target.libpq(&TlsFiles::default(), false).unwrap().passwords;
        assert_eq!(target.redact(&shown), "db:5432:*:me:********\n");
        assert_eq!(target.redact(r"it is p:w\d, or p\:w\\d"), "it is ********, or ********");
    }
}
