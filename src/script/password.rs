//! Where passwords are in a text.
//!
//! In SQL, tokens tell where a value behind the word PASSWORD begins and ends. A string or a comment may be SQL in its
//! turn, a connection string, or prose, with quotes that are doubled or escaped however often: of a value in it, only the
//! beginning is looked for, and all behind that counts as the value. Rather too much than too little.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2_iter, memmem};

use super::lexer::{Kind, Lexer, Token};

const WORD: &str = "password";

/// What stands where a password was left out.
pub const WITHHELD: &str = "********";

/// How many bodies in one another are read as SQL; what lies deeper counts as any other string.
const DEEPEST: u32 = 8;

/// The bytes of each password in SQL, in order: in `PASSWORD 'x'`, in `OPTIONS (password 'x')`, in connection strings
/// with `password=x`, and what stands before the `@` of a URI.
pub fn passwords(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<_> = in_uris(text, true).collect();
    if names_password(text) {
        in_sql(text, 0, DEEPEST, &mut found);
    }
    in_order(found)
}

/// A text with these bytes of it withheld.
pub fn withheld<'a>(text: &'a str, secrets: &[Range<usize>]) -> Cow<'a, str> {
    let mut kept = Cow::Borrowed("");
    let mut at = 0;
    for secret in secrets {
        kept += &text[at..secret.start];
        kept += WITHHELD;
        at = secret.end;
    }
    kept += &text[at..];
    kept
}

/// A text that is no SQL, without its passwords.
pub fn prose_without_passwords(text: &str) -> Cow<'_, str> {
    withheld(text, &passwords_in_prose(text))
}

/// The bytes of each password in a text that is no SQL.
fn passwords_in_prose(text: &str) -> Vec<Range<usize>> {
    let value = in_prose(text).value.map(|start| start..text.len());
    in_order(in_uris(text, false).chain(value).collect())
}

/// Without what lies in another one.
fn in_order(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.retain(|secret| !secret.is_empty());
    found.sort_unstable_by_key(|secret| secret.start);
    found.dedup_by(|next, secret| {
        let meet = next.start <= secret.end;
        if meet {
            secret.end = secret.end.max(next.end);
        }
        meet
    });
    found
}

/// Whether a text has the word for what is to be hidden.
pub fn names_password(text: &str) -> bool {
    occurrences(text, WORD).next().is_some()
}

