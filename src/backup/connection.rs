use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::postgres::{ClientCertificate, LibpqFiles, Overrides, Target, TargetError, TlsFiles, system_roots};

use super::BackupError;

/// Where the connection comes from.
#[derive(Clone, Debug)]
pub struct Connection {
    /// A folder with the Secret's keys as files, as a Pod mounts it; None: a URI, or what psql would take.
    pub secret: Option<PathBuf>,
    /// A connection URI, for people at a terminal.
    pub url: Option<String>,
    /// A file with the certificate authority of the server, in PEM.
    pub ca: Option<PathBuf>,
    /// A folder with tls.crt and tls.key, as a Pod mounts a kubernetes.io/tls Secret: what the server is shown.
    pub client_certificate: Option<PathBuf>,
    /// What the Database's spec says in place of its Secret.
    pub overrides: Overrides,
    /// SET ROLE after connecting.
    pub role: Option<String>,
    /// The schema in which the ledger lives.
    pub history_schema: String,
}

impl Connection {
    /// The target, made as the operator makes it.
    pub fn target(&self) -> Result<Target, BackupError> {
        let ca = self.ca.as_deref().map(read).transpose()?;
        let client_certificate = self.client_certificate()?;
        let mut target = match &self.secret {
            Some(folder) => {
                let overrides = Overrides { ca, client_certificate, ..self.overrides.clone() };
                Target::from_secret(&keys(folder)?, &overrides)?
            }
            None => {
                let mut target = Target::from_environment(self.url.as_deref())?;
                if let Some(ca) = ca {
                    target = target.with_ca(&ca);
                }
                match client_certificate {
                    Some(certificate) => target.with_client_certificate(certificate),
                    None => target,
                }
            }
        };
        target.role = self.role.clone();
        target.history_schema = self.history_schema.clone();
        Ok(target)
    }

    fn client_certificate(&self) -> Result<Option<ClientCertificate>, BackupError> {
        let Some(folder) = &self.client_certificate else { return Ok(None) };
        let file = |name| read(&folder.join(name));
        let certificate = ClientCertificate::new(file(ClientCertificate::CERTIFICATE)?, file(ClientCertificate::KEY)?);
        Ok(Some(certificate.map_err(TargetError::from)?))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BackupError> {
    fs::read(path).map_err(|source| BackupError::Connection { path: path.to_owned(), source })
}

/// The Secret's keys: the files of the folder that Kubernetes projects. Its bookkeeping starts with two dots.
fn keys(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, BackupError> {
    let unreadable = |source| BackupError::Connection { path: folder.to_owned(), source };
    let mut keys = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with("..") && entry.path().is_file() {
            keys.insert(name, read(&entry.path())?);
        }
    }
    Ok(keys)
}

/// The connection as files for PostgreSQL's own programs, in a folder that should be in memory.
///
/// The folder goes with the value if it was made for it.
#[derive(Debug)]
pub struct Credentials {
    folder: PathBuf,
    remove: bool,
}

/// Who may read the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Their owner alone.
    Owner,
    /// Every user that can see the folder, which is mounted into one Pod. The password is then in the service file too: libpq
    /// takes no password file that belongs to somebody else. A client certificate's key is their owner's alone all the same.
    Pod,
}

impl Credentials {
    /// Writes the files. `folder`: None for a new one of its own among the temporary files.
    pub fn write(
        target: &Target,
        authority: Option<&Path>,
        folder: Option<&Path>,
        readers: Readers,
    ) -> Result<Self, BackupError> {
        let remove = folder.is_none();
        let folder =
            folder.map_or_else(|| std::env::temp_dir().join(format!("belay-{}", uuid::Uuid::new_v4())), Path::to_owned);
        let failed = |source| BackupError::Credentials { path: folder.clone(), source };
        if remove {
            fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        }
        let credentials = Self { folder: folder.clone(), remove };
        let mode = if readers == Readers::Pod { 0o644 } else { 0o600 };
        let mut tls = TlsFiles::default();
        if target.ssl_mode().verifies() {
            let pem = roots(target, authority)?;
            replace(&credentials.roots(), &pem, mode).map_err(failed)?;
            tls.roots = Some(credentials.roots());
        }
        if let Some(shown) = target.client_certificate() {
            let (certificate, key) = (folder.join("client.crt"), folder.join("client.key"));
            replace(&certificate, shown.certificate(), mode).map_err(failed)?;
            // libpq takes no key that others can read, and knows no other way to be given one.
            replace(&key, shown.key(), 0o600).map_err(failed)?;
            tls.client = Some((certificate, key));
        }
        let files = target.libpq(&tls, readers == Readers::Pod)?;
        replace(&credentials.service_file(), files.service.as_bytes(), mode).map_err(failed)?;
        replace(&credentials.password_file(), files.passwords.as_bytes(), 0o600).map_err(failed)?;
        Ok(credentials)
    }

