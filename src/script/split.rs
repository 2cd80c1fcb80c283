//! A script's text → its statements, as the server will count them.

use std::ops::Range;

use memchr::{memchr, memmem};

use super::class::{self, Class};
use super::comment::Note;
use super::effect::{self, Effect};
use super::lexer::{Kind, Lexer, Token};
use super::position::{Cursor, Position};
use super::psql;
use super::unsupported::{Unsupported, UnsupportedKind};
use super::words::{MOST, Words};

/// One statement of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Its bytes in the script's text, from its first token to its last, without its semicolon.
    pub range: Range<usize>,
    /// Where its first token is.
    pub start: Position,
    /// As people call it: `ALTER TABLE`, `CREATE INDEX CONCURRENTLY`.
    pub command: String,
    pub class: Class,
    /// What it locks, and whether data could be lost.
    pub effect: Effect,
    /// The lines of data behind COPY … FROM STDIN, without the closing `\.`.
    pub copy_data: Option<Range<usize>>,
}

/// What a text consists of.
pub(super) struct Split {
    pub statements: Vec<Statement>,
    /// Where each statement's semicolon is, if it has one.
    pub semicolons: Vec<Option<usize>>,
    pub notes: Vec<Note>,
    /// Where line comments are.
    pub comments: Vec<Range<usize>>,
    /// Lines of psql's that mean nothing to the server, and may be left out.
    pub psql_lines: Vec<Range<usize>>,
    /// In the order in which they were met; of a great many, the first.
    pub faults: Vec<Unsupported>,
}

/// Splits at semicolons outside parentheses and outside BEGIN ATOMIC … END, as the server's grammar
/// does and psql's scanner imitates. In one pass, on any text.
pub(super) fn split(text: &str) -> Split {
    let mut splitter = Splitter::new(text);
    splitter.run();
    splitter.out
}

/// The line comments of a text, and where each begins. What looks like one in a string, a body or data is none.
pub fn line_comments(text: &str) -> Vec<(Position, &str)> {
    let mut cursor = Cursor::new(text);
    split(text).comments.into_iter().map(|range| (cursor.position(range.start), &text[range])).collect()
}

/// Where the statements of a text are, without their semicolons.
pub fn statement_ranges(text: &str) -> Vec<Range<usize>> {
    split(text).statements.into_iter().map(|statement| statement.range).collect()
}

struct Splitter<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    cursor: Cursor<'a>,
    out: Split,
    open: Option<Open>,
    /// The first tokens of the open statement, with their depth; kept for its room.
    tokens: Vec<(Token, u32)>,
}

/// The statement that the pass is in.
struct Open {
    start: Position,
    range: Range<usize>,
    depth: u32,
    /// Where the outermost open parenthesis is.
    paren: usize,
    /// BEGIN ATOMIC and CASE not yet closed by END.
    blocks: u32,
    atomic: usize,
    previous: Token,
}

impl Statement {
    /// Whether it sets up the session that later statements run in, and does nothing else.
    pub fn sets_session(&self) -> bool {
        let verb = self.command.split(' ').next().unwrap_or_default();
        ["SET", "RESET"].contains(&verb) || self.command == class::SET_CONFIG
    }
}

impl<'a> Splitter<'a> {
    fn new(text: &'a str) -> Self {
        let out = Split {
            statements: Vec::new(),
            semicolons: Vec::new(),
            notes: Vec::new(),
            comments: Vec::new(),
            psql_lines: Vec::new(),
            faults: Vec::new(),
        };
        Self { text, lexer: Lexer::new(text), cursor: Cursor::new(text), out, open: None, tokens: Vec::new() }
    }

    fn run(&mut self) {
        while let Some(token) = self.lexer.next() {
            if token.unterminated {
                self.unterminated(token.start, self.kind_of_quote(token));
            }
            match token.kind {
                Kind::Space | Kind::BlockComment => {}
                Kind::LineComment => self.comment(token.start..token.end),
                Kind::Backslash => self.backslash(token),
                Kind::Semicolon => self.semicolon(token),
                _ => self.token(token),
            }
        }
        if let Some(open) = &self.open {
            let (depth, paren, blocks, atomic) = (open.depth, open.paren, open.blocks, open.atomic);
            if depth > 0 {
                self.unterminated(paren, "a parenthesis");
            } else if blocks > 0 {
                self.unterminated(atomic, "BEGIN ATOMIC");
            }
        }
        self.finish(None);
    }

