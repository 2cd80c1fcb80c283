use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::SourceError;
use crate::script::{Content, Elsewhere};

/// The files of a local folder whose names end in `.sql`, in any case, with where their bytes are, in the order of their
/// names. Subfolders are not entered. Links are followed: a mounted ConfigMap is made of them. What is hidden by a dot is passed over, as
/// `*.sql` does: editors leave such files beside the one that they have open.
pub fn read(path: &Path) -> Result<Vec<(String, Content)>, SourceError> {
    let shown = || path.display().to_string();
    let unreadable = |path: &Path, error| SourceError::Unreadable { path: path.display().to_string(), error };
    let entries = std::fs::read_dir(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => SourceError::NoFolder { path: shown() },
        ErrorKind::NotADirectory => SourceError::NotAFolder { path: shown() },
        _ => unreadable(path, error),
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(path, error))?;
        let file = entry.path();
        if is_hidden(&entry.file_name()) || !file.as_os_str().to_ascii_lowercase().as_encoded_bytes().ends_with(b".sql")
        {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else {
            return Err(SourceError::NameNotUtf8 { path: file.display().to_string() });
        };
        // A link is followed, which costs a look at the file.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let (kind, path) = (look_at(&file)?.file_type(), file.display().to_string());
            match () {
                () if kind.is_file() => {}
                () if kind.is_dir() => return Err(SourceError::FolderAsScript { path }),
                () => return Err(SourceError::NotAFile { path }),
            }
        }
        let content = Elsewhere::new(move || std::fs::read(&file).map_err(|error| error.to_string()));
        files.push((name, Content::Elsewhere(content)));
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// What is at a path, or where the link there leads.
fn look_at(path: &Path) -> Result<Metadata, SourceError> {
    let shown = || path.display().to_string();
    std::fs::metadata(path).map_err(|error| match error.kind() == ErrorKind::NotFound && path.is_symlink() {
        true => SourceError::DanglingLink { path: shown() },
        false => SourceError::Unreadable { path: shown(), error },
    })
}

/// What a layout of another tool may care about, by the end of the name; the rest of a folder is not read.
const ENDINGS: &[&str] = &[".sql", ".toml", ".conf", ".go", ".rs", ".java"];

/// And by what stands before the end, whatever that is: golang-migrate runs such files.
const DIRECTIONS: &[&str] = &[".up.", ".down."];

/// How far a layout of another tool looks for its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// In a folder, and in those right below it.
    One,
    /// In all folders below.
    All,
}

