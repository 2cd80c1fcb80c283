//! Connection URIs, as libpq reads them.
//!
//! Read here and not by sqlx, which logs unknown parameters with their values and takes what is absent from the
//! environment.

use std::borrow::Cow;
use std::path::PathBuf;

use url::Url;

use super::target::{Parts, SslMode, TargetError};

/// Parameters of libpq that change nothing here, or that Belay sets itself, and those by which other tools pool connections.
const IGNORED: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "connection_limit",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "pgbouncer",
    "pool_timeout",
    "sslcompression",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// Reads a URI. `name` is what messages call it; its text is in none of them.
pub(super) fn parse(name: &str, text: &str) -> Result<Parts, TargetError> {
    let invalid = |why| TargetError::Invalid { key: name.to_owned(), why };
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(invalid("it does not start with postgres:// or postgresql://"));
    }
    let text = &with_host(text);
    let url = Url::parse(text).map_err(|_| {
        invalid("it is not postgres://user:password@host:port/dbname (one host; special characters percent-encoded)")
    })?;
    if is_cut_short(&url) {
        return Err(invalid(
            "an @ stands where none may, or a parameter without a value: percent-encode the password, or what else has it (@ as %40, / as %2F, \
             ? as %3F, # as %23, & as %26)",
        ));
    }
    let decode = |part: &str| -> Result<Option<String>, TargetError> {
        if part.is_empty() {
            return Ok(None);
        }
        percent_decode(part).map(Some).ok_or_else(|| invalid("a percent-encoded part of it is not UTF-8"))
    };
    let host = url.host_str().filter(|host| *host != NO_HOST).unwrap_or_default();
    let mut parts = Parts {
        // An IPv6 address stands in brackets in a URI only.
        host: decode(host.trim_start_matches('[').trim_end_matches(']'))?,
        port: url.port(),
        dbname: decode(url.path().trim_start_matches('/'))?,
        user: decode(url.username())?,
        password: decode(url.password().unwrap_or_default())?,
        ..Parts::default()
    };
    let (mut certificate, mut key) = (None, None);
    // What is left empty says nothing.
    for (parameter, value) in url.query_pairs().filter(|(_, value)| !value.is_empty()) {
        let called = || format!("the parameter {parameter} of {name}");
        match &*parameter {
            "host" | "hostaddr" => parts.host = Some(value.into_owned()),
            "port" => parts.port = Some(value.parse().map_err(|_| invalid("its port is not a number up to 65535"))?),
            "dbname" => parts.dbname = Some(value.into_owned()),
            "user" => parts.user = Some(value.into_owned()),
            "password" => parts.password = Some(value.into_owned()),
            "sslmode" | "ssl-mode" => {
                parts.ssl_mode = Some(SslMode::parse(&value).ok_or_else(|| invalid("its sslmode is unknown"))?);
            }
            "sslrootcert" if &*value == "system" => {}
            "sslrootcert" => parts.ssl_root_cert = Some(PathBuf::from(&*value)),
            "sslcert" => certificate = Some(PathBuf::from(&*value)),
            "sslkey" => key = Some(PathBuf::from(&*value)),
            // As pgx, Prisma, JDBC and Rails have it.
            "search_path" | "schema" | "currentSchema" | "schema_search_path" => {
                parts.search_path_in_uri = Some(called())
            }
            "role" => parts.role_in_uri = Some(called()),
            // How a server of many is told which one is meant, where TLS does not say it; here it does.
            "options" if ["endpoint=", "project="].iter().any(|which| value.starts_with(which)) => {}
            "options" => {
                let why = "Belay takes none from a URI. Take it out, and set spec.searchPath or spec.role (--search-path, \
                           --role) in its place";
                return Err(TargetError::Invalid { key: called(), why });
            }
            "service" => {
                let why = "Belay reads no service file. Write what stands there into the URI";
                return Err(TargetError::Invalid { key: called(), why });
            }
            known if IGNORED.contains(&known) => {}
            // Not by its name: that may be a piece of a password.
            _ => tracing::warn!("{name} has a parameter that Belay does not know, and does not look at"),
        }
    }
    parts.ssl_client = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => return Err(invalid("it has only one of sslcert and sslkey: give both")),
    };
    if parts.host.as_deref().is_some_and(|host| host.contains(',')) {
        return Err(invalid("it names several hosts: name the primary only"));
    }
    Ok(parts)
}

/// Whether a password ended the host, the path or a parameter before its time: one with a `/`, `?`, `#` or `&` in it that is not
/// percent-encoded. What is behind that would be taken for a database's name, and shown.
fn is_cut_short(url: &Url) -> bool {
    let has_login = !url.username().is_empty() || url.password().is_some();
    let is_odd = |parameter: &str| match parameter.split_once('=') {
        None => true,
        Some(("user" | "password", _)) => false,
        Some((name, value)) => name.contains('@') || value.contains('@') && !has_login,
    };
    let mut parameters = url.query().unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty());
    [url.path(), url.fragment().unwrap_or_default()].iter().any(|part| part.contains('@')) || parameters.any(is_odd)
}

/// What stands for a host that a URI leaves out. No name ends in `.invalid`.
const NO_HOST: &str = "none.invalid";

/// libpq takes `postgres://user@/dbname?host=/socket`, with no host before the path; the URL standard does not.
fn with_host(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    let host = text[start..end].rfind('@').map_or(start, |at| start + at + 1);
    match text[host..end].starts_with(':') || (host == end && host > start) {
        true => Cow::Owned(format!("{}{NO_HOST}{}", &text[..host], &text[host..])),
        false => Cow::Borrowed(text),
    }
}

