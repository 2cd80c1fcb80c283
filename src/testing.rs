//! What the pure tests share.

use proptest::test_runner::{Config, RngSeed};

/// The same cases every time: a change is judged by what it changed. PROPTEST_RNG_SEED and PROPTEST_CASES look further.
pub fn same_cases(cases: u32) -> Config {
    let fixed = Config { failure_persistence: None, ..Config::default() };
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    Config {
        cases: if asked_for { fixed.cases } else { cases },
        rng_seed: match fixed.rng_seed {
            RngSeed::Random => RngSeed::Fixed(20261123),
            asked_for => asked_for,
        },
        ..fixed
    }
}
