//! Where a history of scripts comes from: ConfigMaps, inline, a local folder → names and bytes.
//!
//! What the files mean is [`crate::script`]'s to say; how another tool's files are told apart, [`layout`]'s.

pub mod folder;
pub mod kubernetes;
pub mod layout;

/// A source that could not be read. What is in its files is not judged here.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("folder {path}: there is none: give the folder that holds the <version>_<description>.sql files")]
    NoFolder { path: String },
    #[error("{path} is a file: give the folder that holds the <version>_<description>.sql files")]
    NotAFolder { path: String },
    #[error("{path}: {error}: see that this user may read it, and try again")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{path}: a folder can't be a script: rename it, or put its files beside the others")]
    NotAFile { path: String },
    #[error("{path}: the name is not UTF-8: rename the file")]
    NameNotUtf8 { path: String },
}
