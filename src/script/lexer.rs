//! PostgreSQL's tokens, as far as splitting needs them: squawk-lexer's, with one mistake mended
//! and with a way to skip what is not SQL.
//!
//! squawk-lexer 2.68.0 was read against scan.l and psqlscan.l: nested comments, every quoting,
//! dollar tags, and comments that cut operators short are right. One thing is not: a string that
//! continues an `E''` on the next line still takes backslashes, and there it does not.

use squawk_lexer::{LiteralKind, Token as Raw, TokenKind};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Space,
    LineComment,
    BlockComment,
    /// A keyword or an identifier without quotes.
    Word,
    /// A string constant of any kind: `''`, `E''`, `B''`, `$$…$$`, …
    Text,
    OpenParen,
    CloseParen,
    Semicolon,
    Dot,
    Equals,
    Backslash,
    /// Numbers, quoted identifiers, operators, parameters.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// What the text ends in the middle of, if it does.
    pub unterminated: Option<&'static str>,
}

/// The tokens of a text in order, without a gap between them.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    raw: Box<dyn Iterator<Item = Raw> + 'a>,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, raw: Box::new(squawk_lexer::tokenize(text)) }
    }

    /// Goes on at this byte offset, which must be a character's boundary.
    pub fn seek(&mut self, byte: usize) {
        self.at = byte;
        self.raw = Box::new(squawk_lexer::tokenize(self.text.get(byte..).unwrap_or_default()));
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let raw = self.raw.next()?;
        let start = self.at;
        let mut end = start + raw.len as usize;
        let (kind, mut unterminated) = kind(raw.kind, self.text.as_bytes()[start]);
        self.at = end;
        if matches!(raw.kind, TokenKind::Literal { kind: LiteralKind::EscStr { terminated: true } }) {
            while let Some(quote) = continuation(self.text.as_bytes(), end) {
                let closed = escape_string_end(self.text.as_bytes(), quote + 1);
                end = closed.unwrap_or(self.text.len());
                unterminated = closed.is_none().then_some(STRING);
            }
            if end != self.at {
                self.seek(end);
            }
        }
        Some(Token { kind, start, end, unterminated })
    }
}

const STRING: &str = "a quoted string";

fn kind(raw: TokenKind, first: u8) -> (Kind, Option<&'static str>) {
    let open = |terminated: bool, what| (!terminated).then_some(what);
    match raw {
        TokenKind::Whitespace => (Kind::Space, None),
        TokenKind::LineComment => (Kind::LineComment, None),
        TokenKind::BlockComment { terminated } => (Kind::BlockComment, open(terminated, "a comment")),
        TokenKind::Ident => (Kind::Word, None),
        TokenKind::QuotedIdent { terminated, .. } => (Kind::Other, open(terminated, "a quoted identifier")),
        TokenKind::Literal { kind } => match kind {
            LiteralKind::Int { .. } | LiteralKind::Numeric { .. } => (Kind::Other, None),
            LiteralKind::DollarQuotedString { terminated } => (Kind::Text, open(terminated, "a dollar-quoted string")),
            LiteralKind::Str { terminated }
            | LiteralKind::NationalStr { terminated }
            | LiteralKind::ByteStr { terminated }
            | LiteralKind::BitStr { terminated }
            | LiteralKind::UnicodeEscStr { terminated }
            | LiteralKind::EscStr { terminated } => (Kind::Text, open(terminated, STRING)),
        },
        TokenKind::OpenParen => (Kind::OpenParen, None),
        TokenKind::CloseParen => (Kind::CloseParen, None),
        TokenKind::Semi => (Kind::Semicolon, None),
        TokenKind::Dot => (Kind::Dot, None),
        TokenKind::Eq => (Kind::Equals, None),
        _ if first == b'\\' => (Kind::Backslash, None),
        _ => (Kind::Other, None),
    }
}

/// Where the string constant that ended at `at` goes on: at a quote after white space with a
/// newline in it (scan.l's `quotecontinue`; line comments count as white space).
fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut newline = false;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => newline = true,
            b' ' | b'\t' | 0x0B | 0x0C => {}
            b'\'' => return newline.then_some(at),
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at += text[at..].iter().position(|b| matches!(b, b'\n' | b'\r'))?;
                continue;
            }
            _ => return None,
        }
        at += 1;
    }
}

/// The end, behind its closing quote, of a string with backslashes whose content starts at `at`.
fn escape_string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'\'' if text.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return Some(at + 1),
            _ => at += 1,
        }
    }
}
