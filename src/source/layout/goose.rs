//! goose: `<version>_<name>.sql`, in sections that lines beginning with `-- +goose` open: Up, Down, StatementBegin,
//! StatementEnd, NO TRANSACTION, ENVSUB.
//!
//! goose cuts a section into statements where a line ends in a semicolon, and sends them one by one; PostgreSQL's own
//! grammar, by which Belay splits, does not look at lines. Where the two would run different things, the script is refused.

use std::ops::Range;

use super::sections::{Line, lines};
use super::{Fault, Named, Rules, Sections, digits_and_name, no_settings, strip_ending};
use crate::script::{Position, Unsupported, UnsupportedKind, statement_ranges};

pub(super) const RULES: Rules = Rules { form: "<version>_<description>.sql", name, sections, settings: no_settings };

fn name(name: &str) -> Named {
    if name.contains('/') {
        return Named::Ignored;
    }
    if strip_ending(name, ".go").is_some_and(|stem| digits_and_name(stem).is_ok()) && !name.ends_with("_test.go") {
        return Named::Wrong("Belay runs no Go: write it in SQL".to_owned());
    }
    let Some(stem) = strip_ending(name, ".sql") else { return Named::Ignored };
    match digits_and_name(stem) {
        _ if !name.ends_with(".sql") => Named::Wrong("its ending must be written .sql".to_owned()),
        Ok((version, _)) if version.bytes().all(|byte| byte == b'0') => {
            Named::Wrong("goose's versions begin with 1".to_owned())
        }
        Ok((version, description)) => Named::Script { version, description },
        Err(why) => Named::Wrong(why),
    }
}

/// Whether a line is one that goose reads as its own.
pub(super) fn is_mark(line: &str) -> bool {
    line.trim_start().starts_with("--") && line.contains("+goose")
}

/// What goose reads in such a line.
fn word(line: &str) -> String {
    line.replace("--", "").replacen("+goose", "", 1).trim().to_ascii_uppercase()
}

/// Whether a line is one that opens one of goose's sections.
pub(super) fn opens_section(line: &str) -> bool {
    is_mark(line) && ["UP", "DOWN"].contains(&word(line).as_str())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Before,
    Up,
    Down,
}

/// What is read so far.
struct Reader<'a> {
    text: &'a str,
    section: Section,
    /// The line of an open StatementBegin.
    open: Option<u32>,
    /// The bytes that goose sends as one statement; the last is open while it has no end.
    statements: Vec<Range<usize>>,
    started: Option<usize>,
    /// A block has ended in which nothing was, and goose waits for its statement.
    waits: bool,
    /// The lines in Up that goose reads as its own: their numbers, and where they begin.
    marks: Vec<(u32, usize)>,
    substitutes: bool,
    out: Sections,
    down: Option<usize>,
}

fn sections(text: &str) -> Result<Sections, Fault> {
    let mut reader = Reader {
        text,
        section: Section::Before,
        open: None,
        statements: Vec::new(),
        started: None,
        waits: false,
        marks: Vec::new(),
        substitutes: false,
        out: Sections { end: text.len(), ..Sections::default() },
        down: None,
    };
    for line in lines(text) {
        match is_mark(line.text) {
            true => reader.mark(&line)?,
            false => reader.line(&line)?,
        }
    }
    reader.end()
}

