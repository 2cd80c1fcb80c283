use super::Position;

/// What in a script this Belay can't run, where it is, and what to write instead.
///
/// It stands beside a script and is no error by itself: a script that was applied long ago, by
/// whatever means, may hold anything. It is asked for when the script is to be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsupported {
    pub kind: UnsupportedKind,
    pub position: Position,
    /// A clause without a full stop: "ROLLBACK is transaction control".
    pub what: String,
    /// A clause in the imperative, without a full stop: "leave it out".
    pub remedy: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnsupportedKind {
    /// No statement: nothing but comments, or nothing at all.
    Empty,
    /// A quote, comment, body, parenthesis or data that the text ends in the middle of.
    Unterminated,
    /// A command of psql, not of SQL.
    PsqlCommand,
    /// BEGIN, COMMIT and their like, but for one pair around everything.
    TransactionControl,
    /// A statement that PostgreSQL refuses in a transaction, in a script that is run in one.
    Mixed,
    /// `-- belay:` and something else, or in the wrong place.
    UnknownDirective,
    /// COPY to the client, or from it where the data cannot be told.
    CopyData,
    /// A name that Belay can't look for in the catalogue.
    Name,
    /// A SET that Belay can't work under.
    Setting,
    /// What the tool whose layout the file has would send otherwise than it stands there.
    Layout,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}. What to do: {}", self.position, self.what, self.remedy)
    }
}
