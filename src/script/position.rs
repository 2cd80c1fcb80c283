use std::fmt;

/// A place in a script, as editors count: lines and columns from 1, columns in characters.
///
/// Only a line feed ends a line, so CRLF files count as they look.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Turns ascending byte offsets into positions in one pass over the text, however long its lines.
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    byte: usize,
    at: Position,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), byte: 0, at: Position { line: 1, column: 1 } }
    }

    /// The position of a byte offset; an offset beyond the end is the end's. Going back starts
    /// again from the beginning.
    pub fn position(&mut self, byte: usize) -> Position {
        let byte = byte.min(self.text.len());
        if byte < self.byte {
            self.byte = 0;
            self.at = Position { line: 1, column: 1 };
        }
        for &b in &self.text[self.byte..byte] {
            if b == b'\n' {
                self.at.line = self.at.line.saturating_add(1);
                self.at.column = 1;
            } else if !is_continuation(b) {
                self.at.column = self.at.column.saturating_add(1);
            }
        }
        self.byte = byte;
        self.at
    }
}

/// A byte of a UTF-8 character other than its first.
fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_line_feeds() {
        let text = "é x\r\n  ü;\n";
        let mut cursor = Cursor::new(text);
        let mut at = |needle: &str| {
            let p = cursor.position(text.find(needle).unwrap());
            (p.line, p.column)
        };
        assert_eq!(at("x"), (1, 3));
        assert_eq!(at(";"), (2, 4));
        assert_eq!(at("ü"), (2, 3), "going back works too");
        assert_eq!(cursor.position(usize::MAX), Position { line: 3, column: 1 });
    }
}
