//! What another tool's ledger says, as it was read: data, not yet judged. [`super::adopt`] judges it.

use std::fmt;

use crate::api::Layout;

/// A tool that kept a ledger of its own in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `flyway_schema_history`
    Flyway,
    /// `schema_migrations`, with a column `dirty`
    GolangMigrate,
    /// `goose_db_version`
    Goose,
    /// `schema_migrations` of versions alone: dbmate, and Rails
    Dbmate,
    /// `_sqlx_migrations`
    Sqlx,
    /// `refinery_schema_history`
    Refinery,
    /// `__diesel_schema_migrations`
    Diesel,
    /// `_prisma_migrations`
    Prisma,
}

impl Tool {
    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flyway => "Flyway",
            Self::GolangMigrate => "golang-migrate",
            Self::Goose => "goose",
            Self::Dbmate => "dbmate or Rails",
            Self::Sqlx => "sqlx",
            Self::Refinery => "refinery",
            Self::Diesel => "diesel",
            Self::Prisma => "Prisma",
        }
    }

    /// Which layout its files have; those of Rails have none.
    pub const fn layout(self) -> Layout {
        match self {
            Self::Flyway => Layout::Flyway,
            Self::GolangMigrate => Layout::GolangMigrate,
            Self::Goose => Layout::Goose,
            Self::Dbmate => Layout::Dbmate,
            Self::Sqlx => Layout::Sqlx,
            Self::Refinery => Layout::Refinery,
            Self::Diesel => Layout::Diesel,
            Self::Prisma => Layout::Prisma,
        }
    }
}

/// A table in which another tool kept what it applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignLedger {
    pub tool: Tool,
    pub schema: String,
    pub table: String,
    /// In the order in which the tool wrote them; none: the login may not read them, or nobody asked.
    pub rows: Option<Vec<ForeignRow>>,
}

/// One row of such a table, in the tool's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignRow {
    pub version: Option<String>,
    /// A file's or a folder's name, or what stands for it.
    pub name: Option<String>,
    /// What kind of row it is, where the tool has several.
    pub kind: Option<String>,
    /// Whether it went well, as far as the tool says.
    pub ok: bool,
    pub checksum: Option<String>,
}

impl ForeignRow {
    /// What messages call it.
    pub(super) fn shown(&self) -> String {
        self.version.clone().or_else(|| self.name.clone()).unwrap_or_default()
    }
}

impl fmt::Display for ForeignLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// CRC-32 as zlib has it: Flyway's checksums, and several tools' keys of advisory locks.
pub fn crc32<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    !pieces.into_iter().flatten().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}
