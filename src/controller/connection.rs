//! A PostgresDatabase's connection → a [`Target`]: reads the Secrets and the certificate authority, and keeps none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::migration::Trouble;
use crate::api::{CaKind, CaRef, LocalRef, PostgresDatabase, Reason, SslMode};
use crate::postgres::{self, ClientCertificate, Overrides, PostgresError, Target, TargetError};

/// Where, as whom and under what rules to connect.
///
/// # Errors
/// SecretNotFound when an object or a key is missing, by name; never a value.
pub async fn target(client: &Client, namespace: &str, database: &PostgresDatabase) -> Result<Target, Trouble> {
    let spec = &database.spec;
    let connection = &spec.connection;
    let name = &connection.secret_ref.name;
    let keys = secret(client, namespace, name).await?;
    let ca = match &connection.ca_ref {
        Some(reference) => Some(certificate_authority(client, namespace, reference).await?),
        None => None,
    };
    let client_certificate = match &connection.client_cert_secret_ref {
        Some(LocalRef { name }) => Some(client_certificate(client, namespace, name).await?),
        None => None,
    };
    let overrides = Overrides {
        host: connection.host.clone(),
        port: connection.port,
        dbname: connection.dbname.clone(),
        ssl_mode: connection.ssl_mode.map(ssl_mode),
        ca,
        client_certificate,
    };
    let mut target = Target::from_secret(&keys, &overrides).map_err(|error| unusable(namespace, name, error))?;
    target.role.clone_from(&spec.role);
    target.search_path.clone_from(&spec.search_path);
    target.history_schema.clone_from(&spec.history_schema);
    target.locks = (&spec.locks).into();
    target.blockers = (&spec.locks).into();
    Ok(target)
}

async fn secret(client: &Client, namespace: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>, Trouble> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await
        .map_err(|error| unreadable("Secret", namespace, name, &error))?
        .ok_or_else(|| {
            missing(format!("Secret {namespace}/{name} does not exist. Create it: Belay goes on by itself"))
        })?;
    Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
}

async fn client_certificate(client: &Client, namespace: &str, name: &str) -> Result<ClientCertificate, Trouble> {
    let mut keys = secret(client, namespace, name).await?;
    let mut take = |key: &str| {
        keys.remove(key).ok_or_else(|| {
            missing(format!("Secret {namespace}/{name} has no key {key}. Add it, or correct clientCertSecretRef"))
        })
    };
    let (certificate, key) = (take(ClientCertificate::CERTIFICATE)?, take(ClientCertificate::KEY)?);
    ClientCertificate::new(certificate, key).map_err(|error| unusable(namespace, name, error.into()))
}

async fn certificate_authority(client: &Client, namespace: &str, reference: &CaRef) -> Result<Vec<u8>, Trouble> {
    let CaRef { kind, name, key } = reference;
    let (kind, found) = match kind {
        CaKind::Secret => {
            let secret = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await;
            (
                "Secret",
                secret.map(|secret| secret.map(|secret| secret.data.unwrap_or_default().remove(key).map(|v| v.0))),
            )
        }
        CaKind::ConfigMap => {
            let map = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await;
            (
                "ConfigMap",
                map.map(|map| map.map(|map| map.data.unwrap_or_default().remove(key).map(String::into_bytes))),
            )
        }
    };
    match found.map_err(|error| unreadable(kind, namespace, name, &error))? {
        Some(Some(pem)) => Ok(pem),
        Some(None) => Err(missing(format!("{kind} {namespace}/{name} has no key {key}. Add it, or correct caRef"))),
        None => Err(missing(format!("{kind} {namespace}/{name} does not exist. Create it: Belay goes on by itself"))),
    }
}

fn missing(message: String) -> Trouble {
    Trouble { reason: Reason::SecretNotFound, message }
}

fn unusable(namespace: &str, name: &str, error: TargetError) -> Trouble {
    let message = format!("Secret {namespace}/{name}: {error}");
    Trouble { reason: PostgresError::from(error).reason(), message }
}

fn unreadable(kind: &str, namespace: &str, name: &str, error: &kube::Error) -> Trouble {
    missing(format!("{kind} {namespace}/{name} cannot be read: {error}. Let Belay's ServiceAccount get it"))
}

fn ssl_mode(mode: SslMode) -> postgres::SslMode {
    match mode {
        SslMode::Disable => postgres::SslMode::Disable,
        SslMode::Require => postgres::SslMode::Require,
        SslMode::VerifyCa => postgres::SslMode::VerifyCa,
        SslMode::VerifyFull => postgres::SslMode::VerifyFull,
    }
}