    fn comment(&mut self, range: Range<usize>) {
        let in_header = self.open.is_none() && self.out.statements.is_empty();
        self.out.notes.extend(Note::read(self.text, range.clone(), in_header));
        self.out.comments.push(range);
    }

    fn semicolon(&mut self, token: Token) {
        match &mut self.open {
            None => {}
            Some(open) if open.depth == 0 && open.blocks == 0 => self.finish(Some(token.start)),
            Some(open) => {
                open.previous = token;
                open.range.end = token.end;
                let depth = open.depth;
                // No CASE goes on behind a semicolon: what looked like one was a label without AS.
                if depth == 0 {
                    open.blocks = 1;
                }
                self.keep(token, depth);
            }
        }
    }

    fn token(&mut self, token: Token) {
        let word = self.text.get(token.start..token.end).unwrap_or_default();
        let Some(open) = &mut self.open else {
            self.open = Some(Open {
                start: self.cursor.position(token.start),
                range: token.start..token.end,
                depth: u32::from(token.kind == Kind::OpenParen),
                paren: token.start,
                blocks: 0,
                atomic: token.start,
                previous: token,
            });
            self.tokens.clear();
            return self.keep(token, 0);
        };
        let previous = std::mem::replace(&mut open.previous, token);
        open.range.end = token.end;
        let depth = open.depth;
        match token.kind {
            Kind::OpenParen => {
                if depth == 0 {
                    open.paren = token.start;
                }
                open.depth = depth.saturating_add(1);
            }
            Kind::CloseParen => open.depth = depth.saturating_sub(1),
            Kind::Word if previous.kind == Kind::Semicolon => self.inner_statement(token, previous, word),
            Kind::Word if depth == 0 => self.block(previous, word),
            _ => {}
        }
        self.keep(token, if token.kind == Kind::CloseParen { depth.saturating_sub(1) } else { depth });
    }

    fn keep(&mut self, token: Token, depth: u32) {
        // Behind a long list in parentheses, what the statement does with it still counts.
        let most = if depth == 0 { 2 * MOST } else { MOST };
        if self.tokens.len() < most {
            self.tokens.push((token, depth));
        }
    }

    /// BEGIN ATOMIC opens the body of a function, in which CASE and END pair. The END that closes it stands
    /// where a statement would begin; any other is a label without AS.
    fn block(&mut self, previous: Token, word: &str) {
        let Some(open) = &mut self.open else { return };
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        let previous_is = |keyword: &str| {
            previous.kind == Kind::Word
                && self.text.get(previous.start..previous.end).is_some_and(|p| p.eq_ignore_ascii_case(keyword))
        };
        if open.blocks == 0 {
            if is("ATOMIC") && previous_is("BEGIN") && Words::new(self.text, &self.tokens).starts(ROUTINE) {
                open.blocks = 1;
                open.atomic = previous.start;
            }
        } else if previous.kind != Kind::Dot && !previous_is("AS") {
            if is("CASE") {
                open.blocks = open.blocks.saturating_add(1);
            } else if is("END") && (open.blocks > 1 || previous.kind == Kind::Semicolon || previous_is("ATOMIC")) {
                open.blocks -= 1;
            }
        }
    }

