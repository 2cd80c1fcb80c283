use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::file_name::{self, FileName, Parts};
use super::position::Cursor;
use super::rollback;
use super::unsupported::Unsupported;
use super::{Checksum, Position, Script, Version};

/// Every script of one source, in the order of their versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    scripts: BTreeMap<Version, Arc<Script>>,
    digest: String,
    ignored: Vec<String>,
}

/// A file that keeps a whole source from being read. Nothing is run while there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFile {
    #[error("{file}: a script is called <version>_<description>.sql, such as 001_initial_schema.sql: {why}")]
    Name { file: String, why: String },
    #[error("{file} and {other} are both version {}: give one of them another version", version.number())]
    SameVersion { file: String, other: String, version: Version },
    #[error("{file} is there twice: keep one of them")]
    Twice { file: String },
    #[error("{file}, line {line} (byte {offset}): not UTF-8{}: save the file as UTF-8", if *utf16 { " but UTF-16" } else { "" })]
    NotUtf8 { file: String, line: u32, offset: usize, utf16: bool },
    #[error("{file}, {position}: a NUL character, which PostgreSQL takes nowhere: remove it")]
    Nul { file: String, position: Position },
    #[error("{file}, {position}: a ROLLBACK line beside {down}: keep one of the two")]
    TwoRollbacks { file: String, position: Position, down: String },
    #[error("{file}: a rollback without its script: {remedy}")]
    DownWithoutScript { file: String, remedy: String },
    #[error("{file}: in the layout {layout} a script is called {form}: {why}")]
    LayoutName { file: String, layout: &'static str, form: &'static str, why: String },
    #[error("{file}, line {line}: {why}")]
    Section { file: String, line: u32, why: String },
    #[error("{}", unrecognised(file, fits))]
    Unrecognised { file: String, fits: Vec<&'static str> },
}

impl InvalidFile {
    /// The file that is wrong.
    pub fn file_name(&self) -> &str {
        match self {
            Self::Name { file, .. }
            | Self::SameVersion { file, .. }
            | Self::Twice { file }
            | Self::NotUtf8 { file, .. }
            | Self::Nul { file, .. }
            | Self::TwoRollbacks { file, .. }
            | Self::DownWithoutScript { file, .. }
            | Self::LayoutName { file, .. }
            | Self::Section { file, .. }
            | Self::Unrecognised { file, .. } => file,
        }
    }
}

/// One script of a source, whatever the layout of its files, before its text is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceFile {
    pub version: Version,
    /// As people read it.
    pub description: String,
    /// As the user knows it; with the folder, where the folder names the script.
    pub file_name: String,
    /// What is run, at the lines and columns that it has in the file.
    pub text: String,
    /// The file that holds the rollback, and its text; it may be the script's own file.
    pub down: Option<(String, String)>,
    /// Marked, in the layout's own way, to run outside a transaction.
    pub no_transaction: bool,
    /// What Belay would run otherwise than the layout's own tool.
    pub unsupported: Option<Unsupported>,
}

/// A file that counts, before it is read.
struct File {
    name: String,
    parts: Parts,
    text: String,
}

