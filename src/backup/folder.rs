use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{BackupError, Record};

/// A folder of a volume, and the files of one backup in it: `<name>.dump`, its record `<name>.dump.json`, and
/// `<name>.dump.partial` while it is being written.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    location: String,
}

/// A dump in the making. What was not kept goes when this goes.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    kept: bool,
    /// Holds its lock, also while it is read back.
    file: File,
}

impl Folder {
    /// The files of the backup at `location`, relative to the volume's root.
    pub fn new(root: &Path, location: &str) -> Result<Self, BackupError> {
        let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_)));
        if location.is_empty() || !inside {
            return Err(BackupError::Path(location.to_owned()));
        }
        Ok(Self { root: root.to_owned(), location: location.to_owned() })
    }

    /// Where a backup of this name is in the folder `path` of a volume.
    pub fn location(path: &str, name: &str) -> String {
        match path.trim_matches('/') {
            "" => format!("{name}.dump"),
            path => format!("{path}/{name}.dump"),
        }
    }

    /// The dump.
    pub fn dump(&self) -> PathBuf {
        self.root.join(&self.location)
    }

    /// What is known of the dump, beside it: a dump without one was not verified.
    pub fn record(&self) -> PathBuf {
        self.with(".json")
    }

    fn partial(&self) -> PathBuf {
        self.with(".partial")
    }

    fn with(&self, end: &str) -> PathBuf {
        self.root.join(format!("{}{end}", self.location))
    }

    /// What stands beside the dump; None: there is no finished backup here.
    pub fn read_record(&self) -> Result<Option<Record>, BackupError> {
        match fs::read(self.record()) {
            Ok(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|error| self.file_error(&self.record(), io::Error::new(io::ErrorKind::InvalidData, error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.file_error(&self.record(), error)),
        }
    }

    /// A file to write the dump to. What a killed predecessor left there is overwritten; what a living one is writing is not.
    pub fn begin(&self) -> Result<(Partial, File), BackupError> {
        let path = self.partial();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| self.file_error(parent, error))?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| self.file_error(&path, error))?;
        // Not every network file system has locks: then the read-back is what finds two writers out.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(BackupError::InUse { path });
        }
        let partial = Partial { path: path.clone(), kept: false, file };
        let emptied = partial.file.set_len(0).and_then(|()| partial.file.try_clone());
        let file = emptied.map_err(|error| self.file_error(&path, error))?;
        Ok((partial, file))
    }

    /// Makes a partial file that was written, synced and read back the dump.
    pub fn keep(&self, mut partial: Partial) -> Result<(), BackupError> {
        let failed = |error| self.file_error(&self.dump(), error);
        fs::rename(&partial.path, self.dump()).map_err(failed)?;
        partial.path = self.dump();
        self.sync().map_err(failed)?;
        partial.kept = true;
        Ok(())
    }

    /// Writes the record beside the dump: from now on it is a backup.
    pub fn write_record(&self, record: &Record) -> Result<(), BackupError> {
        let failed = |error| self.file_error(&self.record(), error);
        let json = serde_json::to_vec_pretty(record).map_err(|error| failed(io::Error::other(error)))?;
        let partial = self.with(".json.partial");
        let write = || -> io::Result<()> {
            fs::write(&partial, &json)?;
            File::open(&partial)?.sync_all()?;
            fs::rename(&partial, self.record())?;
            self.sync()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&partial);
            failed(error)
        })
    }

    /// Removes all files of this backup. Those that are not there are no error.
    pub fn remove(&self) -> Result<(), BackupError> {
        // The record first: what is left after a crash in between is no backup any more.
        for path in [self.record(), self.with(".json.partial"), self.dump(), self.partial()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.file_error(&path, error)),
                _ => {}
            }
        }
        match self.sync() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.file_error(&self.dump(), error)),
            _ => Ok(()),
        }
    }

    /// Renames and removals are durable only when their folder is synced.
    fn sync(&self) -> io::Result<()> {
        let dump = self.dump();
        File::open(dump.parent().unwrap_or(&self.root))?.sync_all()
    }

    /// An error of this volume, in words that tell what to do.
    pub fn file_error(&self, path: &Path, source: io::Error) -> BackupError {
        use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let path = path.to_owned();
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => {
                let bytes = fs::metadata(self.partial()).map(|file| file.len()).unwrap_or_default();
                let volume = rustix::fs::statvfs(&self.root);
                let free = volume.map(|volume| volume.f_bavail * volume.f_frsize).unwrap_or_default();
                BackupError::VolumeFull { path, bytes, free, source }
            }
            PermissionDenied | ReadOnlyFilesystem => {
                BackupError::NotWritable { path, user: rustix::process::geteuid().as_raw(), source }
            }
            _ => BackupError::File { path, source },
        }
    }
}

impl Partial {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (PathBuf, Folder) {
        let root = std::env::temp_dir().join(format!("belay-test-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&root).unwrap();
        let folder = Folder::new(&root, &Folder::location("a/b", "x")).unwrap();
        (root, folder)
    }

    #[test]
    fn a_location_cannot_leave_the_volume() {
        for location in ["", "/etc/passwd", "../x", "a/../../x", "a/./../../x"] {
            assert!(Folder::new(Path::new("/v"), location).is_err(), "{location}");
        }
        assert_eq!(Folder::location("", "x"), "x.dump");
        assert_eq!(Folder::location("a/b", "x"), "a/b/x.dump");
    }

    #[test]
    fn what_is_not_kept_is_removed_and_what_is_kept_has_its_name() {
        let (root, folder) = folder();
        let (partial, _) = folder.begin().unwrap();
        drop(partial);
        assert!(!folder.partial().exists());
        let (partial, _) = folder.begin().unwrap();
        folder.keep(partial).unwrap();
        assert!(folder.dump().exists() && !folder.partial().exists());
        folder.remove().unwrap();
        assert!(!folder.dump().exists());
        folder.remove().unwrap();
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn two_processes_never_write_one_backup() {
        let (root, folder) = folder();
        let (_partial, _file) = folder.begin().unwrap();
        assert!(matches!(folder.begin(), Err(BackupError::InUse { .. })));
        assert!(folder.partial().exists(), "the other's file stays");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_killed_predecessors_rest_is_overwritten() {
        let (root, folder) = folder();
        fs::create_dir_all(folder.partial().parent().unwrap()).unwrap();
        fs::write(folder.partial(), "rest").unwrap();
        let (partial, file) = folder.begin().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        drop(partial);
        fs::remove_dir_all(root).unwrap();
    }
}
