//! The requests that the API server noted, in the log that `make cluster` has it keep: what the operator did, told by somebody else.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use serde_json::Value;

use super::cluster::Cluster;

/// The files of the log, the oldest first: it is rotated when it is large. None of them: the cluster is not that of
/// `make cluster`.
pub fn files(cluster: &Cluster) -> Vec<PathBuf> {
    let folder = cluster.kubeconfig().parent().expect("a folder").to_owned();
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let of_the_log = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("audit") && path.extension().is_some_and(|extension| extension == "log")
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(of_the_log).collect();
    // audit.log comes before audit-<time>.log in the alphabet, and is the newest.
    files.sort_by_key(|path| (path.ends_with("audit.log"), path.clone()));
    files
}

/// Every request of a user's that is noted in these files; of everybody's, for an empty name.
pub fn requests(files: &[PathBuf], user: &str) -> impl Iterator<Item = Value> {
    let lines = files.iter().flat_map(|file| BufReader::new(File::open(file).expect("the audit log")).lines());
    // Most lines are somebody else's, and need not be read as JSON.
    let lines = lines.map(|line| line.expect("the audit log")).filter(move |line| line.contains(user));
    // The last line may be being written.
    let requests = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    requests.filter(move |request| user.is_empty() || request["user"]["username"] == user)
}
