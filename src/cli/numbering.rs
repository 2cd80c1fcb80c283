//! The version that follows a folder's highest, in the folder's own manner.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::script::Version;

/// `001` in an empty folder; else one more, as wide as the highest is written; where that is a date and time, now.
pub fn next(highest: Option<&Version>, now: Timestamp) -> String {
    let Some(highest) = highest.map(Version::as_written) else { return "001".to_owned() };
    let following = increment(highest);
    let stamp = stamp(highest, now).filter(|stamp| is_above(stamp, highest));
    stamp.unwrap_or(following)
}

/// Now, in the form that this version has, if that is one of a date and time.
fn stamp(version: &str, now: Timestamp) -> Option<String> {
    let format = match version.len() {
        14 => "%Y%m%d%H%M%S",
        12 => "%Y%m%d%H%M",
        // Seconds since 1970, from 2001 to 2065.
        10 if version.starts_with(['1', '2']) => return Some(now.as_second().to_string()),
        _ => return None,
    };
    let padded = format!("{version:0<14}");
    let read = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", &padded).ok()?;
    (1990..2100).contains(&read.year()).then(|| now.to_zoned(TimeZone::UTC).strftime(format).to_string())
}

fn is_above(stamp: &str, highest: &str) -> bool {
    match (stamp.parse::<Version>(), highest.parse::<Version>()) {
        (Ok(stamp), Ok(highest)) => stamp > highest,
        _ => false,
    }
}

/// One more, of any length, leading zeros kept.
fn increment(number: &str) -> String {
    let mut digits: Vec<u8> = number.bytes().collect();
    for digit in digits.iter_mut().rev() {
        if *digit != b'9' {
            *digit += 1;
            return digits.iter().map(|digit| *digit as char).collect();
        }
        *digit = b'0';
    }
    format!("1{}", "0".repeat(digits.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(highest: &str) -> String {
        let now = "2026-11-23T22:41:05Z".parse().unwrap();
        next(Some(&highest.parse().unwrap()), now)
    }

    #[test]
    fn a_number_is_followed_by_the_next_as_wide() {
        for (highest, following) in [
            ("001", "002"),
            ("009", "010"),
            ("999", "1000"),
            ("9", "10"),
            ("0", "1"),
            ("12345678901234567890", "12345678901234567891"),
        ] {
            assert_eq!(after(highest), following);
        }
        assert_eq!(next(None, Timestamp::UNIX_EPOCH), "001");
    }

    #[test]
    fn a_date_and_time_is_followed_by_now() {
        assert_eq!(after("20251215103000"), "20261123224105");
        assert_eq!(after("202512151030"), "202611232241");
        assert_eq!(after("1700000000"), "1795473665");
    }

    #[test]
    fn what_only_looks_like_a_time_and_a_time_to_come_are_followed_by_one_more() {
        assert_eq!(after("20269999999999"), "20270000000000");
        assert_eq!(after("00000000000041"), "00000000000042");
        assert_eq!(after("20990101000000"), "20990101000001");
    }
}
