use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Content, Digest, Elsewhere, History, InvalidFile, Reread, Rollback};

fn read(files: &[(&str, &[u8])]) -> Result<History, Vec<InvalidFile>> {
    History::from_files(files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())))
}

fn faults(files: &[(&str, &[u8])]) -> Vec<String> {
    read(files).unwrap_err().iter().map(ToString::to_string).collect()
}

const SQL: &[u8] = b"select 1;";

#[test]
fn scripts_come_in_the_order_of_their_versions() {
    let history =
        read(&[("10_c.sql", SQL), ("2_b.sql", SQL), ("001_a_first.sql", SQL), ("README.md", b"\xff")]).unwrap();
    let names: Vec<_> = history.scripts().map(|script| script.file_name.as_str()).collect();
    assert_eq!(names, ["001_a_first.sql", "2_b.sql", "10_c.sql"]);
    assert_eq!(history.get(&"1".parse().unwrap()).unwrap().description, "a first");
    assert_eq!(history.latest().unwrap().version, "10".parse().unwrap());
    assert_eq!(history.ignored(), ["README.md"]);
    assert!(read(&[]).unwrap().is_empty());
}

#[test]
fn every_fault_is_told_by_file_and_not_only_the_first() {
    let found = faults(&[
        ("001_a.sql", SQL),
        ("1_b.sql", SQL),
        ("2-c.sql", SQL),
        ("003_d.sql", b"select 1;\nselect '\xff';"),
        ("004_e.sql", b"a\nb \0"),
        ("005_f.sql", b"select 1;\n-- ROLLBACK: x\n"),
        ("005_f.down.sql", SQL),
        ("006_g.down.sql", SQL),
        ("007_h.sql", SQL),
        ("007_i.down.sql", SQL),
        ("008_j.sql", b"\xff\xfes\0"),
    ]);
    let expected = [
        "003_d.sql, line 2 (byte 18): not UTF-8: save the file as UTF-8",
        "004_e.sql, line 2, column 3: a NUL character, which PostgreSQL takes nowhere: remove it",
        "005_f.sql, line 2, column 1: a ROLLBACK line beside 005_f.down.sql: keep one of the two",
        "006_g.down.sql: a rollback without its script: add 006_g.sql, or remove it",
        "007_i.down.sql: a rollback without its script: the script of that version is 007_h.sql; call it 007_h.down.sql",
        "008_j.sql, line 1 (byte 0): not UTF-8 but UTF-16: save the file as UTF-8",
        "1_b.sql and 001_a.sql are both version 1: give one of them another version",
        "2-c.sql: a script is called <version>_<description>.sql, such as 001_initial_schema.sql: the version must be digits only, \
         with an underscore behind it; call it 2_c.sql",
    ];
    assert_eq!(found, expected);
}

#[test]
fn no_name_is_suggested_whose_version_another_file_has() {
    let told =
        |files: &[(&str, &[u8])]| faults(files).iter().map(|fault| fault.contains("call it")).collect::<Vec<_>>();
    assert_eq!(told(&[("001_x.sql", SQL), ("001-x.sql", SQL), ("y.sql", SQL)]), [false, false]);
    assert_eq!(told(&[("1_x.sql", SQL), ("._001_x.sql", SQL)]), [false]);
    // Nor the same one twice.
    assert_eq!(told(&[("a.sql", SQL), ("b.sql", SQL)]), [true, false]);
    // A rollback has the version of its script.
    assert_eq!(told(&[("001_x.sql", SQL), ("001-x.down.sql", SQL)]), [true]);
}

#[test]
fn the_same_name_from_two_places_is_refused() {
    assert_eq!(
        faults(&[("001_a.sql", SQL), ("001_a.sql", b"select 2;")]),
        ["001_a.sql is there twice: keep one of them"]
    );
}

#[test]
fn a_rollback_file_is_the_rollback_of_its_script_and_outside_the_checksum() {
    let down = |text: &str| read(&[("001_a.sql", SQL), ("001_a.down.sql", text.as_bytes())]).unwrap();
    let (one, other) = (down("drop table a;\n"), down("drop table b;\n"));
    let script = |history: &History| history.latest().unwrap().clone();
    assert_eq!(script(&one).rollback, Rollback::Sql("drop table a;\n".to_owned()));
    assert_eq!(script(&one).checksum, script(&other).checksum);
    assert_ne!(one.digest(), other.digest(), "but the digest is over every file that counts");
    assert_eq!(script(&down("by hand")).rollback, Rollback::NotSql("by hand".to_owned()));
    assert_eq!(script(&down(" \n")).rollback, Rollback::None);
}

#[test]
fn the_digest_is_over_names_and_bytes_whatever_their_order() {
    let a: (&str, &[u8]) = ("001_a.sql", b"select 1;");
    let b: (&str, &[u8]) = ("002_b.sql", b"select 2;");
    let digest = |files: &[(&str, &[u8])]| read(files).unwrap().digest().to_owned();
    let base = digest(&[a, b]);
    let counted_elsewhere = "sha256:9ac3b604e6afb89c08c85ea7487c8455d26983523041f86e830206137905d535";
    assert_eq!(base, counted_elsewhere, "each name and each file with its length, 8 bytes, before it");
    assert_eq!(digest(&[b, a]), base);
    assert_eq!(digest(&[a, b, ("NOTES", b"x")]), base);
    assert_ne!(digest(&[a]), base);
    assert_ne!(digest(&[a, ("002_c.sql", b"select 2;")]), base);
    assert_ne!(digest(&[a, ("002_b.sql", b"select 2;\n")]), base, "bytes, not what they mean");
}

