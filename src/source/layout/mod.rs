//! The files of another tool's folder → a history of scripts, without a file renamed. One file a layout.
//!
//! Pure: names and bytes come in. What a layout says by names, sections and settings is read here, as its own tool reads
//! it; what the SQL says, in [`crate::script`]. What a tool would send otherwise than it stands in the file is refused,
//! never guessed.

mod auto;
mod belay;
mod dbmate;
mod diesel;
mod flyway;
mod golang_migrate;
mod goose;
mod prisma;
mod refinery;
mod sections;
mod sqlx;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::folder::Depth;
use crate::api::Layout;
use crate::script::{
    Content, Digest, History, InvalidFile, SourceFile, Unsupported, Version, decode, statement_ranges,
};

/// What a file is by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// A script: its version as the name has it, in digits, with dots between where the layout has parts; and its
    /// description.
    Script { version: String, description: String },
    /// The rollback of the script with this version.
    Down { version: String },
    /// Settings of the script that this file is.
    Settings { script: String },
    /// Nothing of the layout's.
    Ignored,
    /// Meant to be a script, and named wrongly; or a thing that Belay has no like of.
    Wrong(String),
}

/// What of a script's text is run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sections {
    /// Where the part that is run ends.
    end: usize,
    /// The rollback, when it is in the same file.
    down: Option<String>,
    no_transaction: bool,
    unsupported: Option<Unsupported>,
}

/// What is wrong in a file, and on which line.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    line: u32,
    why: String,
}

/// How a layout's files are read.
struct Rules {
    /// How a script is called, for messages.
    form: &'static str,
    name: fn(&str) -> Named,
    sections: fn(&str) -> Result<Sections, Fault>,
    /// Whether settings say that the script runs outside a transaction.
    settings: fn(&str) -> Result<bool, Fault>,
}

/// The rules of a layout; none for Belay's own, and for what is still to be recognised.
fn rules(layout: Layout) -> Option<&'static Rules> {
    match layout {
        Layout::Belay | Layout::Auto => None,
        Layout::GolangMigrate => Some(&golang_migrate::RULES),
        Layout::Goose => Some(&goose::RULES),
        Layout::Dbmate => Some(&dbmate::RULES),
        Layout::Diesel => Some(&diesel::RULES),
        Layout::Sqlx => Some(&sqlx::RULES),
        Layout::Refinery => Some(&refinery::RULES),
        Layout::Flyway => Some(&flyway::RULES),
        Layout::Prisma => Some(&prisma::RULES),
    }
}

/// How far the tool looks for its files in a local folder.
pub fn depth(layout: Layout) -> Depth {
    match layout {
        // What is to be recognised may be one of these.
        Layout::Refinery | Layout::Flyway | Layout::Auto => Depth::All,
        _ => Depth::One,
    }
}

/// Whether the tool sends a script as one message. If there are several statements in it, the server runs them in one
/// transaction, whatever the script's marks say.
fn sends_whole(layout: Layout) -> bool {
    !matches!(layout, Layout::Goose | Layout::Flyway)
}

/// Whether the tool looks for files as deep as this one is.
fn reaches(layout: Layout, name: &str) -> bool {
    depth(layout) == Depth::All || name.matches('/').count() < 2
}

/// Reads a source's files, given by name and content, in any order. A file in a folder of its own is called
/// `<folder>/<file>`, or, where names cannot hold a slash, `<folder>__<file>`. In Belay's own layout, texts beyond the first few
/// are not kept when they can be had again.
///
/// # Errors
/// Every fault is told, in the order of the files' names.
pub fn read<C: Into<Content>>(
    layout: Layout,
    files: impl IntoIterator<Item = (String, C)>,
) -> Result<History, Vec<InvalidFile>> {
    if layout == Layout::Belay {
        return History::from_files_but(files, belay::marked_by_another_tool);
    }
    let mut files = loaded(files)?;
    let layout = match layout {
        Layout::Auto => auto::recognise(&files).map_err(|fault| vec![fault])?,
        named => named,
    };
    files.retain(|(name, _)| reaches(layout, name));
    let history = match rules(layout) {
        None => History::from_files_but(files, belay::marked_by_another_tool),
        Some(rules) => foreign(layout, rules, files),
    };
    history.map(|history| history.in_layout(layout))
}