impl Reader<'_> {
    fn mark(&mut self, line: &Line<'_>) -> Result<(), Fault> {
        let fault = |why: &str| Err(Fault { line: line.number, why: why.to_owned() });
        if line.text.starts_with([' ', '\t']) {
            return fault("goose takes no blanks before the two hyphens");
        }
        if self.section == Section::Up {
            self.marks.push((line.number, line.start));
        }
        match (word(line.text).as_str(), self.section) {
            ("UP", Section::Before) => self.section = Section::Up,
            ("UP", _) => return fault("-- +goose Up is there twice: keep one of them"),
            ("DOWN", Section::Up) if self.open.is_none() => {
                self.close(line.start);
                self.section = Section::Down;
                self.out.end = line.start;
                self.down = Some(line.end);
            }
            ("DOWN", Section::Up) => return fault("-- +goose StatementEnd is missing before it"),
            ("DOWN", _) => return fault("-- +goose Down comes once, behind -- +goose Up"),
            ("STATEMENTBEGIN" | "STATEMENTEND", Section::Before) => return fault("-- +goose Up is missing before it"),
            ("STATEMENTBEGIN", _) if self.open.is_none() => {
                self.open = Some(line.number);
                self.waits = false;
            }
            ("STATEMENTBEGIN", _) => return fault("-- +goose StatementEnd is missing before it"),
            ("STATEMENTEND", _) if self.open.take().is_some() => {
                self.waits = self.started.is_none();
                self.close(line.start);
            }
            ("STATEMENTEND", _) => return fault("-- +goose StatementBegin is missing before it"),
            ("NO TRANSACTION", _) => self.out.no_transaction = true,
            ("ENVSUB ON", _) => self.substitutes = true,
            ("ENVSUB OFF", _) => self.substitutes = false,
            _ => return fault("goose knows Up, Down, StatementBegin, StatementEnd, NO TRANSACTION, ENVSUB ON and OFF"),
        }
        Ok(())
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), Fault> {
        let blank = line.text.trim().is_empty();
        let comment = line.text.trim_start().starts_with("--");
        if self.section == Section::Before && !blank && !comment {
            let why = "-- +goose Up is missing before the first statement".to_owned();
            return Err(Fault { line: line.number, why });
        }
        if self.section != Section::Up || self.started.is_none() && (blank || comment) {
            return Ok(());
        }
        if std::mem::take(&mut self.waits) {
            self.refuse(
                line.number,
                "goose would leave this line out, as the end of the empty block before it",
                "take out the -- +goose StatementBegin and -- +goose StatementEnd that have no statement between them",
            );
        }
        self.started.get_or_insert(line.start);
        if self.substitutes && line.text.contains('$') {
            self.refuse(
                line.number,
                "goose would put variables of its environment in here",
                "write the values themselves",
            );
        }
        if self.open.is_none() && ends_in_semicolon(line.text) {
            self.close(line.end);
        }
        Ok(())
    }

    /// A statement of goose's ends here.
    fn close(&mut self, at: usize) {
        if let Some(start) = self.started.take().filter(|_| self.section == Section::Up) {
            self.statements.push(start..at);
        }
    }

    fn end(mut self) -> Result<Sections, Fault> {
        let line = |number| move |why: &str| Fault { line: number, why: why.to_owned() };
        if self.section == Section::Before {
            return Err(line(1)("-- +goose Up is missing"));
        }
        if let Some(number) = self.open {
            return Err(line(number)("-- +goose StatementEnd is missing behind it"));
        }
        self.close(self.text.len());
        self.compare();
        self.out.down = self.down.map(|at| self.text[at..].to_owned());
        Ok(self.out)
    }

    /// Refuses where goose's statements and PostgreSQL's are not the same ones.
    fn compare(&mut self) {
        let ranges = statement_ranges(&self.text[..self.out.end]);
        let cut = self.statements.iter().find_map(|sent| {
            ranges.iter().find(|range| range.start < sent.end && sent.end < range.end).map(|_| sent.end)
        });
        if let Some(at) = cut {
            let before = self.text[..at].trim_end_matches(['\n', '\r']);
            let number = before.matches('\n').count() + 1;
            self.refuse(
                u32::try_from(number).unwrap_or(u32::MAX),
                "goose would end its statement with this line, in the middle of one of PostgreSQL's",
                "put the whole statement between -- +goose StatementBegin and -- +goose StatementEnd",
            );
        }
        let inside = self.marks.iter().find(|(_, at)| ranges.iter().any(|range| range.contains(at)));
        if let Some((number, _)) = inside {
            self.refuse(
                *number,
                "goose would take this line for its own, and leave it out of the statement that it stands in",
                "put it before or behind the statement; in a string or a body, word it otherwise",
            );
        }
        if !self.out.no_transaction {
            return;
        }
        let several =
            self.statements.iter().find(|sent| ranges.iter().filter(|range| sent.contains(&range.start)).count() > 1);
        if let Some(sent) = several.cloned() {
            let number = self.text[..sent.start].matches('\n').count() + 1;
            self.refuse(
                u32::try_from(number).unwrap_or(u32::MAX),
                "goose would send several statements from this line on as one, which PostgreSQL runs in a transaction",
                "end each of them with its line, so that they are sent one by one",
            );
        }
    }

    fn refuse(&mut self, line: u32, what: &str, remedy: &str) {
        let position = Position { line, column: 1 };
        if self.out.unsupported.as_ref().is_none_or(|first| position < first.position) {
            let (what, remedy) = (what.to_owned(), remedy.to_owned());
            self.out.unsupported = Some(Unsupported { kind: UnsupportedKind::Layout, position, what, remedy });
        }
    }
}

/// As goose has it: the last word of a line, before a comment.
fn ends_in_semicolon(line: &str) -> bool {
    line.split_whitespace().take_while(|word| !word.starts_with("--")).last().is_some_and(|word| word.ends_with(';'))
}
