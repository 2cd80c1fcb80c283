//! Any bytes as a script: they are read without a panic, and what was read keeps its promises.
#![no_main]

#[path = "../../tests/support/invariants.rs"]
mod invariants;
#[allow(dead_code, unused_imports)]
#[path = "../../src/script/mod.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    invariants::hold_for(bytes);
});
