use std::path::{Path, PathBuf};

use super::BackupError;

/// PostgreSQL's client programs, a folder for each major version: `<root>/<major>/bin/pg_dump`.
#[derive(Clone, Debug)]
pub struct Clients {
    root: PathBuf,
}

/// The programs of one major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// 15, 17, …
    pub major: u32,
    bin: PathBuf,
}

impl Clients {
    /// Where Debian's packages put them.
    pub const USUAL_ROOT: &str = "/usr/lib/postgresql";

    /// The programs below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The programs for a server of this major version.
    pub fn for_server(&self, server: u32) -> Result<Client, BackupError> {
        let majors = self.majors();
        let major = choose(&majors, server).ok_or_else(|| BackupError::NoClient {
            server,
            available: majors,
            root: self.root.clone(),
        })?;
        Ok(self.client(major))
    }

    /// The newest programs there are: whatever an archive's age, they can read it.
    pub fn newest(&self) -> Result<Client, BackupError> {
        let majors = self.majors();
        let newest = majors.last().copied();
        newest.map(|major| self.client(major)).ok_or_else(|| BackupError::NoClient {
            server: 0,
            available: majors,
            root: self.root.clone(),
        })
    }

    fn client(&self, major: u32) -> Client {
        Client { major, bin: self.root.join(major.to_string()).join("bin") }
    }

    /// In ascending order.
    fn majors(&self) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let mut majors: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|major| self.client(*major).pg_dump().is_file())
            .collect();
        majors.sort_unstable();
        majors
    }
}

impl Client {
    pub fn pg_dump(&self) -> PathBuf {
        self.bin.join("pg_dump")
    }

    pub fn pg_restore(&self) -> PathBuf {
        self.bin.join("pg_restore")
    }

    /// The folder that the programs are in.
    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

/// The server's own major version, else the lowest newer one: pg_dump reads older servers, never newer ones.
fn choose(majors: &[u32], server: u32) -> Option<u32> {
    majors.iter().copied().filter(|major| *major >= server).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_dumped_by_its_own_major_or_the_next_newer_one_never_by_an_older_one() {
        for (majors, server, chosen) in [
            (&[15, 17][..], 15, Some(15)),
            (&[15, 17], 17, Some(17)),
            (&[15, 17], 14, Some(15)),
            (&[15, 17], 16, Some(17)),
            (&[15, 17], 18, None),
            (&[], 15, None),
        ] {
            assert_eq!(choose(majors, server), chosen, "{majors:?} for {server}");
        }
    }

    #[test]
    fn the_message_says_what_the_image_has_and_what_the_server_is() {
        let error = BackupError::NoClient { server: 18, available: vec![15, 17], root: "/x".into() }.to_string();
        assert!(error.contains("no client for the server: there are pg_dump 15 and 17, the server is 18"), "{error}");
    }
}
