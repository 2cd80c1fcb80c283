use super::lexer::{Kind, Lexer, Token};

/// The first tokens of one statement, comments and white space left out.
pub(super) struct Words<'a> {
    text: &'a str,
    tokens: &'a [(Token, u32)],
    first: &'a str,
}

/// How many tokens of a statement are looked at: more than the columns a table can have, twice.
/// What is told about a statement is told in its beginning; the values of a long INSERT need no room.
pub(super) const MOST: usize = 4096;

/// The tokens of a text but comments and white space, with their depth in parentheses.
pub(super) fn significant(text: &str) -> impl Iterator<Item = (Token, u32)> {
    let mut depth = 0u32;
    let tokens = Lexer::new(text);
    tokens.filter(|token| !matches!(token.kind, Kind::Space | Kind::LineComment | Kind::BlockComment)).map(
        move |token| {
            if token.kind == Kind::CloseParen {
                depth = depth.saturating_sub(1);
            }
            let of_token = depth;
            if token.kind == Kind::OpenParen {
                depth = depth.saturating_add(1);
            }
            (token, of_token)
        },
    )
}

impl<'a> Words<'a> {
    /// `tokens` come with their depth in parentheses.
    pub fn new(text: &'a str, tokens: &'a [(Token, u32)]) -> Self {
        let first = tokens.first().and_then(|(token, _)| text.get(token.start..token.end)).unwrap_or_default();
        Self { text, tokens, first }
    }

    /// The same statement from a token on.
    pub fn tail(&self, at: usize) -> Words<'a> {
        Words::new(self.text, self.tokens.get(at..).unwrap_or_default())
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|(token, _)| token.kind)
    }

    pub fn depth(&self, at: usize) -> u32 {
        self.tokens.get(at).map_or(0, |(_, depth)| *depth)
    }

    /// The text of a token, as it was written.
    pub fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).and_then(|(token, _)| self.text.get(token.start..token.end)).unwrap_or_default()
    }

    /// The text from a token on, up to the last one.
    pub fn from(&self, at: usize) -> &'a str {
        match (self.tokens.get(at), self.tokens.last()) {
            (Some((token, _)), Some((last, _))) => self.text.get(token.start..last.end).unwrap_or_default(),
            _ => "",
        }
    }

    /// Whether the token is this word, in any case, without quotes.
    pub fn is(&self, at: usize, word: &str) -> bool {
        self.is_word(at, word.as_bytes())
    }

    fn is_word(&self, at: usize, word: &[u8]) -> bool {
        let Some((token, _)) = self.tokens.get(at) else { return false };
        token.kind == Kind::Word
            && token.end - token.start == word.len()
            && self.text.as_bytes().get(token.start..token.end).is_some_and(|text| text.eq_ignore_ascii_case(word))
    }

    /// Where the statement goes on after a pattern that matches from `at`. In a pattern, words stand
    /// one after the other; `A|B` is either, and what is in brackets may be left out, or repeated:
    /// `CREATE [UNIQUE] INDEX|VIEW`.
    pub fn after(&self, mut at: usize, pattern: &str) -> Option<usize> {
        // This is asked of nearly every token, and nearly always in vain.
        if self.kind(at) != Some(Kind::Word) && !pattern.starts_with('[') {
            return None;
        }
        let one_of = |at: usize, choice: &[u8]| choice.split(|byte| *byte == b'|').any(|word| self.is_word(at, word));
        for part in pattern.as_bytes().split(|byte| *byte == b' ') {
            match part {
                [b'[', choice @ .., b']'] => {
                    while one_of(at, choice) {
                        at += 1;
                    }
                }
                _ if one_of(at, part) => at += 1,
                _ => return None,
            }
        }
        Some(at)
    }

    /// Whether the statement begins so. The pattern's first word is one word and not in brackets, so
    /// that most patterns are done with at a glance.
    pub fn starts(&self, pattern: &str) -> bool {
        let (first, pattern_bytes) = (self.first.as_bytes(), pattern.as_bytes());
        first.first().map(u8::to_ascii_uppercase) == pattern_bytes.first().copied()
            && pattern_bytes.get(..first.len()).is_some_and(|word| word.eq_ignore_ascii_case(first))
            && pattern_bytes.get(first.len()).is_none_or(|byte| *byte == b' ')
            && self.after(0, pattern).is_some()
    }

    /// Where this word is next, outside parentheses, from `at` on.
    pub fn find(&self, at: usize, word: &str) -> Option<usize> {
        (at..self.len()).find(|&i| self.depth(i) == 0 && self.is(i, word))
    }

    /// The value of an option in a parenthesised list, in lower case and without quotes: `name`,
    /// `name value` or `name = value`; a name alone is `true`, as PostgreSQL reads it.
    pub fn option(&self, name: &str) -> Option<String> {
        let at = (0..self.len()).find(|&i| self.depth(i) == 1 && self.is(i, name))?;
        let value = if self.kind(at + 1) == Some(Kind::Equals) { at + 2 } else { at + 1 };
        match self.kind(value)? {
            Kind::Word | Kind::Text => Some(self.text(value).trim_matches('\'').to_ascii_lowercase()),
            Kind::Other if self.text(value) != "," => Some(self.text(value).to_owned()),
            _ => Some("true".to_owned()),
        }
    }

    /// Whether an option is there and says no.
    pub fn option_is_off(&self, name: &str) -> bool {
        self.option(name).is_some_and(|value| matches!(value.as_str(), "false" | "off" | "0" | "no"))
    }

    /// How many words the statement begins with, before any other token.
    pub fn leading(&self) -> usize {
        self.tokens.iter().take_while(|(token, _)| token.kind == Kind::Word).count()
    }
}