fn loaded<C: Into<Content>>(
    files: impl IntoIterator<Item = (String, C)>,
) -> Result<Vec<(String, Vec<u8>)>, Vec<InvalidFile>> {
    let load = |(file, content): (String, C)| match content.into().take() {
        Ok((bytes, _)) => Ok((file, bytes)),
        Err(why) => Err(vec![InvalidFile::Unreadable { file, why }]),
    };
    files.into_iter().map(load).collect()
}

/// A file that counts, before what belongs together is put together.
struct File {
    name: String,
    text: String,
}

fn foreign(layout: Layout, rules: &Rules, files: Vec<(String, Vec<u8>)>) -> Result<History, Vec<InvalidFile>> {
    let mut files: Vec<_> = files.into_iter().map(|(name, bytes)| (canonical(layout, name), bytes)).collect();
    files.sort();
    let mut faults = Vec::new();
    let mut ignored = Vec::new();
    let mut counting = Vec::new();
    for (name, bytes) in files {
        match (rules.name)(&name) {
            Named::Ignored => ignored.push(name),
            Named::Wrong(why) => {
                faults.push(InvalidFile::LayoutName { file: name, layout: layout.as_str(), form: rules.form, why })
            }
            named => counting.push((name, bytes, named)),
        }
    }
    let mut digest = Digest::default();
    counting.iter().for_each(|(name, bytes, _)| digest.add(name, bytes));

    let (mut scripts, mut downs, mut settings) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (name, bytes, named) in counting {
        let mut text = decode(&name, bytes).map_err(|fault| faults.push(fault)).unwrap_or_default();
        if layout == Layout::Goose {
            // It reads lines, and sends each with a line feed behind it.
            text = text.replace("\r\n", "\n");
        }
        let there = match named {
            Named::Script { version, description } => {
                scripts.push((version, description, File { name, text }));
                continue;
            }
            Named::Down { version } => {
                let there = downs.insert(number(&version), File { name: name.clone(), text });
                there.map(|there| twice(name, there.name, &version))
            }
            Named::Settings { script } => {
                let there = settings.insert(script, File { name: name.clone(), text });
                there.map(|_| InvalidFile::Twice { file: name })
            }
            Named::Ignored | Named::Wrong(_) => continue,
        };
        faults.extend(there);
    }

    let parts = flyway::Parts::of(scripts.iter().map(|(version, ..)| version.as_str()));
    let mut sources = Vec::new();
    for (written, description, File { name, text }) in scripts {
        let (down, settings) = (downs.remove(&number(&written)), settings.remove(&name));
        let version: Version = match parts.version(&written) {
            Ok(version) => version,
            Err(why) => {
                faults.push(InvalidFile::LayoutName { file: name, layout: layout.as_str(), form: rules.form, why });
                continue;
            }
        };
        let sections = (rules.sections)(&text).unwrap_or_else(|Fault { line, why }| {
            faults.push(InvalidFile::Section { file: name.clone(), line, why });
            Sections { end: text.len(), ..Sections::default() }
        });
        let outside = settings.map(|File { name, text }| {
            (rules.settings)(&text).unwrap_or_else(|Fault { line, why }| {
                faults.push(InvalidFile::Section { file: name, line, why });
                false
            })
        });
        let mut text = text;
        text.truncate(sections.end);
        let marked = sections.no_transaction || outside.unwrap_or(false);
        let no_transaction = marked && !(sends_whole(layout) && statement_ranges(&text).len() > 1);
        sources.push(SourceFile {
            version,
            description: spoken(&description),
            down: down
                .map(|down| (down.name, down.text))
                .or_else(|| sections.down.map(|down| (name.clone(), down)))
                .filter(|(_, down)| !down.trim().is_empty()),
            file_name: name,
            text,
            // The tool reads them as comments, and may have them in its checksum.
            rollback_lines: false,
            no_transaction,
            unsupported: sections.unsupported,
            elsewhere: None,
        });
    }
    faults.extend(disordered(layout, rules, &sources));
    let downs = downs.into_values().map(|down| ("the rollback", down.name));
    let settings = settings.into_values().map(|settings| ("the settings", settings.name));
    faults.extend(downs.chain(settings).map(|(what, file)| InvalidFile::DownWithoutScript {
        file,
        remedy: format!("{what} of no script that is here: add the script, or remove the file"),
    }));
    History::from_sources(sources, digest, ignored, faults)
}

