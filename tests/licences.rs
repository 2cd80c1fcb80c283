//! What the program is made of: every dependency may be passed on under Apache-2.0, comes from crates.io, and only
//! one library does TLS.

use std::process::Command;

use serde_json::Value;

/// Licences whose terms Apache-2.0 software can keep. One more is a person's decision, not a test's.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Each would bring a second provider of TLS, or a C compiler's worth of build.
const OTHER_TLS: &[&str] =
    &["aws-lc-rs", "aws-lc-sys", "aws-lc-fips-sys", "boring", "native-tls", "openssl", "openssl-sys"];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every package of this platform's build, this one left out.
fn dependencies() -> Vec<Value> {
    let host = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let mut metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let Value::Array(packages) = metadata["packages"].take() else { panic!("no packages") };
    let others: Vec<_> = packages.into_iter().filter(|package| package["name"] != "belay").collect();
    assert!(others.len() > 50, "only {} dependencies: the test looks at the wrong thing", others.len());
    others
}

#[test]
fn every_dependencys_licence_may_be_passed_on_under_apache_2() {
    for package in dependencies() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(may_be_used(licence), "{} {}: {licence:?}", package["name"], package["version"]);
    }
}

#[test]
fn every_dependency_comes_from_crates_io() {
    for package in dependencies() {
        assert_eq!(package["source"].as_str(), Some(CRATES_IO), "{} {}", package["name"], package["version"]);
    }
}

#[test]
fn one_library_does_tls() {
    for package in dependencies() {
        let name = package["name"].as_str().unwrap_or_default();
        assert!(!OTHER_TLS.contains(&name), "{name} is in the tree: find out by `cargo tree -i {name}`");
    }
}

#[test]
fn a_licence_expression_is_read_as_spdx_has_it() {
    for good in [
        "MIT",
        "MIT/GPL-3.0",
        "GPL-2.0 OR (MIT AND Zlib)",
        "(Apache-2.0 OR MIT) AND BSD-3-Clause",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(may_be_used(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT AND (GPL-3.0 OR MPL-2.0)",
        "GPL-2.0 WITH Classpath-exception-2.0",
        "(MIT",
    ] {
        assert!(!may_be_used(bad), "{bad}");
    }
}

/// Whether an SPDX expression can be met from [`ALLOWED`]. What it cannot read, it refuses.
fn may_be_used(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut at = 0;
    any(&words, &mut at) == Some(true) && at == words.len()
}

fn any(words: &[&str], at: &mut usize) -> Option<bool> {
    let mut met = all(words, at)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at)?;
    }
    Some(met)
}

fn all(words: &[&str], at: &mut usize) -> Option<bool> {
    let mut met = one(words, at)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at)?;
    }
    Some(met)
}

fn one(words: &[&str], at: &mut usize) -> Option<bool> {
    let first = *words.get(*at)?;
    *at += 1;
    if first == "(" {
        let met = any(words, at)?;
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return closed.then_some(met);
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1)?;
        *at += 2;
        return Some(ALLOWED.contains(&format!("{first} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(&first))
}
