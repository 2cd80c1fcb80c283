//! The hard cases in tests/corpus: `runs` is SQL that any supported server takes, `copy` has data in it, `refused` is
//! what Belay must not run.

use std::path::Path;

/// The name and the bytes of each script of a folder, in the order of their names.
pub fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("a file");
            (entry.file_name().into_string().expect("a name"), std::fs::read(entry.path()).expect("its bytes"))
        })
        .collect();
    files.sort();
    assert!(files.len() >= 3, "hardly anything in {}", folder.display());
    files
}
