//! Texts in which lines of comments say what belongs to what.

/// A line of a text.
pub(super) struct Line<'a> {
    /// From 1.
    pub number: u32,
    /// Its bytes in the text, without the end of the line.
    pub start: usize,
    pub text: &'a str,
    /// Where the next one begins.
    pub end: usize,
}

/// The lines of a text, with their places. A carriage return before a line feed is not part of a line.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    text.split_inclusive('\n').zip(1..).map(move |(line, number)| {
        let (at, end) = (start, start + line.len());
        start = end;
        Line { number, start: at, text: line.trim_end_matches('\n').trim_end_matches('\r'), end }
    })
}
