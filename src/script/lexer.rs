//! PostgreSQL's tokens, as far as splitting needs them: what scan.l and psqlscan.l tell apart and a statement's end, its
//! beginning or its comments depend on. Operators are taken sign by sign.
//!
//! A number ends where PostgreSQL 14 ends it (later ones refuse what differs): `1e$$` is `1` and the word `e$$`. A byte order
//! mark, wherever it stands, is a letter, as every character beyond ASCII.

use memchr::{memchr, memchr2, memmem};

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
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
    /// The text ends in the middle of it.
    pub unterminated: bool,
}

/// The tokens of a text in order, without a gap between them.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    /// Goes on at this byte offset, which must be a character's boundary.
    pub fn seek(&mut self, byte: usize) {
        self.at = byte;
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let (text, start) = (self.text, self.at);
        let first = *text.get(start)?;
        let second = text.get(start + 1).copied().unwrap_or_default();
        let one = |kind| (kind, Some(start + 1));
        // Where it ends, if it does.
        let (kind, end) = match (first, second) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C, _) => (Kind::Space, Some(run(text, start + 1, is_space))),
            (b'-', b'-') => (Kind::LineComment, Some(line_end(text, start))),
            (b'/', b'*') => (Kind::BlockComment, block_comment_end(text, start + 2)),
            (b'e' | b'E', b'\'') => (Kind::Text, escape_string_end(text, start + 2)),
            (b'b' | b'B' | b'n' | b'N' | b'x' | b'X', b'\'') => (Kind::Text, quoted_end(text, start + 2, b'\'')),
            (b'u' | b'U', b'&') => match text.get(start + 2) {
                Some(b'\'') => (Kind::Text, quoted_end(text, start + 3, b'\'')),
                Some(b'"') => (Kind::Other, quoted_end(text, start + 3, b'"')),
                _ => one(Kind::Word),
            },
            (b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.., _) => (Kind::Word, Some(run(text, start + 1, is_word))),
            (b'\'', _) => (Kind::Text, quoted_end(text, start + 1, b'\'')),
            (b'"', _) => (Kind::Other, quoted_end(text, start + 1, b'"')),
            (b'$', _) => match dollar_tag(text, start) {
                Some(open) => (Kind::Text, dollar_quoted_end(text, start, open)),
                None => (Kind::Other, Some(run(text, start + 1, |byte| byte.is_ascii_digit()))),
            },
            (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => (Kind::Other, Some(number_end(text, start))),
            (b'.', b'.') => (Kind::Other, Some(start + 2)),
            (b'.', _) => one(Kind::Dot),
            (b'(', _) => one(Kind::OpenParen),
            (b')', _) => one(Kind::CloseParen),
            (b';', _) => one(Kind::Semicolon),
            (b'=', _) => one(Kind::Equals),
            (b'\\', _) => one(Kind::Backslash),
            _ => one(Kind::Other),
        };
        self.at = end.unwrap_or(text.len());
        Some(Token { start, end: self.at, kind, unterminated: end.is_none() })
    }
}

/// Where bytes of a kind end that go on at `at`.
fn run(text: &[u8], at: usize, is: impl Fn(u8) -> bool) -> usize {
    text[at..].iter().position(|byte| !is(*byte)).map_or(text.len(), |length| at + length)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

/// What goes on a word, as scan.l's `ident_cont`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn line_end(text: &[u8], at: usize) -> usize {
    memchr2(b'\n', b'\r', &text[at..]).map_or(text.len(), |length| at + length)
}

/// Comments nest.
fn block_comment_end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1u32;
    loop {
        at += memchr2(b'*', b'/', text.get(at..)?)?;
        match (text[at], text.get(at + 1)?) {
            (b'/', b'*') => depth += 1,
            (b'*', b'/') if depth == 1 => return Some(at + 2),
            (b'*', b'/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
}

/// Where what is quoted from `at` on ends, behind its closing quote; a doubled one stands for itself.
fn quoted_end(text: &[u8], mut at: usize, quote: u8) -> Option<usize> {
    loop {
        at += memchr(quote, text.get(at..)?)? + 1;
        if text.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// The end of a string with backslashes whose content starts at `at`. Where it goes on in another line, backslashes are
/// escapes as well.
fn escape_string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut end = backslashed_end(text, at)?;
    while let Some(quote) = continuation(text, end) {
        end = backslashed_end(text, quote + 1)?;
    }
    Some(end)
}

fn backslashed_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'\\', b'\'', text.get(at..)?)?;
        match (text[at], text.get(at + 1)) {
            (b'\\', _) | (_, Some(b'\'')) => at += 2,
            _ => return Some(at + 1),
        }
    }
}

/// Where the string constant that ended at `at` goes on: at a quote after white space with a newline in it (scan.l's
/// `quotecontinue`; line comments count as white space).
fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut newline = false;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => newline = true,
            b'\'' => return newline.then_some(at),
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at = line_end(text, at);
                continue;
            }
            byte if is_space(*byte) => {}
            _ => return None,
        }
        at += 1;
    }
}

/// The first byte behind `$$` or `$tag$`, if that is what stands at `at`.
fn dollar_tag(text: &[u8], at: usize) -> Option<usize> {
    let tag = at + 1;
    match text.get(tag)? {
        b'$' => Some(tag + 1),
        b'0'..=b'9' => None,
        first if is_word(*first) => {
            let end = run(text, tag, |byte| byte != b'$' && is_word(byte));
            (text.get(end) == Some(&b'$')).then_some(end + 1)
        }
        _ => None,
    }
}

/// The end of what is quoted by the tag in `at..open`.
fn dollar_quoted_end(text: &[u8], at: usize, open: usize) -> Option<usize> {
    memmem::find(&text[open..], &text[at..open]).map(|length| open + length + (open - at))
}

fn number_end(text: &[u8], at: usize) -> usize {
    let digits = |from: usize| run(text, from, |byte| byte.is_ascii_digit());
    let mut end = digits(at);
    // `1..2` is a range of PL/pgSQL's.
    if text.get(end) == Some(&b'.') && text.get(end + 1) != Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = end + 1 + sign;
        if text.get(exponent).is_some_and(u8::is_ascii_digit) {
            end = digits(exponent);
        }
    }
    end
}
