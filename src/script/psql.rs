//! psql's own commands, which the server does not know.

/// psql commands and what to write instead. Names without the `S` and `+` that some take behind them.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["i", "include", "ir", "include_relative"], "put that file's SQL into this script, or into a script of its own"),
    (&["c", "connect"], "write one Migration for each database; a script runs in the database of its Migration"),
    (&["copy"], "write the rows as INSERT; a script has no files beside it"),
    (&["set", "unset", "getenv", "setenv", "prompt"], "write the value itself where the variable is used"),
    (&["if", "elif", "else", "endif"], "decide in SQL: DO $$ BEGIN IF … THEN … END IF; END $$"),
    (&["gexec"], "run the generated statements in a DO block, with EXECUTE"),
    (&["g", "gx", "gset", "gdesc", "crosstabview", "watch"], "end the statement with a semicolon"),
    (
        &[
            "bind",
            "bind_named",
            "close",
            "close_prepared",
            "parse",
            "startpipeline",
            "sendpipeline",
            "syncpipeline",
            "endpipeline",
            "flush",
            "flushrequest",
            "getresults",
        ],
        "write the statement with its values in it, and end it with a semicolon",
    ),
    (&[";"], "write a plain semicolon"),
    (&["encoding"], "save the file as UTF-8, and leave the line out"),
    (&["password"], "leave it out: passwords do not belong into scripts"),
    (&["lo_import", "lo_export", "lo_unlink"], "use SQL's own lo_from_bytea, lo_get and lo_unlink"),
    (&["!", "cd"], "leave it out: a script can't run programs, and has no folder"),
    (&["."], "leave it out: it ends the data of COPY … FROM STDIN, and there is none before it"),
    (&["e", "edit", "ef", "ev", "w", "write", "s"], "leave it out: nobody edits the script while it runs"),
    (&["q", "quit"], "leave it out, with what stands behind it: a script runs to its end"),
    (
        &[
            "?",
            "C",
            "H",
            "T",
            "a",
            "conninfo",
            "copyright",
            "echo",
            "errverbose",
            "f",
            "h",
            "help",
            "html",
            "l",
            "list",
            "lo_list",
            "o",
            "out",
            "p",
            "print",
            "pset",
            "qecho",
            "r",
            "reset",
            "sf",
            "sv",
            "t",
            "timing",
            "warn",
            "x",
            "z",
        ],
        SHOWS,
    ),
];

const SHOWS: &str = "leave it out: it only concerns what psql shows";

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
    let plain = name.trim_end_matches(['+', 'S']);
    let known = COMMANDS.iter().find(|(names, _)| names.contains(&name) || names.contains(&plain));
    match known {
        Some((_, remedy)) => remedy,
        // \d and all that begin so describe; of their letters every combination may come.
        None if name.starts_with('d') => SHOWS,
        None => "write it in SQL, or leave it out: scripts are sent to the server, not to psql",
    }
}
