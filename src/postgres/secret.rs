//! A Secret's keys, as people and other operators write them → a target.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sqlx::postgres::PgConnectOptions;

use super::client_certificate::ClientCertificate;
use super::target::{Parts, SslMode, Target, TargetError};
use super::uri;

/// What a Database's spec says in place of its Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub dbname: Option<String>,
    pub ssl_mode: Option<SslMode>,
    /// The authority that signed the server's certificate, in PEM.
    pub ca: Option<Vec<u8>>,
    pub client_certificate: Option<ClientCertificate>,
}

impl Target {
    /// From a Secret's keys: `uri` or `url`, or `host`, `port`, `dbname`, `user` (or `username`) and `password`.
    /// Keys fill what the URI leaves out; `overrides` win over both.
    ///
    /// Takes nothing from the environment, but that sqlx reads PGOPTIONS, PGSSLCERT and PGSSLKEY with no way to set them
    /// back: the program has taken those out by then. Without any sslmode: verify-full.
    pub fn from_secret(keys: &BTreeMap<String, Vec<u8>>, overrides: &Overrides) -> Result<Self, TargetError> {
        let text = |key: &str| -> Result<Option<String>, TargetError> {
            let Some(bytes) = keys.get(key) else { return Ok(None) };
            let text = std::str::from_utf8(bytes)
                .map_err(|_| TargetError::Invalid { key: format!("the key {key}"), why: "it is not UTF-8" })?;
            // Secrets made with `echo` end in a newline that nobody meant.
            let text = text.trim_end_matches(['\n', '\r']);
            Ok((!text.is_empty()).then(|| text.to_owned()))
        };
        let mut from_uri = match (text("uri")?, text("url")?) {
            (Some(uri), _) => uri::parse("the key uri", &uri)?,
            (None, Some(url)) => uri::parse("the key url", &url)?,
            (None, None) => Parts::default(),
        };
        // The files would be this process's own: who writes a Secret is not to choose among them.
        let file = |why| TargetError::Invalid { key: "the connection URI".into(), why };
        if from_uri.ssl_root_cert.take().is_some() && overrides.ca.is_none() {
            return Err(file("its sslrootcert names a file: set caRef instead"));
        }
        if from_uri.ssl_client.take().is_some() && overrides.client_certificate.is_none() {
            return Err(file("its sslcert and sslkey name files: set clientCertSecretRef instead"));
        }
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
        let in_their_place = Parts {
            host: overrides.host.clone(),
            port: overrides.port,
            dbname: overrides.dbname.clone(),
            ssl_mode: overrides.ssl_mode,
            ..Parts::default()
        };
        let parts = in_their_place.or(from_uri).or(from_keys);
        let mut target = Self::build(parts, PgConnectOptions::new_without_pgpass())?;
        if let Some(ca) = &overrides.ca {
            if CertificateDer::pem_slice_iter(ca).next().is_none_or(|first| first.is_err()) {
                return Err(TargetError::Authority);
            }
            target = target.with_ca(ca);
        }
        match &overrides.client_certificate {
            Some(_) if target.ssl_mode == SslMode::Disable => Err(TargetError::Invalid {
                key: "the client certificate".into(),
                why: "it is shown over TLS only, and sslMode is disable",
            }),
            Some(certificate) => Ok(target.with_client_certificate(certificate.clone())),
            None => Ok(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgSslMode;

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
    fn a_uri_in_the_place_of_a_part_is_refused_and_not_shown() {
        for key in ["host", "dbname"] {
            let mut secret = keys(&[("host", "h"), ("dbname", "d"), ("user", "u")]);
            secret.insert(key.to_owned(), b"postgres://u:hunter2@h/d".to_vec());
            let error = Target::from_secret(&secret, &Overrides::default()).unwrap_err().to_string();
            assert!(error.contains("it is a URI") && !error.contains("hunter2"), "{error}");
        }
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
    fn a_secret_names_no_file_of_the_operators() {
        for (parameters, remedy) in [("sslrootcert=/etc/x", "caRef"), ("sslcert=/x&sslkey=/y", "clientCertSecretRef")] {
            let secret = keys(&[("uri", &format!("postgres://u:p@a/x?{parameters}"))]);
            let error = Target::from_secret(&secret, &Overrides::default()).unwrap_err().to_string();
            assert!(error.contains(remedy), "{error}");
        }
        // With what stands in its place it is of no meaning.
        let secret = keys(&[("uri", "postgres://u:p@a/x?sslrootcert=/etc/x")]);
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let overrides = Overrides { ca: Some(pem.to_vec()), ..Overrides::default() };
        assert_eq!(Target::from_secret(&secret, &overrides).unwrap().ssl_root_cert, None);
    }

    #[test]
    fn an_authority_without_a_certificate_is_told_before_it_is_trusted() {
        let overrides = Overrides { ca: Some(b"hunter2".to_vec()), ..Overrides::default() };
        let error = Target::from_secret(&keys(&[("uri", "postgres://u:p@a/x")]), &overrides).unwrap_err();
        assert_eq!(error, TargetError::Authority);
    }
}