    /// The environment in which libpq finds them.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("PGSERVICEFILE", self.service_file()),
            ("PGPASSFILE", self.password_file()),
            ("PGSERVICE", PathBuf::from(LibpqFiles::SERVICE)),
        ]
    }

    fn service_file(&self) -> PathBuf {
        self.folder.join(Self::SERVICE_FILE)
    }

    fn password_file(&self) -> PathBuf {
        self.folder.join(Self::PASSWORD_FILE)
    }

    fn roots(&self) -> PathBuf {
        self.folder.join("roots.pem")
    }

    /// The service file's name in the folder.
    pub const SERVICE_FILE: &str = "pg_service.conf";
    /// The password file's name in the folder.
    pub const PASSWORD_FILE: &str = "pgpass";
}

impl Drop for Credentials {
    fn drop(&mut self) {
        if self.remove {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The authorities that sqlx trusts for this target, in one file: the given one beside the system's, so that what the
/// operator can reach pg_dump can too.
fn roots(target: &Target, authority: Option<&Path>) -> Result<Vec<u8>, BackupError> {
    let mut pem = Vec::new();
    let given = authority.or(target.ssl_root_cert());
    for path in given.map(Path::to_owned).into_iter().chain(system_roots()) {
        pem.append(&mut read(&path)?);
        pem.push(b'\n');
    }
    if pem.is_empty() {
        return Err(BackupError::NoRoots { mode: target.ssl_mode().name() });
    }
    Ok(pem)
}

/// Writes a file anew, so that its mode is this one whatever stood there.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the umask is.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_files_are_their_owners_alone_and_go_with_the_value() {
        let target = Target::from_url("postgres://me:hunter2@db/shop?sslmode=disable").unwrap();
        let credentials = Credentials::write(&target, None, None, Readers::Owner).unwrap();
        assert_eq!((mode(&credentials.service_file()), mode(&credentials.password_file())), (0o600, 0o600));
        assert!(!fs::read_to_string(credentials.service_file()).unwrap().contains("hunter2"));
        let folder = credentials.folder.clone();
        assert_eq!(mode(&folder), 0o700);
        drop(credentials);
        assert!(!folder.exists());
    }

    #[test]
    fn a_pods_other_users_find_the_password_in_the_service_file() {
        let folder = std::env::temp_dir().join(format!("belay-test-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let target = Target::from_url("postgres://me:hunter2@db/shop?sslmode=disable").unwrap();
        for _ in 0..2 {
            let credentials = Credentials::write(&target, None, Some(&folder), Readers::Pod).unwrap();
            assert_eq!((mode(&credentials.service_file()), mode(&credentials.password_file())), (0o644, 0o600));
            assert!(fs::read_to_string(credentials.service_file()).unwrap().contains("password=hunter2"));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_secrets_keys_are_the_files_of_its_folder() {
        let folder = std::env::temp_dir().join(format!("belay-test-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(folder.join("..2026_data")).unwrap();
        fs::write(folder.join("..2026_data/host"), "db").unwrap();
        std::os::unix::fs::symlink("..2026_data", folder.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/host", folder.join("host")).unwrap();
        assert_eq!(keys(&folder).unwrap(), BTreeMap::from([("host".to_owned(), b"db".to_vec())]));
        fs::remove_dir_all(folder).unwrap();
    }
}
