//! Other tools' checksums of a script, each as its tool computes it.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256, Sha384};
use siphasher::sip::SipHasher13;

use crate::plan::foreign::{ForeignRow, Tool, crc32};
use crate::script::Script;

/// Whether the script is what the tool applied, as far as the tool wrote down what that was.
pub(super) fn agrees(tool: Tool, row: &ForeignRow, script: &Script) -> bool {
    let Some(checksum) = row.checksum.as_deref().filter(|checksum| !checksum.is_empty()) else { return true };
    // The mark at the beginning of a file is not in the script's text, and may have been in what the tool read.
    let marked = format!("\u{feff}{}", script.text);
    [script.text.as_str(), &marked].into_iter().any(|text| match tool {
        Tool::Flyway => checksum == flyway(text).to_string(),
        Tool::Sqlx => checksum == hexadecimal(&Sha384::digest(text)),
        Tool::Prisma => prisma(checksum, text),
        Tool::Refinery => refinery(row, text).contains(&checksum.to_owned()),
        Tool::GolangMigrate | Tool::Goose | Tool::Dbmate | Tool::Diesel => true,
    })
}

/// Whatever ends the lines; and older ones were written without the zero of a byte below 16, so that they are shorter.
fn prisma(checksum: &str, text: &str) -> bool {
    let unpadded = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:x}")).collect::<String>();
    [text.to_owned(), text.replace("\r\n", "\n"), text.replace('\n', "\r\n")].iter().any(|text| {
        let digest = Sha256::digest(text);
        checksum == if checksum.len() == 64 { hexadecimal(&digest) } else { unpadded(&digest) }
    })
}

/// Over the lines, without what ends them.
fn flyway(text: &str) -> i32 {
    crc32(text.trim_start_matches('\u{feff}').split(['\n', '\r']).map(str::as_bytes)).cast_signed()
}

/// Over name, version and text, as Rust hashes them; versions are of 4 or of 8 bytes, as refinery was built.
fn refinery(row: &ForeignRow, text: &str) -> Vec<String> {
    let (Some(version), Some(name)) = (&row.version, &row.name) else { return Vec::new() };
    let of = |hash_version: &dyn Fn(&mut SipHasher13)| {
        let mut hasher = SipHasher13::new();
        name.as_str().hash(&mut hasher);
        hash_version(&mut hasher);
        text.hash(&mut hasher);
        hasher.finish().to_string()
    };
    let short = version.parse::<i32>().map(|version| of(&|hasher| version.hash(hasher)));
    let long = version.parse::<i64>().map(|version| of(&|hasher| version.hash(hasher)));
    [short.ok(), long.ok()].into_iter().flatten().collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prismas_checksum_is_that_of_any_line_ending_with_or_without_its_zeros() {
        // Of `select 3;` and a line feed, as sha256sum has it; of the same with CRLF; and the first without zeros.
        let sums = [
            "8b8a0860d9b183efe119246b8d010f32b1030c93fa12275792b5847fd4fe929f",
            "978d65f630d2519f414efab2c98151258617e07393499a14a32569d72f2568dc",
            "8b8a860d9b183efe119246b8d1f32b13c93fa12275792b5847fd4fe929f",
        ];
        for checksum in sums {
            for text in ["select 3;\n", "select 3;\r\n"] {
                assert!(prisma(checksum, text), "{checksum} {text:?}");
            }
            assert!(!prisma(checksum, "select 3; \n"), "{checksum}: edited");
        }
    }
}
