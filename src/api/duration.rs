use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A length of time as Kubernetes writes it: `200ms`, `15m`, `1h30m`. Never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(time::Duration);

/// The API server's own rule. `format: duration` would take `1w` and `-5m` too.
const PATTERN: &str = "^([0-9]{1,6}(ms|s|m|h)){1,4}$";

/// What was given is not a duration.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a duration: write it as 200ms, 30s, 15m or 1h30m")]
pub struct InvalidDuration(String);

impl Duration {
    /// `seconds` as a duration; `const`, for defaults.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDuration(text.chars().take(20).collect());
        let mut total = time::Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = rest.split_at(digits);
            let number: u32 = match digits {
                1..=6 => number.parse().map_err(|_| invalid())?,
                _ => return Err(invalid()),
            };
            let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
            let one = match &unit[..letters] {
                "ms" => time::Duration::from_millis(1),
                "s" => time::Duration::from_secs(1),
                "m" => time::Duration::from_secs(60),
                "h" => time::Duration::from_secs(3600),
                _ => return Err(invalid()),
            };
            total += one * number;
            rest = &unit[letters..];
        }
        if text.is_empty() { Err(invalid()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        let parts = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
        let mut rest = millis;
        for (unit, size) in parts {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_they_were_written() {
        for text in ["0s", "200ms", "30s", "15m", "1h30m", "1h1m1s1ms"] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), text);
        }
        assert_eq!("90s".parse::<Duration>().unwrap().to_string(), "1m30s");
    }

    #[test]
    fn what_kubernetes_would_not_read_is_refused() {
        for text in ["", "5", "-5m", "1w", "1d", "1.5h", "m", "1h 30m", "1234567s", "5M", "5é"] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
    }
}
