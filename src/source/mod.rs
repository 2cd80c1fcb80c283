//! Where a history of scripts comes from: ConfigMaps, inline, a local folder → names and bytes.
//!
//! What the files mean is [`crate::script`]'s to say; how another tool's files are told apart, [`layout`]'s.

pub mod folder;
pub mod kubernetes;
pub mod layout;

/// A source that could not be read. What is in its files is not judged here.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{path}: there is no such folder: give the folder that holds the <version>_<description>.sql files")]
    NoFolder { path: String },
    #[error("{path} is a file: give the folder that holds the <version>_<description>.sql files")]
    NotAFolder { path: String },
    #[error("{path}: {error}: see that this user may read it, and try again")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{path}: a folder can't be a script: rename it, or put its files beside the others")]
    FolderAsScript { path: String },
    #[error("{path}: a link to a file that is not there: mend the link, or remove it")]
    DanglingLink { path: String },
    #[error("{path}: a pipe, a socket or a device can't be a script: remove it, or put a file in its place")]
    NotAFile { path: String },
    #[error("{path}: the name is not UTF-8: rename the file")]
    NameNotUtf8 { path: String },
}
