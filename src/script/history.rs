use std::collections::BTreeMap;
use std::sync::Arc;

use super::checksum::Hasher;
use super::content::{Content, Elsewhere};
use super::file_name::{self, FileName, Names};
use super::position::Cursor;
use super::rollback;
use super::unsupported::Unsupported;
use super::{Position, Script, Version};
use crate::api::Layout;

/// Every script of one source, in the order of their versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    scripts: BTreeMap<Version, Arc<Script>>,
    digest: String,
    ignored: Vec<String>,
    layout: Layout,
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
    #[error("{file}: it cannot be read: {why}: see that this user may read it, and try again")]
    Unreadable { file: String, why: String },
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
            | Self::Unreadable { file, .. }
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
    /// Whether rollback lines count; else they are comments like others.
    pub rollback_lines: bool,
    /// Marked, in the layout's own way, to run outside a transaction.
    pub no_transaction: bool,
    /// What Belay would run otherwise than the layout's own tool.
    pub unsupported: Option<Unsupported>,
    /// Where the same text can be had again, so that it need not be kept.
    pub elsewhere: Option<Elsewhere>,
}

/// The byte order mark.
const MARK: &str = "\u{FEFF}";

/// When so much is kept of the texts of a history, and of what was read from them, in bytes, of further ones is let go what can
/// be had again: [`Script::whole`] gets it when the script is run.
const KEPT: usize = 16 * 1024 * 1024;

impl History {
    /// Reads a source's files, given by name and content, in any order. Every fault is told, not
    /// only the first, in the order of the files' names.
    pub fn from_files<C: Into<Content>>(
        files: impl IntoIterator<Item = (String, C)>,
    ) -> Result<Self, Vec<InvalidFile>> {
        Self::from_files_but(files, |_| None)
    }

    /// The same. `unsupported` says what in a script's text is not to be run, besides what this Belay can't run.
    pub fn from_files_but<C: Into<Content>>(
        files: impl IntoIterator<Item = (String, C)>,
        unsupported: impl Fn(&str) -> Option<Unsupported>,
    ) -> Result<Self, Vec<InvalidFile>> {
        let mut files: Vec<(String, Content)> =
            files.into_iter().map(|(name, content)| (name, content.into())).collect();
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let names: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
        read_ahead(files, |files| Self::from_taken(files, &names, unsupported))
    }

    fn from_taken(
        files: impl Iterator<Item = (String, Taken)>,
        all: &[String],
        unsupported: impl Fn(&str) -> Option<Unsupported>,
    ) -> Result<Self, Vec<InvalidFile>> {
        // Few sources need them.
        let mut all_names: Option<Names> = None;
        let mut digest = Digest::default();
        let mut reader = Reader::default();
        let (mut names, mut downs) = (BTreeMap::<Version, String>::new(), BTreeMap::new());
        // A rollback comes before its script: `001_x.down.sql`, `001_x.sql`.
        for (name, taken) in files {
            let (parts, is_down) = match file_name::read(&name) {
                FileName::Script(parts) => (parts, false),
                FileName::Down(parts) => (parts, true),
                FileName::Ignored => {
                    reader.ignored.push(name);
                    continue;
                }
                FileName::Wrong { why, better } => {
                    let why = all_names.get_or_insert_with(|| Names::of(all)).advice(&why, &better);
                    reader.faults.push(InvalidFile::Name { file: name, why });
                    continue;
                }
            };
            let there =
                if is_down { downs.get(&parts.version).map(|(name, _)| name) } else { names.get(&parts.version) };
            if let Some(there) = there {
                reader.faults.push(same_version(name, there, &parts.version));
                continue;
            }
            let (bytes, elsewhere) = taken.unwrap_or_else(|why| {
                reader.faults.push(InvalidFile::Unreadable { file: name.clone(), why });
                (Vec::new(), None)
            });
            let mark = bytes.starts_with(MARK.as_bytes());
            let text = decode(&name, bytes).map_err(|fault| reader.faults.push(fault)).unwrap_or_default();
            if is_down {
                digest.add_text(&name, mark, &text);
                downs.insert(parts.version, (name, text));
                continue;
            }
            names.insert(parts.version.clone(), name.clone());
            let source = SourceFile {
                down: downs.get(&parts.version).cloned(),
                description: parts.spoken(),
                version: parts.version,
                file_name: name.clone(),
                unsupported: unsupported(&text),
                text,
                rollback_lines: true,
                no_transaction: false,
                elsewhere,
            };
            reader.script_beside(source, |text| digest.add_text(&name, mark, text));
        }
        reader.faults.extend(downs.iter().filter_map(|(version, (name, _))| misplaced(name, names.get(version))));
        reader.history(digest)
    }

