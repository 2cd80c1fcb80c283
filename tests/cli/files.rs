//! What needs no database: new scripts, digests, help.

use crate::bench::{Folder, Said, belay};

fn run(folder: &Folder, arguments: &[&str]) -> Said {
    Said::of(belay(arguments).current_dir(&folder.0).output().expect("belay runs"))
}

#[test]
fn a_new_script_has_the_next_number_and_the_header() {
    let folder = Folder::new();
    let said = run(&folder, &["new", "initial schema"]).is(0);
    assert_eq!(said.out, "migrations/001_initial_schema.sql\n");
    let said = run(&folder, &["new", "--author", "Ada", "Add user preferences!"]).is(0);
    assert_eq!(said.out, "migrations/002_add_user_preferences.sql\n");
    let text = std::fs::read_to_string(folder.script("002_add_user_preferences.sql")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("-- Migration: 002_add_user_preferences"));
    assert_eq!(lines.next(), Some("-- Description: Add user preferences!"));
    assert_eq!(lines.next(), Some("-- Author: Ada"));
    let date = lines.next().unwrap().strip_prefix("-- Date: ").unwrap();
    assert_eq!((date.len(), &date[..2]), (10, "20"));
    assert!(text.contains("\n-- ROLLBACK: "));

    folder.write("20260101120000_x.sql", "SELECT 1");
    let said = run(&folder, &["new", "later"]).is(0);
    let version = said.out.strip_prefix("migrations/").unwrap().strip_suffix("_later.sql\n").unwrap();
    assert!(version.len() == 14 && version > "20260101120000", "{version}");
}

#[test]
fn a_new_script_makes_its_folder_and_overwrites_nothing() {
    let folder = Folder::new();
    run(&folder, &["new", "--folder", "db/migrations", "first"]).is(0);
    assert!(folder.0.join("db/migrations/001_first.sql").is_file());
    folder.write("nonsense.sql", "SELECT 1");
    let said = run(&folder, &["new", "x"]).is(1);
    assert!(said.err.contains("nonsense.sql"), "{}", said.err);
    assert_eq!(std::fs::read_dir(folder.0.join("migrations")).unwrap().count(), 1);
}

#[test]
fn a_description_that_gives_no_legal_name_is_refused() {
    let folder = Folder::new();
    for description in ["///", "größe", "002_x.sql", ""] {
        let said = run(&folder, &["new", description]).is(2);
        assert!(!said.err.is_empty());
    }
    assert_eq!(std::fs::read_dir(folder.0.join("migrations")).unwrap().count(), 0);
}

#[test]
fn a_digest_is_the_same_in_a_folder_and_in_config_maps() {
    let folder = Folder::new();
    folder.write("001_a.sql", "SELECT 1;\n");
    folder.write("002_b.sql", "SELECT 'é';\r\n");
    folder.write("README.md", "not counted");
    let digest = run(&folder, &["digest"]).is(0).out;
    assert!(digest.starts_with("sha256:") && digest.trim_end().len() == 71, "{digest}");

    let maps = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\ndata:\n  001_a.sql: |\n    SELECT 1;\n  README.md: other\n\
                ---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: b }\nbinaryData:\n  002_b.sql: U0VMRUNUICfDqSc7DQo=\n";
    std::fs::write(folder.0.join("maps.yaml"), maps).unwrap();
    assert_eq!(run(&folder, &["digest", "maps.yaml"]).is(0).out, digest);
    let list: Vec<serde_json::Value> = maps.split("---").map(|map| serde_yaml::from_str(map).unwrap()).collect();
    let list = serde_json::json!({"kind": "List", "apiVersion": "v1", "items": list});
    std::fs::write(folder.0.join("list.json"), list.to_string()).unwrap();
    assert_eq!(run(&folder, &["digest", "list.json"]).is(0).out, digest);

    folder.write("001_a.sql", "SELECT 2;\n");
    assert_ne!(run(&folder, &["digest"]).is(0).out, digest);
    std::fs::write(folder.0.join("secret.yaml"), "kind: Secret\ndata: { a: b }\n").unwrap();
    let said = run(&folder, &["digest", "secret.yaml"]).is(1);
    assert!(said.err.contains("secret.yaml") && said.err.contains("ConfigMaps"), "{}", said.err);
}

#[test]
fn help_tells_the_commands_and_the_exit_codes() {
    let folder = Folder::new();
    let help = run(&folder, &["--help"]).is(0).out;
    for word in ["plan", "apply", "status", "history", "new", "digest", "repair", "Exit codes:", "130"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let help = run(&folder, &["apply", "--help"]).is(0).out;
    for word in ["--database-url", "DATABASE_URL", "--lock-timeout", "--retry-for", "--despite-claim", "Exit codes:"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    run(&folder, &[]).is(2);
    run(&folder, &["aply"]).is(2);
    run(&folder, &["--version"]).is(0);
}

#[test]
fn a_reader_that_went_away_is_no_panic() {
    let folder = Folder::new();
    folder.write("001_a.sql", "SELECT 1");
    for arguments in [&["digest"][..], &["crds"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = belay(arguments);
        let said = Said::of(command.current_dir(&folder.0).stdout(writer).output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn an_argument_that_is_not_unicode_is_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    for arguments in [&["plan", "--target"][..], &["digest"], &["new"], &[]] {
        let mut command = belay(arguments);
        let said =
            Said::of(command.arg(std::ffi::OsStr::from_bytes(b"\xff://")).current_dir(&folder.0).output().unwrap());
        assert!(matches!(said.code, Some(1 | 2)), "{arguments:?}: {said:?}");
        assert!(!said.err.contains("panicked"), "{said:?}");
    }
}
