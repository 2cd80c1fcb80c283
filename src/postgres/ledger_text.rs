//! A script's text as the ledger keeps it: without the data of COPY and without passwords, and of a very long one the
//! beginning.

use std::borrow::Cow;

use memchr::memchr2_iter;

use crate::script::Script;

const WITHHELD: &str = "********";

/// The most that is kept of a text, in bytes: as much as a ConfigMap can hold. Whoever seeds a table by a script of many
/// megabytes has it once in the database, and not twice.
const MOST: usize = 1024 * 1024;

/// How the line begins that stands where something was left out.
const LEFT_OUT: &str = "-- Belay left ";

/// A script's text as the ledger keeps it.
pub fn kept_text(script: &Script) -> Cow<'_, str> {
    let text = script.text.as_str();
    let mut kept = Cow::Borrowed("");
    let mut at = 0;
    for data in script.statements.iter().filter_map(|statement| statement.copy_data.clone()) {
        if !data.is_empty() {
            kept += &text[at..data.start];
            kept.to_mut().push_str(&format!("{LEFT_OUT}the data out\n"));
            at = data.end;
        }
    }
    kept += &text[at..];
    match kept {
        Cow::Borrowed(kept) => beginning(kept),
        Cow::Owned(kept) => Cow::Owned(beginning(&kept).into_owned()),
    }
}

/// Whether a text that was kept is all of the script's.
pub fn is_whole(kept: &str) -> bool {
    !kept.contains(LEFT_OUT) && !kept.contains(WITHHELD)
}

/// As many lines of it as are kept, without passwords.
fn beginning(text: &str) -> Cow<'_, str> {
    if text.len() <= MOST {
        return passwords(text);
    }
    let most = text.floor_char_boundary(MOST);
    let end = text[..most].rfind('\n').unwrap_or(most);
    let kept = passwords(&text[..end]);
    Cow::Owned(format!("{kept}\n{LEFT_OUT}the other {} bytes out\n", text.len() - end))
}

/// A rollback's text.
pub(super) fn rollback(text: &str) -> Cow<'_, str> {
    passwords(text)
}

/// The text with each value behind the word PASSWORD withheld: in `PASSWORD 'x'`, in `OPTIONS (password 'x')`, and
/// in connection strings with `password=x`. Rather one too many, a comment's, than one too few.
fn passwords(text: &str) -> Cow<'_, str> {
    const WORD: &str = "password";
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    for word in occurrences(text, WORD) {
        if word < copied {
            continue;
        }
        let at = word + WORD.len();
        let mut start = at;
        while bytes.get(start).is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'=')) {
            start += 1;
        }
        let assigned = bytes[at..start].contains(&b'=');
        if let Some(value) = value_at(text, start, assigned) {
            out.push_str(&text[copied..value.start]);
            out.push_str(WITHHELD);
            copied = value.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Where a text has this word, in any case; it is in small letters of ASCII.
pub(super) fn occurrences<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let first = word.as_bytes().first().copied().unwrap_or_default();
    memchr2_iter(first, first.to_ascii_uppercase(), text.as_bytes()).filter(move |at| {
        text.as_bytes().get(*at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    })
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
    use crate::script::History;
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

    fn kept(text: &str) -> String {
        let history = History::from_files([("1_x.sql".to_owned(), text.as_bytes().to_vec())]).unwrap();
        kept_text(history.latest().unwrap()).into_owned()
    }

    #[test]
    fn of_a_very_long_script_the_first_mebibyte_is_kept_and_it_says_so() {
        let line = "INSERT INTO t VALUES ('é');\n";
        let kept = kept(&line.repeat(100_000));
        assert!(kept.len() <= MOST + 100, "{}", kept.len());
        let (text, note) = kept.split_at(kept.find(LEFT_OUT).unwrap());
        assert!(text.len() + line.len() >= MOST && text.lines().all(|kept| kept == line.trim_end()));
        assert_eq!(note, format!("{LEFT_OUT}the other {} bytes out\n", line.len() * 100_000 - text.len() + 1));
    }

    #[test]
    fn the_data_of_copy_are_left_out_and_what_stands_around_them_is_kept() {
        let text = "SELECT 1;\nCOPY t FROM stdin;\n1\n2\n\\.\nSELECT 2;\nCOPY t FROM stdin;\n\\.\n";
        assert_eq!(kept(text), text.replace("1\n2\n", "-- Belay left the data out\n"));
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