impl History {
    /// Reads a source's files, given by name and content, in any order. Every fault is told, not
    /// only the first, in the order of the files' names.
    pub fn from_files(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, Vec<InvalidFile>> {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort();
        let counts = |name: &str| matches!(file_name::read(name), FileName::Script(_) | FileName::Down(_));
        let counting = files.iter().filter(|(name, _)| counts(name));
        let digest = digest(counting.map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
        let mut faults = Vec::new();
        let mut ignored = Vec::new();
        let (mut scripts, mut downs) = (BTreeMap::new(), BTreeMap::new());
        for (name, bytes) in files {
            let (parts, kind) = match file_name::read(&name) {
                FileName::Script(parts) => (parts, &mut scripts),
                FileName::Down(parts) => (parts, &mut downs),
                FileName::Ignored => {
                    ignored.push(name);
                    continue;
                }
                FileName::Wrong(why) => {
                    faults.push(InvalidFile::Name { file: name, why });
                    continue;
                }
            };
            match kind.entry(parts.version.clone()) {
                Entry::Vacant(place) => {
                    let text = decode(&name, bytes).map_err(|fault| faults.push(fault)).ok();
                    place.insert(File { name, parts, text: text.unwrap_or_default() });
                }
                Entry::Occupied(there) => {
                    let there: &File = there.get();
                    faults.push(same_version(name, &there.name, &there.parts.version));
                }
            }
        }
        faults.extend(downs.values().filter_map(|down| misplaced(down, &scripts)));
        let sources = scripts.into_values().map(|File { name, parts, text }| SourceFile {
            down: downs.get(&parts.version).map(|down| (down.name.clone(), down.text.clone())),
            description: parts.spoken(),
            version: parts.version,
            file_name: name,
            text,
            no_transaction: false,
            unsupported: None,
        });
        Self::from_sources(sources.collect(), digest, ignored, faults)
    }

    /// The history of these scripts. `digest` is as [`digest`] makes it of the files that count; `faults` are those
    /// that were met before, and are told with the others.
    pub fn from_sources(
        sources: Vec<SourceFile>,
        digest: String,
        ignored: Vec<String>,
        mut faults: Vec<InvalidFile>,
    ) -> Result<Self, Vec<InvalidFile>> {
        let mut scripts: BTreeMap<Version, Arc<Script>> = BTreeMap::new();
        for source in sources {
            if let Some(there) = scripts.get(&source.version) {
                faults.push(same_version(source.file_name, &there.file_name, &there.version));
                continue;
            }
            if let Some((down, _)) = &source.down
                && let Some(position) = rollback::first_line(&source.text)
            {
                let (file, down) = (source.file_name.clone(), down.clone());
                faults.push(InvalidFile::TwoRollbacks { file, position, down });
            }
            scripts.insert(source.version.clone(), Arc::new(Script::read(source)));
        }
        if !faults.is_empty() {
            faults.sort_by(|a, b| a.file_name().cmp(b.file_name()));
            return Err(faults);
        }
        Ok(Self { scripts, digest, ignored })
    }

    /// The scripts in the order of their versions.
    pub fn scripts(&self) -> impl DoubleEndedIterator<Item = &Arc<Script>> + ExactSizeIterator {
        self.scripts.values()
    }

    pub fn get(&self, version: &Version) -> Option<&Arc<Script>> {
        self.scripts.get(version)
    }

    pub fn latest(&self) -> Option<&Arc<Script>> {
        self.scripts.values().next_back()
    }

    /// `sha256:` over the names and bytes of every file that counts, whatever order they came in.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The files that were given and do not count, by name.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    pub fn len(&self) -> usize {
        self.scripts.len()
    }
}

/// SHA-256 over the files that count, in the order of their names: name and content, each with its
/// length before it, of 8 bytes, the highest first.
pub fn digest<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let files: Vec<_> = files.into_iter().collect();
    let lengths: Vec<_> = files
        .iter()
        .map(|(name, bytes)| [name.len(), bytes.len()].map(|length| (length as u64).to_be_bytes()))
        .collect();
    let pieces = files.iter().zip(&lengths).flat_map(|((name, bytes), [of_name, of_bytes])| {
        [of_name.as_slice(), name.as_bytes(), of_bytes.as_slice(), *bytes]
    });
    format!("sha256:{}", Checksum::of(pieces))
}

fn same_version(file: String, other: &str, version: &Version) -> InvalidFile {
    if file == other {
        return InvalidFile::Twice { file };
    }
    InvalidFile::SameVersion { file, other: other.to_owned(), version: version.clone() }
}

/// A rollback file belongs to the script whose name it has.
fn misplaced(down: &File, scripts: &BTreeMap<Version, File>) -> Option<InvalidFile> {
    let stem = down.name.strip_suffix(".down.sql").unwrap_or(&down.name);
    let remedy = match scripts.get(&down.parts.version) {
        Some(script) if script.name.strip_suffix(".sql") == Some(stem) => return None,
        Some(script) => {
            let stem = script.name.strip_suffix(".sql").unwrap_or(&script.name);
            format!("the script of that version is {}; call it {stem}.down.sql", script.name)
        }
        None => format!("add {stem}.sql, or remove it"),
    };
    Some(InvalidFile::DownWithoutScript { file: down.name.clone(), remedy })
}

/// The text of a file, without a byte order mark.
///
/// # Errors
/// When it is not UTF-8, or holds a NUL character.
pub fn decode(file: &str, bytes: Vec<u8>) -> Result<String, InvalidFile> {
    let file = || file.to_owned();
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..offset].iter().filter(|b| **b == b'\n').count() as u32 + 1;
        let utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
        InvalidFile::NotUtf8 { file: file(), line, offset, utf16 }
    })?;
    if text.starts_with('\u{FEFF}') {
        text.drain(..'\u{FEFF}'.len_utf8());
    }
    match text.find('\0') {
        Some(at) => Err(InvalidFile::Nul { file: file(), position: Cursor::new(&text).position(at) }),
        None => Ok(text),
    }
}

/// Why the layout cannot be told from the files.
fn unrecognised(file: &str, fits: &[&str]) -> String {
    let found = match fits {
        [] => format!("no layout fits {file} and the files beside it"),
        fits => format!("the layouts {} fit {file} and the files beside it", fits.join(" and ")),
    };
    format!("{found}: name one (spec.source.layout, --layout)")
}
