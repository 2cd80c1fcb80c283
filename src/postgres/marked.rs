//! A script's text with its statements' numbers between them, for [`super::watch`] to see, and the way back.

use std::ops::Range;

use super::quote::Literal;
use super::watch::name_with_statement;
use crate::script::Script;

/// The most marks in one script: each costs the server a few microseconds.
const MARKS: usize = 100;

/// How what the server says of a text that was sent is said of the script.
#[derive(Default)]
pub(super) struct Marked {
    characters: usize,
    /// Where marks are: the characters of the text before them, and their own.
    marks: Vec<(usize, usize)>,
    /// For each statement that the server answers, its number in the script, from 0.
    answers: Vec<usize>,
}

/// What a script's message says before the statement of this number, from 0.
pub(super) fn mark(application: &str, number: usize) -> String {
    format!("SET application_name = {};", Literal(&name_with_statement(application, number + 1)))
}

impl Marked {
    /// Adds these bytes of a script's executable text, which hold these statements, to what is sent. Marks all but the script's
    /// first one, under the application's name, if one is given; in long scripts, not each of them.
    pub fn append(
        text: &mut String,
        script: &Script,
        plain: &str,
        bytes: Range<usize>,
        statements: Range<usize>,
        marks: Option<&str>,
    ) -> Self {
        let every = script.statements.len().div_ceil(MARKS).max(1);
        // With room for the ledger's row.
        text.reserve(bytes.len() + bytes.len() / 4 + 2048);
        let mut marked =
            Self { characters: 0, marks: Vec::new(), answers: Vec::with_capacity(statements.len() + MARKS) };
        let mut copied = bytes.start;
        let numbered = script.statements.iter().enumerate().take(statements.end).skip(statements.start);
        for (number, statement) in numbered {
            if let Some(application) = marks.filter(|_| number > 0 && number % every == 0) {
                let before = plain.get(copied..statement.range.start).unwrap_or_default();
                text.push_str(before);
                marked.characters += before.chars().count();
                copied = statement.range.start;
                let mark = mark(application, number);
                marked.marks.push((marked.characters, mark.chars().count()));
                text.push_str(&mark);
                marked.answers.push(number);
            }
            marked.answers.push(number);
        }
        let rest = plain.get(copied..bytes.end).unwrap_or_default();
        text.push_str(rest);
        marked.characters += rest.chars().count();
        marked
    }

    /// How many statements the server answers.
    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    /// The number in the script, from 0, of what runs after `answered` answers. None: all of it is done.
    pub fn statement(&self, answered: usize) -> Option<usize> {
        self.answers.get(answered).copied()
    }

    /// A character of the text that was sent, from 1, as one of the script. None: it is not in it.
    pub fn character(&self, sent: usize) -> Option<usize> {
        let mut character = sent;
        for (at, length) in self.marks.iter().rev() {
            // Marks behind this one are taken off already: what is left counts those before it too.
            let before: usize = self.marks.iter().take_while(|(other, _)| other < at).map(|(_, length)| length).sum();
            if sent > at + before {
                character = (sent - before - length).max(at + 1);
                break;
            }
        }
        (1..=self.characters + 1).contains(&character).then_some(character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::History;

    fn script(text: &str) -> std::sync::Arc<Script> {
        let history = History::from_files([("1_x.sql".to_owned(), text.as_bytes().to_vec())]).unwrap();
        history.latest().unwrap().clone()
    }

    fn whole(script: &Script) -> (String, Marked) {
        let mut sent = String::new();
        let (bytes, statements) = (0..script.text.len(), 0..script.statements.len());
        let marked = Marked::append(&mut sent, script, &script.text, bytes, statements, Some("belay/x"));
        (sent, marked)
    }

    #[test]
    fn a_place_in_what_is_sent_is_the_same_place_in_the_script() {
        let text = "-- é\nSELECT 'é🧗';\n/* x */ SELECT two ; ;\nSELECT three";
        let script = script(text);
        let (sent, marked) = whole(&script);
        assert_eq!(sent.matches("SET application_name").count(), 2);
        for word in ["'é🧗'", "two", "three"] {
            let in_characters = |text: &str| text[..text.find(word).unwrap()].chars().count() + 1;
            assert_eq!(marked.character(in_characters(&sent)), Some(in_characters(text)), "{word}");
        }
        assert_eq!(marked.character(sent.chars().count() + 1), Some(text.chars().count() + 1));
        assert_eq!(marked.character(sent.chars().count() + 2), None);
        assert_eq!(marked.character(0), None);
        let statements: Vec<_> = (0..6).map(|answered| marked.statement(answered)).collect();
        assert_eq!(statements, [Some(0), Some(1), Some(1), Some(2), Some(2), None]);
    }

    #[test]
    fn a_long_script_has_a_bounded_number_of_marks() {
        let (_, marked) = whole(&script(&"SELECT 1;".repeat(1001)));
        assert!(marked.marks.len() <= MARKS);
        assert_eq!(marked.answers(), 1001 + marked.marks.len());
    }
}
