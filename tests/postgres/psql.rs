//! psql's own commands, against psql itself.

use belay::script::UnsupportedKind;

use crate::support::invariants;
use crate::support::postgres::{binaries, unprivileged};

/// The names in what psql says of its commands: `c`, `connect`, `dt`, `dtS`, `dt+`, of `\c[onnect]` and `\dt[S+]`.
fn names(help: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in help.lines() {
        let Some(command) = line.strip_prefix("  \\") else { continue };
        let mut written = command.split_whitespace().next().unwrap_or_default();
        let mut before = String::new();
        while let Some((plain, rest)) = written.split_once('[') {
            let (optional, rest) = rest.split_once(']').unwrap_or((rest, ""));
            before.push_str(plain);
            names.push(before.clone());
            names.push(format!("{before}{optional}"));
            if optional != "onnect" {
                names.extend(optional.chars().map(|letter| format!("{before}{letter}")));
            }
            written = rest;
        }
        if !written.is_empty() {
            names.push(format!("{before}{written}"));
        }
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn every_command_of_psql_is_left_out_if_harmless_and_else_refused_by_name_with_what_to_write_instead() {
    let help =
        unprivileged(binaries().join("psql")).arg("--help=commands").current_dir("/").output().expect("psql runs");
    let mut names = names(&String::from_utf8(help.stdout).expect("help is UTF-8"));
    for name in ["c", "connect", "copy", "dtS+", "gexec", "restrict", "i", "!", "?", "lo_list+", "dfanptw", "sf+"] {
        assert!(names.iter().any(|other| other == name), "{name} is not in {names:?}");
    }
    assert!(names.len() > 150, "{names:?}");
    // What later versions have, or what help does not tell.
    names.extend(
        "; . include include_relative out quit reset print write list html bind bind_named close close_prepared parse \
         startpipeline sendpipeline syncpipeline endpipeline flush flushrequest getresults"
            .split_whitespace()
            .map(str::to_owned),
    );
    for name in names {
        let script = invariants::hold_for(format!("\\{name} a\nSELECT 1;").as_bytes()).expect("a script");
        let harmless = ["restrict", "unrestrict"].contains(&&*name);
        match &script.unsupported {
            None => assert!(harmless, "\\{name} would be left out"),
            Some(unsupported) => {
                assert!(!harmless, "\\{name} changes nothing, and is refused");
                assert_eq!(unsupported.kind, UnsupportedKind::PsqlCommand, "\\{name}");
                assert!(
                    unsupported.what.starts_with(&format!("\\{name} is a command of psql")),
                    "{}",
                    unsupported.what
                );
                assert!(!unsupported.remedy.starts_with("write it in SQL"), "\\{name} has no remedy of its own");
            }
        }
        let behind = invariants::read(format!("SELECT 1 \\{name}\n").into_bytes()).expect("a script");
        assert_eq!(behind.unsupported.as_ref().map(|it| it.kind), Some(UnsupportedKind::PsqlCommand), "\\{name}");
    }
}
