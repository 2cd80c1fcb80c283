use std::fmt;

use serde::{Serialize, Serializer};

use crate::script::{Script, Version};

/// A script that is run statement by statement, and is not applied as a whole yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    pub version: Version,
    pub file: String,
    /// What the ledger has of its statements, in their order. Of those that only set up the session it has nothing.
    pub statements: Vec<BegunStatement>,
}

/// What the ledger has of one statement of such a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunStatement {
    /// From 0.
    pub number: usize,
    /// Of its text, as it was when it was run.
    pub checksum: String,
    /// Else it was begun, and nothing more is known of it: it runs, or its answer was lost.
    pub done: bool,
}

/// A statement that is not what was run, or begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edited {
    /// From 0.
    pub number: usize,
    /// Of the script as it is now; None: it has no such statement any more.
    pub line: Option<u32>,
    /// It was done, and not only begun.
    pub done: bool,
}

impl Begun {
    /// How many of its statements are done.
    pub fn done(&self) -> usize {
        self.statements.iter().filter(|statement| statement.done).count()
    }

    /// The statement (from 1) that was begun, and of which nothing more is known.
    pub fn unsettled(&self) -> Option<usize> {
        self.statements.iter().find(|statement| !statement.done).map(|statement| statement.number + 1)
    }
}

/// The first statement by which what was run of a script, or begun, is not the beginning of the script as it is now.
pub fn edited(script: &Script, begun: &[BegunStatement]) -> Option<Edited> {
    let edited = |number: usize, done: bool| Edited { number, line: script.line_of(number), done };
    for was in begun {
        let now = script.kept_checksum(was.number);
        if now.is_none_or(|now| now.to_string() != was.checksum) {
            return Some(edited(was.number, was.done));
        }
    }
    // What stands before one that was run, and was not run itself, is new.
    let last = begun.iter().map(|was| was.number).max()?;
    (0..last)
        .find(|number| script.kept_checksum(*number).is_some() && !begun.iter().any(|was| was.number == *number))
        .map(|number| edited(number, true))
}

/// `005_x.sql, 2 statements done`
impl fmt::Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.done();
        let statements = if done == 1 { "statement" } else { "statements" };
        write!(f, "{}, {done} {statements} done", self.file)?;
        match self.unsettled() {
            Some(number) => write!(f, "; statement {number} runs, or what became of it is not known"),
            None => Ok(()),
        }
    }
}

/// As commands tell it: how far it is, not every statement.
impl Serialize for Begun {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            version: String,
            file: &'a str,
            done: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            unsettled: Option<usize>,
        }
        let told = Told {
            version: self.version.to_string(),
            file: &self.file,
            done: self.done(),
            unsettled: self.unsettled(),
        };
        told.serialize(serializer)
    }
}
