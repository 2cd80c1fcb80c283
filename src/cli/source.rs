//! What a person points at → a history of scripts: a folder, or ConfigMaps as `kubectl get -o yaml` prints them.

use std::path::{Path, PathBuf};

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;

use super::error::CliError;
use crate::api::Layout;
use crate::script::{Content, History};
use crate::source::{folder, layout};

/// The folder that a command works on.
#[derive(Args, Clone, Debug)]
pub struct Folder {
    /// The folder of <version>_<description>.sql files; or a file with ConfigMaps, as `kubectl get -o yaml` prints them
    #[arg(value_name = "FOLDER", default_value = "migrations")]
    folder: PathBuf,
    #[command(flatten)]
    layout: LayoutOption,
}

/// Whose names and marks the files have.
#[derive(Args, Clone, Copy, Debug)]
pub struct LayoutOption {
    /// Whose names and marks the files have; a Migration says it in spec.source.layout
    #[arg(long, value_name = "LAYOUT", default_value = "belay")]
    layout: Layout,
}

/// The folder, for commands that can do without.
#[derive(Args, Debug)]
pub struct OptionalFolder {
    /// The folder of <version>_<description>.sql files, to tell what is pending
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    layout: LayoutOption,
}

impl Folder {
    /// The history in the folder, or in the ConfigMaps of the file. Every faulty file is told.
    pub fn read(&self) -> Result<History, CliError> {
        merge(std::slice::from_ref(&self.folder), self.layout)
    }

    /// The same where it is needed; else the folder need not be there.
    pub fn read_if(&self, needed: bool) -> Result<Option<History>, CliError> {
        refuse_url(&self.folder)?;
        needed.then(|| self.read()).transpose()
    }

    /// The same as [`Folder::read`], on a thread of its own, beside a look at the database. What is wrong with the folder is told first, whatever
    /// the server says.
    pub async fn read_beside<T>(
        &self,
        look: impl Future<Output = Result<T, CliError>>,
    ) -> Result<(History, T), CliError> {
        let folder = self.clone();
        let read = async {
            let read = tokio::task::spawn_blocking(move || folder.read()).await;
            read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        };
        let (history, looked) = tokio::try_join!(read, async { Ok(look.await) })?;
        Ok((history, looked?))
    }
}

impl OptionalFolder {
    /// The same; none where no folder was given.
    pub fn read(&self) -> Result<Option<History>, CliError> {
        self.folder.as_ref().map(|folder| merge(std::slice::from_ref(folder), self.layout)).transpose()
    }
}

/// One history out of several places, as `spec.source.configMaps` merges them.
pub fn merge(paths: &[impl AsRef<Path>], LayoutOption { layout }: LayoutOption) -> Result<History, CliError> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(self::files(path.as_ref(), layout)?);
    }
    let places: Vec<_> = paths.iter().map(|path| path.as_ref().display().to_string()).collect();
    layout::read(layout, files).map_err(|faults| CliError::InvalidSource { place: places.join(", "), faults })
}

/// Names and bytes of what this layout may care about.
pub fn files(path: &Path, layout: Layout) -> Result<Vec<(String, Content)>, CliError> {
    refuse_url(path)?;
    match layout {
        _ if path.is_file() => config_maps(path),
        Layout::Belay => Ok(folder::read(path)?),
        _ => Ok(folder::read_with_folders(path, layout::depth(layout))?),
    }
}

/// Whether it is a URL or a connection string, which may carry a password: in the wrong place, it is not repeated.
pub fn connects(argument: &str) -> bool {
    argument.contains("://") || argument.to_ascii_lowercase().contains("password=")
}

fn refuse_url(path: &Path) -> Result<(), CliError> {
    match connects(&path.to_string_lossy()) {
        true => Err(CliError::UrlAsFolder),
        false => Ok(()),
    }
}

/// The keys of every ConfigMap in a YAML or JSON file.
fn config_maps(path: &Path) -> Result<Vec<(String, Content)>, CliError> {
    let unusable = |why: String| CliError::NotConfigMaps { path: path.display().to_string(), why };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let mut files = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let value = serde_json::Value::deserialize(document).map_err(|error| unusable(error.to_string()))?;
        let objects = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::Object(mut list) if list.get("items").is_some_and(|items| items.is_array()) => {
                match list.remove("items") {
                    Some(serde_json::Value::Array(items)) => items,
                    _ => continue,
                }
            }
            object => vec![object],
        };
        for object in objects {
            if object.get("kind").and_then(|kind| kind.as_str()) != Some("ConfigMap") {
                return Err(unusable("it holds something else than ConfigMaps".into()));
            }
            let map: ConfigMap = serde_json::from_value(object).map_err(|error| unusable(error.to_string()))?;
            files.extend(map.data.unwrap_or_default().into_iter().map(|(name, text)| (name, text.into_bytes().into())));
            files.extend(map.binary_data.unwrap_or_default().into_iter().map(|(name, bytes)| (name, bytes.0.into())));
        }
    }
    Ok(files)
}