/// Where a text has this word, in any case; it is in small letters of ASCII.
pub fn occurrences<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let first = word.as_bytes().first().copied().unwrap_or_default();
    memchr2_iter(first, first.to_ascii_uppercase(), text.as_bytes()).filter(move |at| {
        text.as_bytes().get(*at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// Where passwords are in URIs: `postgresql://user:password@host`. `blanks`: they may have some, which prose has behind a URI.
fn in_uris(text: &str, blanks: bool) -> impl Iterator<Item = Range<usize>> + '_ {
    const SLASHES: &str = "://";
    memmem::find_iter(text.as_bytes(), SLASHES).filter_map(move |at| {
        let start = at + SLASHES.len();
        let mut authority = text[start..].split(|char: char| char == '/' || char.is_whitespace()).next()?;
        if blanks
            && !authority.contains('@')
            && (text[..at].ends_with("postgres") || text[..at].ends_with("postgresql"))
        {
            authority = with_blanks(&text[start..]);
        }
        let (colon, at) = (authority.find(':')?, authority.rfind('@')?);
        (colon < at).then_some(start + colon + 1..start + at)
    })
}

/// What may be the authority of a URI whose password has blanks, or that goes on in a string on the next line.
fn with_blanks(text: &str) -> &str {
    let mut at = 0;
    while let Some(end) = text[at..].find(['/', '\'', '\n']).map(|end| at + end) {
        let behind = &text[end + 1..];
        let blank = behind.len() - behind.trim_start().len();
        let goes_on =
            text[end..].starts_with('\'') && behind[..blank].contains('\n') && behind[blank..].starts_with('\'');
        if !goes_on {
            return &text[..end];
        }
        at = end + 1 + blank + 1;
    }
    text
}

/// Where they are behind the word in SQL that begins at byte `at` of the whole text.
fn in_sql(text: &str, at: usize, deeper: u32, found: &mut Vec<Range<usize>>) {
    // From this byte on strings are a value, and what goes on with it; whether it is assigned to the word.
    let mut value: Option<(usize, bool)> = None;
    // In parentheses of this depth, up to the end of the statement, strings are parts that a value is made of.
    let mut parts: Option<u32> = None;
    // In parentheses of this depth a variable or a column is declared that is called by the word.
    let mut declared: Option<u32> = None;
    let mut depth = 0u32;
    let mut before = ["", ""];
    let mut is_setting = false;
    let mut lexer = Lexer::new(text);
    while let Some(mut token) = lexer.next() {
        if token.kind == Kind::Backslash {
            // psql's, up to the end of the line.
            token.end = memchr(b'\n', &text.as_bytes()[token.end..]).map_or(text.len(), |length| token.end + length);
            lexer.seek(token.end);
        }
        let source = &text[token.start..token.end];
        let inside = inside(text, token);
        let in_quotes = token.kind == Kind::Text || source.starts_with('"');
        match token.kind {
            Kind::Space => continue,
            Kind::LineComment | Kind::BlockComment | Kind::Backslash => {
                let prose = in_prose(&text[inside.clone()]);
                found.extend(prose.value.map(|start| at + inside.start + start..at + inside.end));
                continue;
            }
            Kind::OpenParen => depth = depth.saturating_add(1),
            Kind::CloseParen => {
                depth = depth.saturating_sub(1);
                parts = parts.filter(|of| depth >= *of);
                declared = declared.filter(|of| depth >= *of);
            }
            Kind::Semicolon => (parts, declared) = (None, None),
            Kind::Word if declared.is_some() && NO_DECLARATION.iter().any(|word| source.eq_ignore_ascii_case(word)) => {
                declared = None
            }
            Kind::Other if source == "," => declared = declared.filter(|of| depth > *of),
            _ => {}
        }
        let expected = value.filter(|(from, _)| token.start >= *from);
        if expected.is_some_and(|(_, assigned)| token.kind == Kind::Text || in_quotes && assigned)
            || parts.is_some() && token.kind == Kind::Text
        {
            found.push(at + inside.start..at + inside.end);
        } else if token.kind == Kind::Text && deeper > 0 && is_body(source, before) {
            in_sql(&text[inside.clone()], at + inside.start, deeper - 1, found);
        } else if in_quotes {
            let prose = in_prose(&text[inside.clone()]);
            found.extend(prose.value.map(|start| at + inside.start + start..at + inside.end));
            value = prose.value.map(|_| (token.end, false));
            parts = parts.or(prose.has_parts.then_some(depth));
        } else if expected.is_some() && source != "|" {
            value = None;
        }
        let next = match () {
            () if (token.kind == Kind::Word || in_quotes) && is_word(source) => {
                let behind = behind(&text[token.end..]);
                declared = (!behind.assigned && behind.kind == Some(Kind::Word)).then_some(depth);
                Some((token.end + behind.at, behind.assigned))
            }
            () if source == "," && is_setting || declared.is_some() && gives_value(source, before[1]) => {
                declared = None;
                Some((token.end + behind(&text[token.end..]).at, true))
            }
            () => None,
        };
        is_setting = names_setting(before, &text[inside]);
        if let Some((next, assigned)) = next {
            match assigned && is_call(&text[next..]) {
                true => parts = Some(parts.map_or(depth + 1, |of| of.min(depth + 1))),
                false => value = Some((next, assigned)),
            }
        }
        before = [before[1], source];
    }
}

/// What is between a token's quotes, or behind the signs that begin a comment.
fn inside(text: &str, token: Token) -> Range<usize> {
    let source = &text[token.start..token.end];
    let (open, close) = match token.kind {
        Kind::LineComment => (2, 0),
        Kind::BlockComment => (2, 2),
        Kind::Backslash => (1, 0),
        _ => match source.strip_prefix('$') {
            Some(tag) => tag.find('$').map_or((1, 0), |tag| (tag + 2, tag + 2)),
            None => source.find(['\'', '"']).map_or((0, 0), |quote| (quote + 1, 1)),
        },
    };
    token.start + open..if token.unterminated { token.end } else { token.end - close }
}

/// Whether a string in dollars that stands behind these two tokens is one of SQL.
fn is_body(source: &str, before: [&str; 2]) -> bool {
    let is = |token: &str, word: &str| token.eq_ignore_ascii_case(word);
    source.starts_with('$') && (is(before[1], "AS") || is(before[1], "DO") || is(before[0], "LANGUAGE"))
}

/// What stands behind a column in a query, and in no declaration of one before its value.
const NO_DECLARATION: &[&str] = &["AS", "FROM", "IS", "THEN"];

/// Whether what is declared is given a value here: `:=`, DEFAULT.
fn gives_value(source: &str, before: &str) -> bool {
    source == "=" && before == ":" || source.eq_ignore_ascii_case("DEFAULT")
}

/// Whether a string is the name of a setting that set_config() sets.
fn names_setting(before: [&str; 2], name: &str) -> bool {
    before[0].eq_ignore_ascii_case("set_config") && before[1] == "(" && is_word(name)
}

/// Whether a name is, or ends in, the word.
fn is_word(name: &str) -> bool {
    let name = name.strip_suffix('"').unwrap_or(name).as_bytes();
    name.len().checked_sub(WORD.len()).is_some_and(|at| name[at..].eq_ignore_ascii_case(WORD.as_bytes()))
}

/// Whether an expression begins with parentheses, be they of a function.
fn is_call(text: &str) -> bool {
    let name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.' | '$' | '"');
    text.trim_start_matches(name).trim_start().starts_with('(')
}

/// What stands behind the word.
struct Behind {
    /// Where, behind white space, comments and signs that assign.
    at: usize,
    assigned: bool,
    kind: Option<Kind>,
}

fn behind(text: &str) -> Behind {
    let mut lexer = Lexer::new(text);
    let mut assigned = false;
    while let Some(token) = lexer.next() {
        let next = text.as_bytes().get(token.end);
        match (token.kind, &text[token.start..token.end]) {
            (Kind::Space | Kind::LineComment | Kind::BlockComment, _) => {}
            (Kind::Equals, _) => assigned = true,
            (Kind::Other, ":") if next == Some(&b'=') => {}
            (Kind::Other, ">") if assigned => {}
            (Kind::Word, word) if word.eq_ignore_ascii_case("TO") && is_quoted(&text[token.end..]) => {}
            // White space in a string with escapes.
            (Kind::Backslash, _) if matches!(next, Some(b'n' | b'r' | b't')) => lexer.seek(token.end + 1),
            (kind, _) => return Behind { at: token.start, assigned, kind: Some(kind) },
        }
    }
    Behind { at: text.len(), assigned, kind: None }
}

/// Whether the next token is in quotes.
fn is_quoted(text: &str) -> bool {
    let next = Lexer::new(text).find(|token| token.kind != Kind::Space);
    next.is_some_and(|token| matches!(token.kind, Kind::Text | Kind::Backslash))
}

/// What a string or a comment has.
struct Prose {
    /// Where the first value begins.
    value: Option<usize>,
    /// A value is put into it, or behind it: by format(), or by what it is joined to.
    has_parts: bool,
}

fn in_prose(text: &str) -> Prose {
    /// Of what may be between the word and its value; where there is more, it counts as the value. Else a text full of
    /// the word would be read over and over.
    const LONGEST: usize = 4 * 1024;
    let mut has_parts = false;
    for word in occurrences(text, WORD) {
        let mut at = word + WORD.len();
        // The word may be in quotes itself.
        if text[..word].ends_with(['\'', '"']) {
            at = text.len() - text[at..].trim_start_matches(['\'', '"', '\\']).len();
        }
        let rest = &text[at..][..text[at..].floor_char_boundary(LONGEST)];
        let behind = behind(rest);
        let value = &rest[behind.at..];
        let plain = value.trim_start_matches(['\'', '\\']);
        // The password's.
        if behind.at == 0 && plain.starts_with("s ") {
            continue;
        }
        has_parts |= !rest.is_empty() && (plain.is_empty() || is_placeholder(plain));
        // A call of format() in a string.
        let is_call = is_placeholder(plain) && plain.contains('\'');
        let is_value = |kind| behind.assigned || is_call || kind == Kind::Text || is_escaped_quote(value);
        let is_cut = rest.len() < text.len() - at;
        if behind.kind.map_or(is_cut, is_value) {
            return Prose { value: Some(at + behind.at), has_parts };
        }
    }
    Prose { value: None, has_parts }
}

/// Whether format() puts something in here.
fn is_placeholder(text: &str) -> bool {
    matches!(text.as_bytes(), [b'%', b's' | b'I' | b'L' | b'-' | b'0'..=b'9', ..])
}

/// Whether a string begins here that is in a string with escapes.
fn is_escaped_quote(text: &str) -> bool {
    let text = text.strip_prefix(['e', 'E']).unwrap_or(text);
    matches!(text.as_bytes(), [b'\\', b'\'' | b'\\' | b'x' | b'u' | b'U' | b'0'..=b'9', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A text with its passwords left out.
    fn without(text: &str, passwords: &[Range<usize>]) -> String {
        let mut out = text.to_owned();
        for secret in passwords.iter().rev() {
            out.replace_range(secret.clone(), "…");
        }
        out
    }

    #[test]
    fn passwords_are_found_in_every_form() {
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
            // URIs that go on, or have blanks.
            "SELECT dblink('postgres://u:hun'\n  'hunter2@h/d')",
            "SELECT dblink('postgres://u'\n':hunter2@h/d')",
            "SELECT dblink('postgresql://u:my hunter2@h/d')",
            // Settings, variables, columns.
            "SET app.password TO 'hunter2'",
            "ALTER ROLE r SET app.password TO 'hunter2'",
            "DO $$ BEGIN EXECUTE 'ALTER ROLE r SET app.password TO ''hunter2'''; END $$",
            "SELECT set_config('app.password','hunter2', false)",
            "SELECT pg_catalog.set_config( 'app.password' , lower('hunter2'), false)",
            "DO $$ DECLARE v_password text := 'hunter2'; BEGIN END $$",
            "DO $$ DECLARE v_password CONSTANT varchar(20) NOT NULL DEFAULT lower('hunter2'); BEGIN END $$",
            "CREATE TABLE t (id int, password varchar(10) NOT NULL DEFAULT 'hunter2', b text)",
            "ALTER TABLE t ALTER COLUMN password SET DEFAULT 'hunter2'",
            "CREATE FUNCTION f(a_password text DEFAULT 'hunter2') RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "UPDATE t SET password = 'x' || 'hunter2' || 'hunter2'",
            // Comments between the word and its value, and those that have both.
            "ALTER ROLE x /* a */ PASSWORD /* b */ 'hunter2'",
            "ALTER ROLE x PASSWORD\n-- it's the value\n'hunter2'",
            "ALTER ROLE x PASSWORD -- was PASSWORD 'hunter2'\n'hunter2'",
            "SELECT 1 -- PASSWORD 'hunter2' it was",
            "/* ALTER ROLE x PASSWORD /* c */ 'hunter2'; */ SELECT 1",
            "\\echo it's PASSWORD 'hunter2'\nALTER ROLE x PASSWORD 'hunter2'",
            // Strings that go on.
            "ALTER ROLE x PASSWORD 'x'\n  'hunter2'",
            "ALTER ROLE x PASSWORD 'x' -- y\n  'hunter2'",
            "ALTER ROLE x PASSWORD E'x'\n  'hunter2\\'hunter2'",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=x'\n'hunter2' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password='\n'hunter2' PUBLICATION p",
            // SQL in strings, and in bodies.
            "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''hunter2'''; END $$",
            "DO LANGUAGE plpgsql $a$ BEGIN EXECUTE $b$ALTER ROLE x PASSWORD 'hunter2'$b$; END $a$",
            "CREATE FUNCTION f() AS 'BEGIN EXECUTE ''ALTER ROLE x PASSWORD ''''hunter2'''''';END' LANGUAGE plpgsql",
            "DO $$ BEGIN EXECUTE E'ALTER ROLE x PASSWORD \\'hunter2\\''; END $$",
            "DO $$ BEGIN EXECUTE E'ALTER ROLE x PASSWORD E\\'y\\\\\\'hunter2\\''; END $$",
            "DO $$ BEGIN EXECUTE E'ALTER ROLE x PASSWORD\\n\\047hunter2\\047'; END $$",
            "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD /* it''s */ ''hunter2'''; END $$",
            "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', 'x', 'hunter2'); END $$",
            "DO $$ BEGIN EXECUTE format('ALTER ROLE %1$I PASSWORD %2$L', 'x', lower('hunter2')); END $$",
            "DO $$ BEGIN EXECUTE format($f$ALTER ROLE x PASSWORD %L$f$, $p$hunter2$p$); END $$",
            "DO $$ BEGIN EXECUTE format('ALTER ROLE x PASSWORD ''%s''', 'hunter2'); END $$",
            "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ' || quote_literal('hunter2') || ' LOGIN'; END $$",
            "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''' || 'hunter2' || ''''; END $$",
            "SELECT dblink_connect('host=h password=' || 'hunter2')",
            "UPDATE t SET password = crypt('hunter2', gen_salt('bf'))",
            "UPDATE t SET password = public.crypt (lower('x'), 'hunter2')",
            "SELECT connect(password => 'hunter2'), set_password := 'hunter2'",
            // A backslash that is escaped escapes nothing, or a blank.
            r"CREATE SUBSCRIPTION s CONNECTION E'host=h password=x\\ hunter2' PUBLICATION p",
            r"CREATE SUBSCRIPTION s CONNECTION E'host=h password=\'x\\\\\\\'hunter2\'' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION $$host=h password=a'b;c hunter2$$ PUBLICATION p",
            "DO $$ connect(\"host=h password=hunter2\")\nconnect(password=\"hunter2\") $$ LANGUAGE plpython3u",
            "SELECT * FROM x WHERE a = 'it''s ''password'' = ''hunter2'''",
        ] {
            let without = without(sql, &passwords(sql));
            assert!(!without.contains("hunter2") && without.contains('…'), "{sql}\n{without}");
        }
    }

    #[test]
    fn other_text_stays() {
        for sql in [
            "CREATE TABLE t (password text NOT NULL)",
            "SELECT password FROM t WHERE password = $1 AND kind = 'a' OR password IS NULL",
            "ALTER ROLE x PASSWORD NULL VALID UNTIL 'infinity'",
            "SELECT 'http://h:8080/a@b', 'postgresql://u@h:5432/d', 'see http://h:80 or a@b'",
            "COMMENT ON COLUMN t.password IS 'the password'; SELECT 'x'",
            "COMMENT ON COLUMN t.a IS 'The ''password'' is hashed: see \"password\" there'",
            "INSERT INTO words VALUES ('password', 'Passwort'), ('reset_password', 'Reset your password'), ('b', 'c')",
            "SELECT a FROM t WHERE name LIKE '%password%' AND kind ~ '^password\\s' AND b = 'c'",
            "SELECT password AS \"the password\", password \"b\" FROM t",
            "-- its password's kept elsewhere",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN\n\
             NEW.password := crypt(NEW.password, gen_salt(NEW.kind)); RAISE NOTICE 'password of % changed', 'x';\n\
             EXECUTE format('ALTER ROLE %I PASSWORD %L', NEW.name, NEW.password); RETURN NEW; END $$;\n\
             COMMENT ON FUNCTION f() IS 'x'",
            "SET password_encryption = 'scram-sha-256'",
            "SELECT 'postgres://h:5432', 'a@b'; SELECT 'postgres://h:5432/d', 'a b@c'",
            "CREATE TABLE t (password text, kind text DEFAULT 'a'); ALTER TABLE t ALTER kind SET DEFAULT 'b'",
            "DO $$ DECLARE v_password text; kind text := 'a'; BEGIN IF password IS NULL THEN kind := 'b'; END IF; END $$",
            "GRANT SELECT ON password TO x; COMMENT ON TABLE x IS 'Reset your password to something better'",
            "SELECT set_config('app.name', 'a', false), f('password', 'b')",
            r#"INSERT INTO t VALUES ('{"password": {"type": "string"}}', 'x')"#,
        ] {
            assert_eq!(without(sql, &passwords(sql)), sql);
        }
    }

    #[test]
    fn what_stands_around_a_password_stays() {
        for (sql, expected) in [
            ("ALTER ROLE x PASSWORD 'a' VALID UNTIL 'b'", "ALTER ROLE x PASSWORD '…' VALID UNTIL 'b'"),
            ("OPTIONS (user 'z', password E'a', b 'c')", "OPTIONS (user 'z', password E'…', b 'c')"),
            ("CREATE USER x PASSWORD $a$b$a$; SELECT 'c'", "CREATE USER x PASSWORD $a$…$a$; SELECT 'c'"),
            ("SELECT f('postgres://u:p@h/d', 'b')", "SELECT f('postgres://u:…@h/d', 'b')"),
            ("SELECT f('host=h password=a', 'b')", "SELECT f('host=h password=…', 'b')"),
            (
                "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''a'''; PERFORM 'b'; END $$",
                "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD …'; PERFORM 'b'; END $$",
            ),
            (
                "DO $$ BEGIN EXECUTE format('PASSWORD %L', 'a'); PERFORM 'b'; END $$",
                "DO $$ BEGIN EXECUTE format('PASSWORD %L', '…'); PERFORM 'b'; END $$",
            ),
            ("UPDATE t SET password = md5('a'), b = 'c'", "UPDATE t SET password = md5('…'), b = 'c'"),
            ("/* PASSWORD 'a' */ SELECT 'b' -- password='c'\n;", "/* PASSWORD …*/ SELECT 'b' -- password=…\n;"),
        ] {
            assert_eq!(without(sql, &passwords(sql)), expected);
        }
    }

    #[test]
    fn of_prose_all_behind_a_value_is_one() {
        let text = "Adds postgres://db:5432, or mail a@b.c";
        assert_eq!(without(text, &passwords_in_prose(text)), text);
        let text = "Don't: see postgres://u:a@h, then PASSWORD 'b' by hand, it's the old one";
        assert_eq!(without(text, &passwords_in_prose(text)), "Don't: see postgres://u:…@h, then PASSWORD …");
    }

    /// SQL that has this SQL in a string: doubled, escaped, in dollars, and as a body.
    fn nested(sql: &str, depth: usize) -> [String; 4] {
        [
            format!("DO $n{depth}$ BEGIN EXECUTE '{}'; END $n{depth}$", sql.replace('\'', "''")),
            format!("SELECT f(E'{}')", sql.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n")),
            format!("EXECUTE $n{depth}${sql}$n{depth}$"),
            format!("DO $n{depth}$ {sql}; $n{depth}$"),
        ]
    }

    #[test]
    fn passwords_are_found_in_strings_in_strings() {
        let mut level: Vec<String> = [
            "ALTER ROLE x PASSWORD /* it's */ 'hunter2'",
            "ALTER ROLE x PASSWORD\n'hunter2'",
            "ALTER ROLE x PASSWORD E'y\\'hunter2'",
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=''y\\''hunter2'' dbname=d' PUBLICATION p",
            "SELECT f(E'password=y\\\\ hunter2')",
            "EXECUTE format('ALTER ROLE x PASSWORD %L', 'hunter2')",
            "EXECUTE 'ALTER ROLE x PASSWORD ' || quote_literal('hunter2')",
        ]
        .map(str::to_owned)
        .into();
        for depth in 0..4 {
            for sql in &level {
                let without = without(sql, &passwords(sql));
                assert!(!without.contains("hunter2"), "{sql}\n{without}");
            }
            level = level.iter().flat_map(|sql| nested(sql, depth)).collect();
        }
        let mut sql = "ALTER ROLE x PASSWORD 'hunter2'".to_owned();
        for depth in 0..100 {
            sql = format!("DO $a{depth}$ {sql} $a{depth}$");
        }
        assert!(!without(&sql, &passwords(&sql)).contains("hunter2"));
    }

    proptest! {
        #![proptest_config(crate::testing::same_cases(512))]

        #[test]
        fn no_text_is_too_odd(text in "(password|PASSWORD|://|--|/\\*|\\*/|DO|AS|\\$a\\$|\\$\\$|[ ='$eEuU&:@%();\"\n\\\\]|é|x)*") {
            for passwords in [passwords(&text), passwords_in_prose(&text)] {
                without(&text, &passwords);
                prop_assert!(passwords.windows(2).all(|two| two[0].end < two[1].start), "{passwords:?}");
            }
        }
    }
}
