use std::str::FromStr;

use super::BackupError;

/// How a dump is compressed, as pg_dump 16's `--compress` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    method: String,
    level: Option<u8>,
}

/// What was given is no compression.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a compression: write it as gzip:1, zstd:3, lz4 or none")]
pub struct InvalidCompression(String);

impl FromStr for Compression {
    type Err = InvalidCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidCompression(text.chars().take(40).collect());
        if let Ok(level @ 0..=9) = text.parse::<u8>() {
            return Ok(Self { method: "gzip".to_owned(), level: Some(level) });
        }
        let (method, level) = match text.split_once(':') {
            Some((method, level)) => (method, Some(level.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        match method {
            "gzip" | "lz4" | "zstd" => {}
            "none" if level.is_none() => {}
            _ => return Err(invalid()),
        }
        Ok(Self { method: method.to_owned(), level })
    }
}

impl Compression {
    /// The argument for a pg_dump of this major version; None: its own default.
    pub fn argument(&self, major: u32) -> Result<Option<String>, BackupError> {
        if major >= 16 {
            let level = self.level.map(|level| format!(":{level}")).unwrap_or_default();
            return Ok(Some(format!("--compress={}{level}", self.method)));
        }
        match (self.method.as_str(), self.level) {
            ("none", _) => Ok(Some("--compress=0".to_owned())),
            ("gzip", Some(level)) => Ok(Some(format!("--compress={level}"))),
            ("gzip", None) => Ok(None),
            (method, _) => Err(BackupError::Compression { method: method.to_owned(), major }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pg_dump_is_told_in_its_own_way() {
        let argument = |text: &str, major| text.parse::<Compression>().unwrap().argument(major).ok().flatten();
        assert_eq!(argument("gzip:1", 15).as_deref(), Some("--compress=1"));
        assert_eq!(argument("gzip:1", 16).as_deref(), Some("--compress=gzip:1"));
        assert_eq!(argument("6", 15).as_deref(), Some("--compress=6"));
        assert_eq!(argument("none", 15).as_deref(), Some("--compress=0"));
        assert_eq!(argument("gzip", 15), None);
        assert_eq!(argument("zstd:3", 17).as_deref(), Some("--compress=zstd:3"));
        assert!("zstd:3".parse::<Compression>().unwrap().argument(15).is_err());
    }

    #[test]
    fn what_pg_dump_would_not_read_is_refused() {
        for text in ["", "gzip:", "none:1", "brotli", "gzip:x", "10"] {
            assert!(text.parse::<Compression>().is_err(), "{text:?}");
        }
    }
}
