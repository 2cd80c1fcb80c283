//! `spec.source` of a Migration → a History: inline, or the keys of ConfigMaps.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::layout;
use crate::api::{Reason, Source};
use crate::script::{History, InvalidFile};

/// Why a Migration's source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ConfigMap {namespace}/{name} does not exist. Create it: Belay goes on by itself")]
    NotFound { namespace: String, name: String },
    #[error("ConfigMap {namespace}/{name} cannot be read: {error}. Belay tries again")]
    Unreadable { namespace: String, name: String, error: kube::Error },
    #[error("ConfigMaps {first} and {second} both have the key {key}. Take it out of one of them")]
    Twice { key: String, first: String, second: String },
    #[error("{}", all(.0))]
    Invalid(Vec<InvalidFile>),
    #[error(
        "the source's digest is {is}, but spec.source.digest asks for {asked}. Put the content back, or correct the digest (belay digest prints it)"
    )]
    Digest { is: String, asked: String },
}

impl Error {
    /// The reason that conditions have for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } | Self::Unreadable { .. } => Reason::SourceNotFound,
            Self::Twice { .. } | Self::Invalid(_) | Self::Digest { .. } => Reason::InvalidSource,
        }
    }
}

/// Reads the whole source.
///
/// # Errors
/// When a ConfigMap is not there, or what it holds is no history of scripts.
pub async fn read(client: &Client, namespace: &str, source: &Source) -> Result<History, Error> {
    let files = match (&source.inline, &source.config_maps) {
        (Some(inline), _) => inline.iter().map(|(name, sql)| (name.clone(), sql.clone().into_bytes())).collect(),
        (None, config_maps) => {
            let mut files = Files::default();
            for reference in config_maps.iter().flatten() {
                files.add(&reference.name, config_map(client, namespace, &reference.name).await?)?;
            }
            files.0.into_iter().map(|(key, (_, bytes))| (key, bytes)).collect::<Vec<_>>()
        }
    };
    let history = layout::read(source.layout.unwrap_or_default(), files).map_err(Error::Invalid)?;
    match &source.digest {
        Some(asked) if asked != history.digest() => {
            Err(Error::Digest { is: history.digest().to_owned(), asked: asked.clone() })
        }
        _ => Ok(history),
    }
}

/// File name to the ConfigMap that it is from, and its bytes.
#[derive(Default)]
struct Files(BTreeMap<String, (String, Vec<u8>)>);

impl Files {
    fn add(&mut self, config_map: &str, files: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        for (key, bytes) in files {
            if let Some((first, _)) = self.0.get(&key) {
                return Err(Error::Twice { key, first: first.clone(), second: config_map.to_owned() });
            }
            self.0.insert(key, (config_map.to_owned(), bytes));
        }
        Ok(())
    }
}

/// The keys of a ConfigMap; those of binaryData too, so that a file in another encoding is named, not passed over.
async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let found = Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await
        .map_err(|error| Error::Unreadable { namespace: namespace.to_owned(), name: name.to_owned(), error })?
        .ok_or_else(|| Error::NotFound { namespace: namespace.to_owned(), name: name.to_owned() })?;
    let text = found.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    let binary = found.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
    Ok(text.chain(binary).collect())
}

/// The first fault in full, and how many more there are.
fn all(faults: &[InvalidFile]) -> String {
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    match faults.len() {
        0 | 1 => first,
        more => format!("{first}. And {} more", more - 1),
    }
}
