//! psql's own commands, which the server does not know.

/// A psql command and what to write instead.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["i", "include", "ir", "include_relative"], "put that file's SQL into this script, or into a script of its own"),
    (&["c", "connect"], "write one Migration for each database; a script runs in the database of its Migration"),
    (&["copy"], "write the rows as INSERT; a script has no files beside it"),
    (&["set", "unset", "getenv", "setenv", "prompt"], "write the value itself where the variable is used"),
    (&["if", "elif", "else", "endif"], "decide in SQL: DO $$ BEGIN IF … THEN … END IF; END $$"),
    (&["gexec"], "run the generated statements in a DO block, with EXECUTE"),
    (
        &["g", "gx", "gset", "gdesc", "crosstabview", "watch", "bind", "parse", "sendpipeline"],
        "end the statement with a semicolon",
    ),
    (&[";"], "write a plain semicolon"),
    (&["encoding"], "save the file as UTF-8, and leave the line out"),
    (&["password"], "leave it out: passwords do not belong into scripts"),
    (&["lo_import", "lo_export", "lo_unlink"], "use SQL's own lo_from_bytea, lo_get and lo_unlink"),
    (&["!"], "leave it out: a script can't run programs"),
    (&["."], "leave it out: it ends the data of COPY … FROM STDIN, and there is none before it"),
    (
        &[
            "echo",
            "qecho",
            "warn",
            "timing",
            "pset",
            "t",
            "x",
            "a",
            "o",
            "out",
            "q",
            "quit",
            "r",
            "reset",
            "p",
            "print",
            "conninfo",
            "errverbose",
            "h",
            "help",
        ],
        "leave it out: it only concerns what psql shows",
    ),
];

/// What pg_dump writes around its output since August 2025. They tell psql to take no other
/// command, so that leaving them out changes nothing.
const HARMLESS: &[&str] = &["restrict", "unrestrict"];

/// The name behind a backslash: up to white space or another backslash.
pub(super) fn name(behind: &str) -> &str {
    let first = behind.chars().next();
    if matches!(first, Some(';' | '!' | '.')) {
        return &behind[..1];
    }
    let end =
        behind.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '?' | '+'))).unwrap_or(behind.len());
    &behind[..end.min(30)]
}

pub(super) fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name)
}

pub(super) fn remedy(name: &str) -> &'static str {
    COMMANDS
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map_or("write it in SQL, or leave it out: scripts are sent to the server, not to psql", |(_, remedy)| remedy)
}