/// The first script that a tool which sorts its scripts as text would run before one with a lower number.
fn disordered(layout: Layout, rules: &Rules, sources: &[SourceFile]) -> Option<InvalidFile> {
    let key: fn(&SourceFile) -> &str = match layout {
        Layout::Dbmate | Layout::Prisma => |source| source.file_name.as_str(),
        Layout::Diesel => |source| source.version.as_written(),
        _ => return None,
    };
    let mut sorted: Vec<_> = sources.iter().collect();
    sorted.sort_by(|a, b| a.version.cmp(&b.version));
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    let (lower, higher) = pairs.find(|(a, b)| a.version < b.version && key(a) > key(b))?;
    let (layout, lower) = (layout.as_str(), &lower.file_name);
    let why = format!(
        "{layout} sorts names as text and would run it before {lower}, Belay sorts by number and would run it after: give all \
         versions as many digits"
    );
    Some(InvalidFile::LayoutName { file: higher.file_name.clone(), layout, form: rules.form, why })
}

/// The name of a file with its folder, whichever way it is written.
fn canonical(layout: Layout, name: String) -> String {
    let inner: &[&str] = match layout {
        Layout::Diesel => diesel::FILES,
        Layout::Prisma => prisma::FILES,
        _ => return name,
    };
    if name.contains('/') {
        return name;
    }
    let folder = |file: &&&str| Some(name.strip_suffix(**file)?.strip_suffix("__")?.to_owned());
    let found = inner.iter().find(|file| folder(file).is_some_and(|folder| !folder.is_empty()));
    match found.and_then(|file| Some((folder(&file)?, file))) {
        Some((folder, file)) => format!("{folder}/{file}"),
        None => name,
    }
}

/// A version without leading zeros in any of its parts: what makes two the same.
fn number(version: &str) -> Vec<String> {
    version.split('.').map(|part| part.trim_start_matches('0').to_owned()).collect()
}

fn twice(file: String, other: String, version: &str) -> InvalidFile {
    match version.replace('.', "").parse() {
        Ok(version) if file != other => InvalidFile::SameVersion { file, other, version },
        _ => InvalidFile::Twice { file },
    }
}

/// A description as people read it.
fn spoken(description: &str) -> String {
    match description.replace(['_', '-'], " ").trim() {
        "" => description.to_owned(),
        spoken => spoken.to_owned(),
    }
}

/// The digits that a name begins with, and the rest.
fn leading_digits(name: &str) -> (&str, &str) {
    name.split_at(name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len()))
}

/// The name without this ending, in any case; what is written otherwise than in small letters is for the caller to see.
fn strip_ending<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(ending.len()).filter(|at| name.is_char_boundary(*at))?;
    name.get(at..).filter(|end| end.eq_ignore_ascii_case(ending)).map(|_| &name[..at])
}

/// `<digits>_<what>`, as most layouts have it.
fn digits_and_name(stem: &str) -> Result<(String, String), String> {
    let (version, rest) = leading_digits(stem);
    if version.is_empty() {
        return Err("it does not begin with a version in digits".to_owned());
    }
    match rest.strip_prefix('_') {
        Some(name) if !name.is_empty() => Ok((version.to_owned(), name.to_owned())),
        _ => Err("behind the version come an underscore and a description".to_owned()),
    }
}

/// Everything is run.
fn whole(text: &str) -> Result<Sections, Fault> {
    Ok(Sections { end: text.len(), ..Sections::default() })
}

/// The layout has no settings beside its scripts.
fn no_settings(_: &str) -> Result<bool, Fault> {
    Ok(false)
}
