//! What went wrong with TLS, in words for whoever has to mend it. The same each time, so that a status that says it again
//! is not written again. Pure.

use rustls::{AlertDescription, CertificateError, Error};

use super::error::PostgresError;
use super::target::{Address, Target};

/// Whoever shows a certificate may be told so; else one side's certificate is the other's fault.
pub(super) fn refused(target: &Target, error: &Error) -> PostgresError {
    let address = target.address.clone();
    if let (true, Error::AlertReceived(alert)) = (target.shows_certificate(), error)
        && let Some(why) = of_ours(*alert)
    {
        return PostgresError::ClientCertificate { address, why };
    }
    let (why, remedy) = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "the server's certificate is signed by an authority that is not trusted".to_owned(),
            "Name that authority (caRef, sslrootcert)",
        ),
        Error::InvalidCertificate(error @ CertificateError::NotValidForNameContext { .. }) => {
            (error.to_string(), "Connect by a name of the certificate's; verify-ca does not look at it")
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("the server's certificate has expired".to_owned(), "Renew it")
        }
        // A server whose certificate is its own authority: libpq takes it, rustls does not.
        Error::InvalidCertificate(error @ CertificateError::Other(_))
            if error.to_string().contains("CaUsedAsEndEntity") =>
        {
            (
                "the server's certificate is an authority's own".to_owned(),
                "Give the server one that an authority signed; sslMode require looks at none",
            )
        }
        _ => (error.to_string(), "Correct sslMode, the CA, or the server's certificate"),
    };
    PostgresError::Tls { address, why, remedy }
}

/// A handshake that sqlx gave up by itself.
pub(super) fn failed(address: Address, why: String) -> PostgresError {
    let remedy = match why.as_str() {
        "server does not support TLS" => "Turn ssl on at the server, or use sslMode disable",
        why if why.starts_with("Invalid certificate") => "Correct the CA: it has to be PEM",
        _ => "Correct sslMode, the CA, or the server's certificate",
    };
    // It would go on with the text of the certificate, or its path.
    let why = if why.starts_with("Invalid certificate") { "the CA cannot be read".to_owned() } else { why };
    PostgresError::Tls { address, why, remedy }
}

/// What an alert says of the certificate that the server was shown. None: it is about something else.
fn of_ours(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnknownCA => "it trusts no authority that has signed it",
        AlertDescription::CertificateExpired => "it has expired, or is not valid yet",
        AlertDescription::CertificateRevoked => "it was revoked",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::UnsupportedCertificate => "it is not one that the server can use",
        _ => return None,
    })
}
