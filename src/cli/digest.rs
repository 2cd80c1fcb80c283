use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use super::exit::Exit;
use super::{output, source};

/// Print the digest of a folder: what spec.source.digest of a Migration pins, and status.sourceDigest answers.
///
/// The same files give the same digest wherever they are: in a folder, in a mounted ConfigMap, or in ConfigMaps that
/// kubectl printed. Files that are no scripts do not count.
#[derive(Args, Debug)]
pub struct Digest {
    /// Folders, or files with ConfigMaps as `kubectl get -o yaml` prints them; several are merged
    #[arg(value_name = "FOLDER", default_value = "migrations")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    layout: source::LayoutOption,
}

impl Digest {
    pub fn run(self) -> Result<Exit, CliError> {
        let history = source::merge(&self.paths, self.layout)?;
        output::print(&format!("{}\n", history.digest()))?;
        Ok(Exit::Done)
    }
}
