use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The version of a script: digits, compared as a number of any length, shown as it was written.
///
/// `001` and `1` are the same version: they are equal, hash alike and order alike.
#[derive(Clone)]
pub struct Version {
    written: String,
}

/// What was given is not a version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a version: a version is 1 to {MAX_DIGITS} digits, such as 001")]
pub struct InvalidVersion(String);

/// A bound for the ledger's index, far above any date-time stamp.
const MAX_DIGITS: usize = 100;

impl Version {
    /// The number without leading zeros: what makes two versions the same.
    pub fn number(&self) -> &str {
        let number = self.written.trim_start_matches('0');
        if number.is_empty() { "0" } else { number }
    }

    /// As the file name has it, leading zeros included.
    pub fn as_written(&self) -> &str {
        &self.written
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits || text.len() > MAX_DIGITS {
            return Err(InvalidVersion(text.chars().take(MAX_DIGITS).collect()));
        }
        Ok(Self { written: text.to_owned() })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.number(), other.number());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number().hash(state);
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn leading_zeros_do_not_make_another_version() {
        assert_eq!(v("001"), v("1"));
        assert_eq!(v("000"), v("0"));
        assert_eq!(v("001").to_string(), "001");
    }

    #[test]
    fn versions_order_as_numbers_of_any_length() {
        assert!(v("9") < v("10"));
        assert!(v("0009") < v("10"));
        assert!(v("99999999999999999999999998") < v("99999999999999999999999999"));
        assert!(v("20251215103000") > v("003"));
    }

    #[test]
    fn what_is_not_digits_is_refused() {
        for bad in ["", "1a", "-1", "1.0", "١", " 1", &"9".repeat(MAX_DIGITS + 1)] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }
}