/// The files of a local folder and of the folders below it, as `<folder>/<file>`, that a layout of another tool may care
/// about. Folders whose names begin with a dot are not entered, as a mounted ConfigMap has such, and such files are passed over.
///
/// # Errors
/// When the folder, or a file in it, cannot be read.
pub fn read_with_folders(path: &Path, depth: Depth) -> Result<Vec<(String, Content)>, SourceError> {
    let mut files = Vec::new();
    let mut folders = vec![(String::new(), path.to_owned())];
    // Links may lead round in circles.
    let mut entered: HashSet<_> = std::fs::metadata(path).map(identity).into_iter().collect();
    while let Some((before, folder)) = folders.pop() {
        for (name, entry) in entries(&folder)? {
            let hidden = name.starts_with('.');
            let below = std::fs::metadata(&entry).ok().filter(Metadata::is_dir);
            let full = format!("{before}{name}");
            match below.map(|below| entered.insert(identity(below))) {
                _ if hidden => {}
                None => files.extend(one(full, &entry)?),
                Some(first) if before.is_empty() || depth == Depth::All && first => {
                    folders.push((format!("{full}/"), entry));
                }
                Some(_) => {}
            }
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

/// What makes two folders the same.
fn identity(folder: Metadata) -> (u64, u64) {
    (folder.dev(), folder.ino())
}

/// What lies in a folder, by name.
fn entries(path: &Path) -> Result<Vec<(String, PathBuf)>, SourceError> {
    let shown = || path.display().to_string();
    let found = std::fs::read_dir(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => SourceError::NoFolder { path: shown() },
        ErrorKind::NotADirectory => SourceError::NotAFolder { path: shown() },
        _ => SourceError::Unreadable { path: shown(), error },
    })?;
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry.map_err(|error| SourceError::Unreadable { path: shown(), error })?;
        let path = entry.path();
        match entry.file_name().into_string() {
            Ok(name) => entries.push((name, path)),
            Err(_) => return Err(SourceError::NameNotUtf8 { path: path.display().to_string() }),
        }
    }
    Ok(entries)
}

/// A file, if a layout may care about it.
fn one(name: String, path: &Path) -> Result<Option<(String, Content)>, SourceError> {
    let lower = name.to_ascii_lowercase();
    let unreadable = |error| SourceError::Unreadable { path: path.display().to_string(), error };
    let matters = ENDINGS.iter().any(|ending| lower.ends_with(ending))
        || DIRECTIONS.iter().any(|direction| lower.contains(direction));
    if !matters || !look_at(path)?.is_file() {
        return Ok(None);
    }
    Ok(Some((name, Content::Here(std::fs::read(path).map_err(unreadable)?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes when the test ends.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("belay-folder-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_gives_what_ends_in_sql_and_nothing_else() {
        let folder = Folder::new("some");
        folder.write("002_b.sql", "b");
        folder.write("001_a.sql", "a");
        folder.write("003_c.SQL", "c");
        folder.write("README.md", "read me");
        std::fs::create_dir(folder.0.join("old")).unwrap();
        let names: Vec<_> = read(&folder.0).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["001_a.sql", "002_b.sql", "003_c.SQL"], "a wrong ending is History's to refuse");
    }

    #[test]
    fn folders_below_are_entered_as_far_as_the_layout_looks_and_hidden_ones_are_not() {
        let folder = Folder::new("deep");
        for below in ["2_b", "2_b/deeper", "..data", "node_modules"] {
            std::fs::create_dir(folder.0.join(below)).unwrap();
        }
        for name in ["1_a.sql", "2_b/up.sql", "2_b/metadata.toml", "2_b/deeper/up.sql", "..data/up.sql", "README.md"] {
            folder.write(name, "x");
        }
        folder.write("3_c.up.sql.bak", "x");
        folder.write("node_modules/a.js", "x");
        for circle in ["2_b/deeper/again", "2_b/again"] {
            std::os::unix::fs::symlink(&folder.0, folder.0.join(circle)).unwrap();
        }
        let names = |depth| {
            let files = read_with_folders(&folder.0, depth).unwrap();
            files.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(Depth::One), ["1_a.sql", "2_b/metadata.toml", "2_b/up.sql", "3_c.up.sql.bak"]);
        assert_eq!(
            names(Depth::All),
            ["1_a.sql", "2_b/deeper/up.sql", "2_b/metadata.toml", "2_b/up.sql", "3_c.up.sql.bak"]
        );
    }

    #[test]
    fn links_are_followed_as_in_a_mounted_config_map() {
        let folder = Folder::new("links");
        std::fs::create_dir(folder.0.join("..2026")).unwrap();
        std::fs::write(folder.0.join("..2026/001_a.sql"), "a").unwrap();
        std::os::unix::fs::symlink("..2026", folder.0.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/001_a.sql", folder.0.join("001_a.sql")).unwrap();
        let files = read(&folder.0).unwrap().into_iter().map(|(name, content)| (name, content.take().unwrap().0));
        assert_eq!(files.collect::<Vec<_>>(), [("001_a.sql".to_owned(), b"a".to_vec())]);
    }

    #[test]
    fn what_is_no_folder_or_no_file_is_named() {
        let folder = Folder::new("wrong");
        folder.write("a.txt", "");
        assert!(matches!(read(&folder.0.join("none")), Err(SourceError::NoFolder { .. })));
        assert!(matches!(read(&folder.0.join("a.txt")), Err(SourceError::NotAFolder { .. })));
        std::fs::create_dir(folder.0.join("001_a.sql")).unwrap();
        let error = read(&folder.0).unwrap_err();
        assert!(matches!(error, SourceError::FolderAsScript { .. }));
        assert!(error.to_string().contains("001_a.sql"));
    }

    #[test]
    fn a_link_to_nothing_and_a_socket_are_told_as_what_they_are_and_hidden_files_are_passed_over() {
        let folder = Folder::new("odd");
        folder.write("001_a.sql", "a");
        folder.write("._001_a.sql", "an attribute");
        std::os::unix::fs::symlink("anna@host.1234", folder.0.join(".#001_a.sql")).unwrap();
        assert_eq!(read(&folder.0).unwrap().len(), 1);
        assert_eq!(read_with_folders(&folder.0, Depth::All).unwrap().len(), 1);

        std::os::unix::fs::symlink("nowhere", folder.0.join("002_b.sql")).unwrap();
        assert!(matches!(read(&folder.0), Err(SourceError::DanglingLink { .. })));
        assert!(matches!(read_with_folders(&folder.0, Depth::All), Err(SourceError::DanglingLink { .. })));
        std::fs::remove_file(folder.0.join("002_b.sql")).unwrap();

        let _socket = std::os::unix::net::UnixListener::bind(folder.0.join("002_b.sql")).unwrap();
        assert!(matches!(read(&folder.0), Err(SourceError::NotAFile { .. })));
    }
}
