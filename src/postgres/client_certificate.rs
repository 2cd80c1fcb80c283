//! A certificate and its key, for servers that ask who is there.

use std::fmt;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// What a server is shown. Both are PEM, and the key is the certificate's: others cannot be made. Debug shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Why a certificate and a key are of no use. Names keys of a kubernetes.io/tls Secret, never their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateError {
    #[error("tls.crt holds no certificate in PEM")]
    NoCertificate,
    #[error("tls.key holds no private key in PEM, or one with a passphrase")]
    NoKey,
    #[error("tls.key holds a private key of a kind that Belay does not know: use RSA, ECDSA or Ed25519")]
    UnknownKey,
    #[error("tls.key is not the key of the certificate in tls.crt")]
    Strangers,
}

impl ClientCertificate {
    /// Where a kubernetes.io/tls Secret has the certificate, and those between it and the authority behind it.
    pub const CERTIFICATE: &str = "tls.crt";
    /// Where it has the key.
    pub const KEY: &str = "tls.key";

    /// Takes both if a server could be shown them.
    ///
    /// # Errors
    /// Says which of the two is of no use, and why.
    pub fn new(certificate: Vec<u8>, key: Vec<u8>) -> Result<Self, ClientCertificateError> {
        use ClientCertificateError as Error;
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>().map_err(|_| Error::NoCertificate)?;
        if chain.is_empty() {
            return Err(Error::NoCertificate);
        }
        let private = PrivateKeyDer::from_pem_slice(&key).map_err(|_| Error::NoKey)?;
        CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error::Strangers,
            rustls::Error::InvalidCertificate(_) => Error::NoCertificate,
            _ => Error::UnknownKey,
        })?;
        Ok(Self { certificate, key })
    }

    /// The certificate, in PEM.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The key, in PEM.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}
