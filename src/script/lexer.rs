//! PostgreSQL's tokens, as far as splitting needs them: squawk-lexer's, with three mistakes mended
//! and with a way to skip what is not SQL.
//!
//! squawk-lexer 2.68.0 was read against scan.l and psqlscan.l: nested comments, every quoting,
//! dollar tags, and comments that cut operators short are right. Three things are not. A string that
//! continues an `E''` on the next line still takes backslashes, and there it does not. A number ends
//! where PostgreSQL 14 ends it (later ones refuse what differs): `1e$$` is `1` and the word `e$$`, and
//! there it is `1e` and the beginning of a string. A byte order mark, wherever it stands, is a letter.

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
        let (mut kind, mut unterminated) = kind(raw.kind, self.text.as_bytes()[start]);
        self.at = end;
        if let Some(sooner) = number_end(raw.kind, &self.text.as_bytes()[start..end]) {
            end = start + sooner;
            self.seek(end);
        } else if kind == Kind::Space && self.text[start..end] == *squawk_lexer::BOM {
            end += self.text[end..].find(|c: char| !is_word(c)).unwrap_or(self.text.len() - end);
            kind = Kind::Word;
            self.seek(end);
        }
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

/// Where a number or a parameter ends for PostgreSQL 14, if that is before the end of its token:
/// what follows is a token of its own there, and an error later.
fn number_end(raw: TokenKind, token: &[u8]) -> Option<usize> {
    let digits = |from: usize| from + token[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = match raw {
        TokenKind::PositionalParam { .. } => digits(1),
        TokenKind::Literal { kind: LiteralKind::Int { .. } | LiteralKind::Numeric { .. } } => {
            let whole = digits(0);
            if token.get(whole) == Some(&b'.') { digits(whole + 1) } else { whole }
        }
        _ => return None,
    };
    if token[0] != b'$' && matches!(token.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(token.get(end + 1), Some(b'+' | b'-')));
        let exponent = end + 1 + sign;
        if token.get(exponent).is_some_and(u8::is_ascii_digit) {
            end = digits(exponent);
        }
    }
    (end < token.len()).then_some(end)
}

/// What goes on a word, as scan.l's `ident_cont`.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
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
