//! A script's text as the ledger keeps it: without the data of COPY, and without passwords.

use std::borrow::Cow;

use crate::script::Script;

const WITHHELD: &str = "********";

/// The script's own text.
pub(super) fn script(script: &Script) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(script.text.as_str());
    // From the end, so that offsets before it stay.
    for statement in script.statements.iter().rev() {
        if let Some(data) = statement.copy_data.clone().filter(|data| !data.is_empty()) {
            text.to_mut().replace_range(data, "-- Belay left the data out\n");
        }
    }
    match passwords(&text) {
        Cow::Owned(text) => Cow::Owned(text),
        Cow::Borrowed(_) => text,
    }
}

/// A rollback's text.
pub(super) fn rollback(text: &str) -> Cow<'_, str> {
    passwords(text)
}

/// The text with each value behind the word PASSWORD withheld: in `PASSWORD 'x'`, in `OPTIONS (password 'x')`, and
/// in connection strings with `password=x`. Rather one too many, a comment's, than one too few.
fn passwords(text: &str) -> Cow<'_, str> {
    const WORD: &[u8] = b"password";
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while at + WORD.len() <= bytes.len() {
        if !bytes[at..at + WORD.len()].eq_ignore_ascii_case(WORD) {
            at += 1;
            continue;
        }
        at += WORD.len();
        let mut start = at;
        while bytes.get(start).is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'=')) {
            start += 1;
        }
        let assigned = bytes[at..start].contains(&b'=');
        if let Some(value) = value_at(text, start, assigned) {
            out.push_str(&text[copied..value.start]);
            out.push_str(WITHHELD);
            copied = value.end;
            at = value.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The inside of the value at `start`: a string of any kind, or, in a connection string, a bare word.
fn value_at(text: &str, start: usize, assigned: bool) -> Option<std::ops::Range<usize>> {
    let rest = text.get(start..)?;
    let bytes = rest.as_bytes();
    let quote = match bytes {
        [b'e' | b'E', b'\'', ..] => 1,
        [b'u' | b'U', b'&', b'\'', ..] => 2,
        [b'\'', ..] => 0,
        [b'$', ..] => {
            let open = rest[1..].find('$')? + 2;
            let tag = &rest[..open];
            if !tag[1..tag.len() - 1].chars().all(|char| char.is_alphanumeric() || char == '_') {
                return None;
            }
            let end = rest[open..].find(tag).map_or(rest.len(), |end| open + end);
            return Some(start + open..start + end);
        }
        _ if assigned => {
            let end = rest.find(|char: char| char.is_whitespace() || matches!(char, '\'' | ';' | '&' | ')'));
            let end = end.unwrap_or(rest.len());
            return (end > 0).then_some(start..start + end);
        }
        _ => return None,
    };
    let open = quote + 1;
    let mut end = open;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' if quote == 1 => end += 2,
            b'\'' if bytes.get(end + 1) == Some(&b'\'') => end += 2,
            b'\'' => break,
            _ => end += 1,
        }
    }
    let end = end.min(bytes.len());
    // A backslash before a character of several bytes: step to its end.
    let end = (end..=bytes.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(bytes.len());
    Some(start + open..start + end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_are_withheld_in_every_form() {
        for sql in [
            "ALTER ROLE x PASSWORD 'hunter2'",
            "alter role x password\n  E'hunter2\\'hunter2' valid until 'x'",
            "CREATE USER x WITH ENCRYPTED PASSWORD 'hunter2''hunter2'",
            "CREATE USER x PASSWORD $$hunter2$$; SELECT 1",
            "CREATE USER x PASSWORD $a$hunter2$a$; SELECT 1",
            "CREATE USER MAPPING FOR x SERVER y OPTIONS (user 'z', password 'hunter2')",
            "CREATE USER MAPPING FOR x SERVER y OPTIONS (\"password\" 'hunter2')",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2 dbname=d' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password = hunter2' PUBLICATION p",
            "ALTER ROLE x PASSWORD U&'hunter2'",
            "ALTER ROLE x PASSWORD 'hunter2",
        ] {
            let kept = passwords(sql);
            assert!(!kept.contains("hunter2") && kept.contains(WITHHELD), "{kept}");
        }
    }

    #[test]
    fn other_text_stays() {
        for sql in ["CREATE TABLE t (password text NOT NULL)", "SELECT password FROM t", "ALTER ROLE x PASSWORD NULL"] {
            assert_eq!(passwords(sql), sql);
        }
    }

    proptest! {
        #![proptest_config(crate::testing::same_cases(256))]

        #[test]
        fn no_text_is_too_odd(text in "(password|PASSWORD|[ ='$eEuU&\\\\]|é|x)*") {
            passwords(&text);
        }
    }
}
