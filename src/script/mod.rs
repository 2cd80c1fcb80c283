//! SQL text → [`Script`]: name, header, statements with positions, class, effect, checksum.
//!
//! Pure: no I/O, no clock, and no panic on any bytes. What a *history* of scripts means against a
//! ledger is decided in [`crate::plan`]; how a script is run, in [`crate::postgres`].

mod checksum;
mod class;
mod command;
mod comment;
mod content;
mod effect;
mod file_name;
mod history;
mod lexer;
mod outside;
mod parse;
mod password;
mod position;
mod psql;
mod read;
mod rollback;
mod setting;
mod split;
mod unsupported;
mod version;
mod words;

#[cfg(test)]
mod tests;

pub use checksum::{Checksum, InvalidChecksum};
pub use class::Class;
pub use comment::Header;
pub use content::{Content, Elsewhere};
pub use effect::{Effect, LockMode, ScriptLock, TableLock, harmless_functions, statement_forms};
pub use history::{Digest, History, InvalidFile, SourceFile, decode};
pub use outside::{IndexDefinition, Object, Outside, Settle};
pub use parse::{Reread, Script};
pub use password::{WITHHELD, names_password, occurrences, passwords, prose_without_passwords, withheld};
pub use position::Position;
pub use read::Mode;
pub use rollback::Rollback;
pub use split::{Statement, line_comments, statement_ranges};
pub use unsupported::{Unsupported, UnsupportedKind};
pub use version::{InvalidVersion, Version};
