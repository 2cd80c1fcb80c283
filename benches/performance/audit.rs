//! The requests that the API server noted: what the operator wrote, counted by somebody else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use serde_json::Value;

use crate::support::cluster::{Cluster, OPERATORS_ACCOUNT};

/// The end of the log at one moment.
pub struct Mark {
    path: PathBuf,
    offset: u64,
}

/// Where the log ends now. None: the cluster is not that of `make cluster`, and keeps no log here.
pub fn mark(cluster: &Cluster) -> Option<Mark> {
    let path = cluster.kubeconfig().with_file_name("audit.log");
    let offset = path.metadata().ok()?.len();
    Some(Mark { path, offset })
}

impl Mark {
    /// The operator's writes in a namespace since then: `verb resource` → how many the server accepted.
    pub fn writes(&self, namespace: &str) -> BTreeMap<String, usize> {
        let mut file = File::open(&self.path).expect("the audit log");
        // The log may have been rotated; then it is read whole.
        let there = file.metadata().is_ok_and(|metadata| metadata.len() >= self.offset);
        file.seek(SeekFrom::Start(if there { self.offset } else { 0 })).expect("the audit log");
        let mut writes = BTreeMap::new();
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
            if let Some(write) = write(&entry, namespace) {
                *writes.entry(write).or_default() += 1;
            }
        }
        writes
    }
}

fn write(entry: &Value, namespace: &str) -> Option<String> {
    let object = &entry["objectRef"];
    let verb = entry["verb"].as_str()?;
    let accepted = entry["responseStatus"]["code"].as_i64().is_some_and(|code| (200..300).contains(&code));
    let operators = entry["user"]["username"] == OPERATORS_ACCOUNT;
    let written = ["create", "update", "patch", "delete"].contains(&verb);
    if object["namespace"] != namespace || !accepted || !operators || !written {
        return None;
    }
    let resource = match object["subresource"].as_str() {
        Some(subresource) => format!("{}/{subresource}", object["resource"].as_str()?),
        None => object["resource"].as_str()?.to_owned(),
    };
    Some(format!("{verb} {resource}"))
}