/// Percent-decoding of one part of a URI. None: what comes out is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16)).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// The password that libpq's password file has for this server: PGPASSFILE, or ~/.pgpass.
///
/// As libpq does, a file that others may read is left alone.
pub(super) fn password_file(parts: &Parts) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let path = match std::env::var_os("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".pgpass"),
    };
    let others = std::fs::metadata(&path).ok()?.permissions().mode() & 0o077;
    if others != 0 {
        tracing::warn!(path = %path.display(), "the password file is readable by others: it is not used");
        return None;
    }
    let host = parts.host.as_deref().filter(|host| !host.starts_with('/')).unwrap_or("localhost");
    let wanted = [host, &parts.port?.to_string(), parts.dbname.as_deref()?, parts.user.as_deref()?];
    password_in(&std::fs::read_to_string(path).ok()?, &wanted)
}

/// The password of the first line that fits. Fields are parted by colons; `*` fits all; a backslash escapes.
fn password_in(file: &str, wanted: &[&str; 4]) -> Option<String> {
    file.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = vec![String::new()];
        let mut chars = line.chars();
        while let Some(char) = chars.next() {
            match char {
                ':' if fields.len() < 5 => fields.push(String::new()),
                char => {
                    let char = if char == '\\' { chars.next().unwrap_or(char) } else { char };
                    fields.last_mut()?.push(char);
                }
            }
        }
        let password = if fields.len() == 5 { fields.pop()? } else { return None };
        fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted).then_some(password)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_decoded() {
        let parts = parse("it", "postgresql://us%40er:p%3Ass%2Fw%25rd@h:6000/my%20db?sslmode=verify-ca").unwrap();
        assert_eq!(parts.user.as_deref(), Some("us@er"));
        assert_eq!(parts.password.as_deref(), Some("p:ss/w%rd"));
        assert_eq!(parts.dbname.as_deref(), Some("my db"));
        assert_eq!((parts.host.as_deref(), parts.port), (Some("h"), Some(6000)));
        assert_eq!(parts.ssl_mode, Some(SslMode::VerifyCa));
    }

    #[test]
    fn sockets_and_addresses_are_hosts() {
        let host = |uri: &str| parse("it", uri).unwrap().host;
        assert_eq!(host("postgres:///db?host=/run/postgresql").as_deref(), Some("/run/postgresql"));
        assert_eq!(host("postgres://%2Frun%2Fpg/db").as_deref(), Some("/run/pg"));
        assert_eq!(host("postgres://u@/db?host=/run/postgresql").as_deref(), Some("/run/postgresql"));
        assert_eq!(host("postgres://u:p@:6000/db"), None);
        assert_eq!(parse("it", "postgres://u:p@:6000/db").unwrap().port, Some(6000));
        assert_eq!(host("postgres://[::1]:5/db").as_deref(), Some("::1"));
    }

    #[test]
    fn what_is_refused_is_not_shown() {
        for uri in [
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h1:1,h2:2/d",
            "postgres://u:hunter2@h1,h2/d",
            "postgres://u:hunter2@h/d?sslmode=hunter2",
            "postgres://u:hunter2@h/d?port=hunter2",
            "postgres://u:hunter2%FF@h/d",
            "postgres://u:hunter2@h/d?sslcert=/hunter2.crt",
        ] {
            let error = parse("the key uri", uri).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("the key uri") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_password_that_is_not_percent_encoded_is_refused_and_not_shown() {
        for uri in [
            "postgres://u:/hunter2@h:1/d",
            "postgres://u:42/hunter2@h:1/d",
            "postgres://u:42?hunter2@h:1/d",
            "postgres://u:?hunter2@h/d",
            "postgres://u:42?x=hunter2@h/d",
            "postgres://u:42#hunter2@h/d",
            "postgres://u:p@hunter2/x@h/d",
            "postgres://h/d?password=x&hunter2",
        ] {
            let error = parse("the key uri", uri).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("percent-encode the password") && !error.contains("hunter2"), "{uri}: {error}");
        }
        let parts = parse("it", "postgres://h/d?user=me@tenant&password=p@ss").unwrap();
        assert_eq!((parts.user.as_deref(), parts.password.as_deref()), (Some("me@tenant"), Some("p@ss")));
    }

    #[test]
    fn a_parameter_that_decides_more_than_the_connection_is_refused_by_its_name() {
        for parameter in ["options=-csearch_path%3Dhunter2", "service=hunter2"] {
            let error =
                parse("the key uri", &format!("postgres://u:p@h/d?{parameter}")).map(|_| ()).unwrap_err().to_string();
            let called = format!("the parameter {} of the key uri", parameter.split('=').next().unwrap());
            assert!(error.starts_with(&called) && !error.contains("hunter2"), "{error}");
        }
        for parameters in
            ["connection_limit=1&pool_timeout=2&pgbouncer=true&unheard_of=3", "options=endpoint%3Dx", "options=&role="]
        {
            parse("it", &format!("postgres://u:p@h/d?{parameters}")).unwrap();
        }
    }

    #[test]
    fn the_password_file_is_read_as_libpq_does() {
        let file = "# comment\n*:*:other:*:no\nh:5432:d\\:b:u:p\\:w:d\n*:*:*:*:last\n";
        assert_eq!(password_in(file, &["h", "5432", "d:b", "u"]).as_deref(), Some("p:w:d"));
        assert_eq!(password_in(file, &["x", "1", "d", "u"]).as_deref(), Some("last"));
        assert_eq!(password_in("h:5432", &["h", "5432", "d", "u"]), None);
    }
}