    /// The history of these scripts. `digest` is of the files that count; `faults` are those that were met before, and are
    /// told with the others.
    pub fn from_sources(
        sources: Vec<SourceFile>,
        digest: Digest,
        ignored: Vec<String>,
        faults: Vec<InvalidFile>,
    ) -> Result<Self, Vec<InvalidFile>> {
        let mut reader = Reader { ignored, faults, ..Reader::default() };
        sources.into_iter().for_each(|source| reader.script(source));
        reader.history(digest)
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

    /// Whose files they are, as far as that is known: see [`History::in_layout`].
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The same, of files that were read in this layout.
    pub fn in_layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    pub fn len(&self) -> usize {
        self.scripts.len()
    }
}

/// A file's bytes, and where they can be had again; or why they could not be had.
type Taken = Result<(Vec<u8>, Option<Elsewhere>), String>;

/// Gives `then` the files in their order; those of a large folder are read on a thread of its own, a little ahead.
fn read_ahead<T>(
    files: Vec<(String, Content)>,
    then: impl FnOnce(&mut dyn Iterator<Item = (String, Taken)>) -> T,
) -> T {
    /// So many files are worth a thread.
    const MANY: usize = 500;
    /// A batch is sent with so many files, or as soon as it has so many bytes. At most two are there at a time.
    const BATCH: (usize, usize) = (64, 64 * 1024);
    let elsewhere = files.iter().filter(|(_, content)| matches!(content, Content::Elsewhere(_))).count();
    let taken = files.into_iter().map(|(name, content)| (name, content.take()));
    if elsewhere < MANY {
        return then(&mut { taken });
    }
    std::thread::scope(|scope| {
        let (sender, batches) = std::sync::mpsc::sync_channel(0);
        scope.spawn(move || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for file in taken {
                bytes += file.1.as_ref().map_or(0, |(bytes, _)| bytes.len());
                batch.push(file);
                if batch.len() >= BATCH.0 || bytes >= BATCH.1 {
                    bytes = 0;
                    if sender.send(std::mem::take(&mut batch)).is_err() {
                        return;
                    }
                }
            }
            let _ = sender.send(batch);
        });
        then(&mut batches.into_iter().flatten())
    })
}

/// Reads scripts one after the other.
#[derive(Default)]
struct Reader {
    scripts: BTreeMap<Version, Arc<Script>>,
    ignored: Vec<String>,
    faults: Vec<InvalidFile>,
    /// What is kept so far, in bytes.
    kept: usize,
}

impl Reader {
    fn script(&mut self, source: SourceFile) {
        self.script_beside(source, |_| {});
    }

    fn script_beside(&mut self, source: SourceFile, also: impl FnOnce(&str) + Send) {
        if let Some(there) = self.scripts.get(&source.version) {
            self.faults.push(same_version(source.file_name, &there.file_name, &there.version));
            return;
        }
        if source.rollback_lines
            && let Some((down, _)) = &source.down
            && let Some(position) = rollback::first_line(&source.text)
        {
            let (file, down) = (source.file_name.clone(), down.clone());
            self.faults.push(InvalidFile::TwoRollbacks { file, position, down });
        }
        let mut script = Script::read_beside(source, also);
        // One that is larger by itself is kept all the same: to read it twice would cost more.
        if self.kept > KEPT {
            script.let_go();
        }
        self.kept += script.size();
        self.scripts.insert(script.version.clone(), Arc::new(script));
    }

    fn history(mut self, digest: Digest) -> Result<History, Vec<InvalidFile>> {
        if !self.faults.is_empty() {
            self.faults.sort_by(|a, b| a.file_name().cmp(b.file_name()));
            return Err(self.faults);
        }
        Ok(History { scripts: self.scripts, digest: digest.end(), ignored: self.ignored, layout: Layout::default() })
    }
}

/// SHA-256 over the files that count, which come in the order of their names: name and content, each with its length before
/// it, of 8 bytes, the highest first.
#[derive(Default)]
pub struct Digest(Hasher);

impl Digest {
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.add_pieces(name, [bytes, b""]);
    }

    /// The same, of a text with or without a byte order mark before it.
    fn add_text(&mut self, name: &str, mark: bool, text: &str) {
        self.add_pieces(name, [if mark { MARK } else { "" }.as_bytes(), text.as_bytes()]);
    }

    fn add_pieces(&mut self, name: &str, content: [&[u8]; 2]) {
        self.0.add(&(name.len() as u64).to_be_bytes());
        self.0.add(name.as_bytes());
        self.0.add(&content.map(|piece| piece.len() as u64).iter().sum::<u64>().to_be_bytes());
        content.iter().for_each(|piece| self.0.add(piece));
    }

    fn end(self) -> String {
        format!("sha256:{}", self.0.end())
    }
}

fn same_version(file: String, other: &str, version: &Version) -> InvalidFile {
    if file == other {
        return InvalidFile::Twice { file };
    }
    InvalidFile::SameVersion { file, other: other.to_owned(), version: version.clone() }
}

/// A rollback file belongs to the script whose name it has.
fn misplaced(down: &str, script: Option<&String>) -> Option<InvalidFile> {
    let stem = down.strip_suffix(".down.sql").unwrap_or(down);
    let remedy = match script {
        Some(script) if script.strip_suffix(".sql") == Some(stem) => return None,
        Some(script) => {
            let stem = script.strip_suffix(".sql").unwrap_or(script);
            format!("the script of that version is {script}; call it {stem}.down.sql")
        }
        None => format!("add {stem}.sql, or remove it"),
    };
    Some(InvalidFile::DownWithoutScript { file: down.to_owned(), remedy })
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
    if text.starts_with(MARK) {
        text.drain(..MARK.len());
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
