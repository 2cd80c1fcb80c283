//! A file's bytes: at hand, or where they can be had when they are needed, and had again. So a history of any size can be
//! read without keeping all of it.

use std::fmt;
use std::sync::Arc;

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    Here(Vec<u8>),
    Elsewhere(Elsewhere),
}

/// Gives the same bytes each time it is asked, or says why not.
#[derive(Clone)]
pub struct Elsewhere(Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>);

impl Elsewhere {
    pub fn new(read: impl Fn() -> Result<Vec<u8>, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Reads them.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        (self.0)()
    }
}

impl Content {
    /// The bytes, and where they can be had again.
    pub fn take(self) -> Result<(Vec<u8>, Option<Elsewhere>), String> {
        match self {
            Self::Here(bytes) => Ok((bytes, None)),
            Self::Elsewhere(elsewhere) => Ok((elsewhere.read()?, Some(elsewhere))),
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Here(bytes)
    }
}

/// Where a script is from makes no difference to what it is.
impl PartialEq for Elsewhere {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Elsewhere {}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}
