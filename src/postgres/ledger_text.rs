//! A script's text as the ledger keeps it: without the data of COPY and without passwords, and of a very long one the
//! beginning.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr2_iter, memmem};

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
/// in connection strings with `password=x`; and what stands before the `@` of a URI. Rather one too many, a comment's,
/// than one too few: what looks like a value may hold the word of the true one.
fn passwords(text: &str) -> Cow<'_, str> {
    let mut secrets: Vec<_> = values(text).chain(in_uris(text)).collect();
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    secrets.sort_unstable_by_key(|secret| secret.start);
    let mut out = String::new();
    let mut at = 0;
    for secret in secrets {
        // Else it begins in what is withheld already.
        if secret.start >= at {
            out.push_str(&text[at..secret.start]);
            out.push_str(WITHHELD);
        }
        at = at.max(secret.end);
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

/// Where the values behind the word are.
fn values(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    const WORD: &str = "password";
    let bytes = text.as_bytes();
    occurrences(text, WORD).filter_map(move |word| {
        let at = word + WORD.len();
        let mut start = at;
        while bytes.get(start).is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'=')) {
            start += 1;
        }
        value_at(text, start, bytes[at..start].contains(&b'='))
    })
}

/// Where passwords are in URIs: `postgresql://user:password@host`.
fn in_uris(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    const SLASHES: &str = "://";
    memmem::find_iter(text.as_bytes(), SLASHES).filter_map(move |at| {
        let start = at + SLASHES.len();
        let authority = text[start..].split(|char: char| char == '/' || char.is_whitespace()).next()?;
        let (colon, at) = (authority.find(':')?, authority.rfind('@')?);
        (colon < at).then_some(start + colon + 1..start + at)
    })
}

/// Where a text has this word, in any case; it is in small letters of ASCII.
pub(super) fn occurrences<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let first = word.as_bytes().first().copied().unwrap_or_default();
    memchr2_iter(first, first.to_ascii_uppercase(), text.as_bytes()).filter(move |at| {
        text.as_bytes().get(*at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// The inside of the value at `start`: a string of any kind; where it is `assigned`, also what a connection string may
/// have there.
fn value_at(text: &str, start: usize, assigned: bool) -> Option<Range<usize>> {
    /// More is no password, and a text full of the word would be read over and over.
    const LONGEST: usize = 4 * 1024;
    let rest = text.get(start..)?;
    let rest = &rest[..rest.floor_char_boundary(LONGEST)];
    let inside = match assigned {
        true => nested(rest).or_else(|| string(rest, true)).or_else(|| bare(rest)),
        false => string(rest, false).or_else(|| dollar_quoted(rest)),
    }?;
    // A backslash before a character of several bytes: step to its end.
    Some(start + inside.start..start + rest.ceil_char_boundary(inside.end))
}

/// The inside of a string in quotes. In a connection string a backslash escapes in any of them.
fn string(rest: &str, assigned: bool) -> Option<Range<usize>> {
    let bytes = rest.as_bytes();
    let (open, escapes) = match bytes {
        [b'e' | b'E', b'\'', ..] => (2, true),
        [b'u' | b'U', b'&', b'\'', ..] => (3, assigned),
        [b'\'', ..] => (1, assigned),
        _ => return None,
    };
    Some(open..until(bytes, open, escapes, |byte| byte == b'\''))
}

/// A word of a connection string; or what may also stand there, a string in dollars.
fn bare(rest: &str) -> Option<Range<usize>> {
    let word = until(rest.as_bytes(), 0, true, |byte| byte == b'\'' || byte.is_ascii_whitespace());
    let dollars = dollar_quoted(rest).filter(|inside| inside.end < rest.len());
    let end = dollars.map_or(word, |inside| inside.end.max(word));
    (end > 0).then_some(0..end)
}

/// Where a byte ends it that is neither a doubled quote nor, if that `escapes`, behind a backslash.
fn until(bytes: &[u8], from: usize, escapes: bool, ends: fn(u8) -> bool) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if escapes => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            byte if ends(byte) => break,
            _ => at += 1,
        }
    }
    at
}

/// The inside of a string in dollars.
fn dollar_quoted(rest: &str) -> Option<Range<usize>> {
    let open = rest.strip_prefix('$')?.find('$')? + 2;
    let tag = &rest[1..open - 1];
    if tag.starts_with(|c: char| c.is_ascii_digit()) || !tag.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let end = rest[open..].find(&rest[..open]).map_or(rest.len(), |end| open + end);
    Some(open..end)
}

/// The inside of a value in quotes in a connection string that is itself in quotes: they are doubled, or each is behind
/// a backslash. None also for an empty string: the next quote behind it is a single one.
fn nested(rest: &str) -> Option<Range<usize>> {
    let quotes = rest.bytes().take_while(|byte| *byte == b'\'').count();
    let (open, quote, escape) = match quotes {
        0 if rest.starts_with("\\'") => (2, "\\'", "\\\\"),
        0 | 1 => return None,
        _ => (quotes, "''", "\\"),
    };
    let is_at = |at: usize, what: &str| rest.as_bytes()[at..].starts_with(what.as_bytes());
    let mut end = open;
    while end < rest.len() && !is_at(end, quote) {
        if is_at(end, "'") {
            return None;
        }
        if is_at(end, escape) {
            end += escape.len();
        }
        end += if end < rest.len() && is_at(end, quote) { quote.len() } else { 1 };
    }
    (end < rest.len()).then_some(open..end)
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
            r"CREATE SUBSCRIPTION s CONNECTION 'host=h password=''hunter2'' dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION 'host=h password=''x\''hunter2'' dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION 'host=h password=$hunter2 dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION 'host=h password=$1$hunter2 dbname=d' PUBLICATION p; SELECT '$1$'",
            r"CREATE SUBSCRIPTION s CONNECTION 'host=h password=$a$b$a$hunter2 dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION 'host=h password=x;)&hunter2 dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION 'host=h password=x\ hunter2 dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION E'host=h password=\'hunter2\' dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION E'host=h password=\'x\\\'hunter2\' dbname=d' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION $$host=h password='x\'hunter2' dbname=d$$ PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'postgresql://u:hunter2@h/d' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'postgresql://h/d?user=u&password=hunter2' PUBLICATION p",
            "SELECT * FROM dblink('postgres://u:hunter2@h:5432/d', 'SELECT 1') AS t (a int)",
            "DO $$ BEGIN EXECUTE 'SELECT dblink_connect(''host=h password=''''hunter2'''' dbname=d'')'; END $$",
            "UPDATE t SET password = '' WHERE password = 'hunter2'",
            "COMMENT ON COLUMN t.a IS 'the password'; ALTER ROLE x PASSWORD 'hunter2'",
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
        for sql in [
            "CREATE TABLE t (password text NOT NULL)",
            "SELECT password FROM t",
            "ALTER ROLE x PASSWORD NULL",
            "SELECT 'http://h:8080/a@b', 'postgresql://u@h:5432/d', 'see http://h:80 or a@b'",
        ] {
            assert_eq!(passwords(sql), sql);
        }
    }

    proptest! {
        #![proptest_config(crate::testing::same_cases(256))]

        #[test]
        fn no_text_is_too_odd(text in "(password|PASSWORD|://|[ ='$eEuU&:@\\\\]|é|x)*") {
            passwords(&text);
        }
    }
}