    /// The first word behind a semicolon within parentheses or a body. Whatever may make this pass
    /// believe that it is still inside, a COMMIT does not slip through.
    fn inner_statement(&mut self, token: Token, previous: Token, word: &str) {
        let control = ["BEGIN", "START", "COMMIT", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"];
        if control.iter().any(|control| word.eq_ignore_ascii_case(control)) {
            self.fault(
                UnsupportedKind::TransactionControl,
                token.start,
                format!("{} stands inside another statement", word.to_ascii_uppercase()),
                "close the parenthesis or the body before it, and leave transaction control out",
            );
        }
        if self.open.as_ref().is_some_and(|open| open.depth == 0) {
            self.block(previous, word);
        }
    }

    fn backslash(&mut self, token: Token) {
        let name = psql::name(&self.text[token.end..]);
        if self.open.is_some() {
            self.psql_fault(token.start, name);
            return self.token(token);
        }
        let line = self.line_end(token.end);
        // No other white space is the server's: what stands there would be left over.
        let arguments = self.text[token.end..line].trim_ascii_end();
        if psql::is_harmless(name) && arguments.is_ascii() && !arguments.contains('\\') {
            self.out.psql_lines.push(token.start..token.end + arguments.len());
        } else {
            self.psql_fault(token.start, name);
        }
        self.lexer.seek(line);
    }

    /// Where the line that this byte is in ends, before its line feed.
    fn line_end(&self, from: usize) -> usize {
        memchr(b'\n', &self.text.as_bytes()[from..]).map_or(self.text.len(), |at| from + at)
    }

    fn psql_fault(&mut self, at: usize, name: &str) {
        let what = if name.is_empty() {
            "a backslash outside quotes means nothing in SQL".to_owned()
        } else {
            format!("\\{name} is a command of psql, not of SQL")
        };
        self.fault(UnsupportedKind::PsqlCommand, at, what, psql::remedy(name));
    }

    /// Closes the open statement, if there is one.
    fn finish(&mut self, semicolon: Option<usize>) {
        let Some(open) = self.open.take() else { return };
        let words = Words::new(self.text, &self.tokens);
        let (told, effect) = (class::classify(&words), effect::of(&words));
        if let Some((kind, what, remedy)) = told.refusal {
            self.fault(kind, open.range.start, what, remedy);
        }
        let copy_data = match semicolon {
            Some(at) if told.copy_from_stdin => self.copy_data(open.range.start, at + 1),
            None if told.copy_from_stdin => {
                self.fault(
                    UnsupportedKind::Unterminated,
                    open.range.start,
                    "this COPY … FROM STDIN brings no data".to_owned(),
                    "end it with a semicolon; then come the lines of data, and a line that is \\. and nothing else",
                );
                None
            }
            _ => None,
        };
        self.out.statements.push(Statement {
            range: open.range,
            start: open.start,
            command: told.command,
            class: told.class,
            effect,
            copy_data,
        });
        self.out.semicolons.push(semicolon);
    }

    /// The data of a COPY: from the next line on, up to a line that is `\.` and nothing else.
    fn copy_data(&mut self, statement: usize, behind: usize) -> Option<Range<usize>> {
        let bytes = self.text.as_bytes();
        let blanks = bytes[behind..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        let rest = behind + blanks;
        let line = self.text[rest..self.line_end(rest)].trim_end();
        // A carriage return ends a comment too, and what is behind it would be lost.
        if line.starts_with("--") && !line.contains('\r') {
            self.comment(rest..rest + line.len());
        } else if bytes.get(rest).is_some_and(|byte| *byte != b'\n') {
            self.fault(
                UnsupportedKind::CopyData,
                rest,
                "the rest of this line would be run after the data that follows it".to_owned(),
                "put it behind the line \\. that ends the data",
            );
            return None;
        }
        let start = (self.line_end(rest) + 1).min(bytes.len());
        for found in memmem::find_iter(&bytes[start..], b"\\.") {
            let at = start + found;
            let end = self.line_end(at);
            if (at == start || bytes[at - 1] == b'\n') && matches!(&bytes[at..end], b"\\." | b"\\.\r") {
                self.lexer.seek(end);
                return Some(start..at);
            }
        }
        self.lexer.seek(bytes.len());
        self.fault(
            UnsupportedKind::Unterminated,
            statement,
            "the data of this COPY … FROM STDIN has no end".to_owned(),
            "end it with a line that is \\. and nothing else",
        );
        Some(start..bytes.len())
    }

    fn kind_of_quote(&self, token: Token) -> &'static str {
        match token.kind {
            Kind::BlockComment => "a comment",
            Kind::Text if self.text[token.start..].starts_with('$') => "a dollar-quoted string",
            Kind::Text => "a quoted string",
            _ => "a quoted identifier",
        }
    }

    fn unterminated(&mut self, at: usize, what: &str) {
        let remedy = format!("close it; everything behind it was read as part of {what}");
        self.fault(UnsupportedKind::Unterminated, at, format!("{what} begins here and never ends"), &remedy);
    }

    fn fault(&mut self, kind: UnsupportedKind, at: usize, what: String, remedy: &str) {
        // What never ends is met last, and may have begun first.
        if self.out.faults.len() < MOST_FAULTS || kind == UnsupportedKind::Unterminated {
            let position = self.cursor.position(at);
            self.out.faults.push(Unsupported { kind, position, what, remedy: remedy.to_owned() });
        }
    }
}

const MOST_FAULTS: usize = 100;

const ROUTINE: &str = "CREATE [OR|REPLACE] FUNCTION|PROCEDURE";