#[test]
fn a_large_folder_that_is_read_ahead_is_the_same_history() {
    let names: Vec<_> = (1..=1000).map(|n| format!("{n:04}_x.sql")).collect();
    let text = |name: &str| format!("select '{name}';\n").repeat(if name.starts_with("07") { 200 } else { 1 });
    let here = names.iter().map(|name| (name.clone(), text(name).into_bytes()));
    let elsewhere = |missing: &'static str| {
        let content = move |name: String| {
            let there = name != missing;
            Elsewhere::new(move || if there { Ok(text(&name).into_bytes()) } else { Err("gone".into()) })
        };
        History::from_files(
            names.iter().rev().map(move |name| (name.clone(), Content::Elsewhere(content(name.clone())))),
        )
    };
    assert_eq!(elsewhere("").unwrap().digest(), History::from_files(here).unwrap().digest());
    assert_eq!(elsewhere("").unwrap().len(), 1000);
    let faults: Vec<_> =
        elsewhere("0777_x.sql").unwrap_err().iter().map(|fault| fault.file_name().to_owned()).collect();
    assert_eq!(faults, ["0777_x.sql"]);
}

#[test]
fn the_digest_of_long_files_and_of_such_with_a_byte_order_mark_is_over_their_bytes() {
    let long = |mark: &str| format!("{mark}select 1;\n{}", "-- and so on\n".repeat(200_000)).into_bytes();
    let files = [long(""), long("\u{feff}"), b"\xef\xbb\xbf\xef\xbb\xbfselect 1;".to_vec()];
    let names = ["1_a.sql", "2_b.sql", "3_c.sql"];
    let history = History::from_files(names.iter().map(|name| (*name).to_owned()).zip(files.clone())).unwrap();
    let mut digest = Digest::default();
    names.iter().zip(&files).for_each(|(name, bytes)| digest.add(name, bytes));
    assert_eq!(history.digest(), History::from_sources(Vec::new(), digest, Vec::new(), Vec::new()).unwrap().digest());
    let [a, b, _] = history.scripts().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!(a.checksum, b.checksum);
}

#[test]
fn a_byte_order_mark_is_left_out_of_text_and_checksum() {
    let history = read(&[("001_a.sql", SQL), ("002_b.sql", b"\xef\xbb\xbfselect 1;")]).unwrap();
    let [a, b] = history.scripts().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((&a.text, a.checksum), (&b.text, b.checksum));
    assert_eq!(b.statements[0].start.column, 1);
}

#[test]
fn texts_that_can_be_had_again_are_not_all_kept_and_a_script_is_whole_again_when_it_is_asked_for() {
    let text =
        |n: usize| format!("UPDATE a_{n} SET b = 1;\n{}DROP TABLE c;\n", "INSERT INTO d VALUES (1);\n".repeat(30_000));
    let of = |elsewhere: bool| {
        let files = (1..=4usize).map(move |n| {
            let content = match elsewhere {
                true => Content::Elsewhere(Elsewhere::new(move || Ok(text(n).into_bytes()))),
                false => Content::Here(text(n).into_bytes()),
            };
            (format!("{n}_x.sql"), content)
        });
        History::from_files(files).unwrap()
    };
    let (here, elsewhere) = (of(false), of(true));
    let held = elsewhere.scripts().map(|script| script.text.len() + script.statements.len() * 200).sum::<usize>();
    assert!(held < 25_000_000, "{held} bytes are kept");
    assert_eq!(here.digest(), elsewhere.digest());
    for (here, elsewhere) in here.scripts().zip(elsewhere.scripts()) {
        assert_eq!((here.statement_count, here.checksum), (elsewhere.statement_count, elsewhere.checksum));
        assert_eq!((here.locks(), here.destructive()), (elsewhere.locks(), elsewhere.destructive()));
        assert_eq!((here.lock_lines(), here.more_locks()), (elsewhere.lock_lines(), elsewhere.more_locks()));
        let whole = elsewhere.whole().unwrap();
        assert_eq!((&here.text, &here.statements), (&whole.text, &whole.statements));
    }
}

#[test]
fn a_script_that_is_read_again_must_be_what_it_was() {
    let times = Arc::new(AtomicUsize::new(0));
    let read = move || match times.fetch_add(1, Ordering::Relaxed) {
        0 => Ok(b"SELECT 1;".to_vec()),
        1 => Ok(b"SELECT 2;".to_vec()),
        _ => Err("it is gone".to_owned()),
    };
    let big = format!("SELECT 1;\n{}", "-".repeat(17 * 1024 * 1024));
    let files = [("1_x.sql", Content::Here(big.into_bytes())), ("2_x.sql", Content::Elsewhere(Elsewhere::new(read)))];
    let history = History::from_files(files.map(|(name, content)| (name.to_owned(), content))).unwrap();
    let script = history.latest().unwrap();
    assert_eq!(script.text, "", "it was not kept");
    let file = || "2_x.sql".to_owned();
    assert_eq!(script.whole().unwrap_err(), Reread::Changed { file: file() });
    assert_eq!(script.whole().unwrap_err(), Reread::Unreadable { file: file(), why: "it is gone".to_owned() });
}
