//! YAML that every reader reads alike.
//!
//! Kubernetes, PyYAML and Ruby read YAML 1.1, where a plain `on`, `yes` or `12:30:45` is a boolean or a number;
//! serde_yaml writes YAML 1.2, where these are strings, and leaves them plain. Here they are quoted.

use serde::Serialize;
use serde_json::{Map, Value};

/// `value` as one YAML document, without a `---` line.
///
/// # Errors
/// When `value` does not serialize, say because a map has keys that are no strings.
pub fn to_string(value: &impl Serialize) -> Result<String, serde_yaml::Error> {
    let value = serde_json::to_value(value).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    let mut ambiguous = Vec::new();
    let mut text = serde_yaml::to_string(&marked(value, &mut ambiguous))?;
    // From the last: the name of mark 1 begins that of mark 10.
    for (number, original) in ambiguous.iter().enumerate().rev() {
        text = text.replace(&mark(number), &format!("'{original}'"));
    }
    Ok(text)
}

/// A plain scalar that stands for the ambiguous string of this number until the text is written. It begins with a
/// character that Unicode assigns to nobody, so that no string of a user's has it.
fn mark(number: usize) -> String {
    format!("\u{e000}{number}")
}

fn marked(value: Value, ambiguous: &mut Vec<String>) -> Value {
    let mut keep = |text: String| {
        if !is_ambiguous(&text) {
            return text;
        }
        ambiguous.push(text);
        mark(ambiguous.len() - 1)
    };
    match value {
        Value::String(text) => Value::String(keep(text)),
        Value::Array(items) => items.into_iter().map(|item| marked(item, ambiguous)).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| (keep(key), value)).collect::<Vec<_>>();
            fields.into_iter().map(|(key, value)| (key, marked(value, ambiguous))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// Whether YAML 1.1 reads the plain scalar `text` as anything but a string (https://yaml.org/type): a null, a
/// boolean, a number in any base, 60 among them, a time, `=` or `<<`. Errs towards quoting.
pub fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 14] = ["", "~", "null", "y", "n", "yes", "no", "on", "off", "true", "false", "=", "<<", ".nan"];
    if WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return true;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let numeric_start = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let infinite = unsigned.eq_ignore_ascii_case(".inf");
    // Digits of any base, exponents, `12:30:45`, and times, whose other characters are T, t, Z, z and spaces.
    let of_numbers = |c: char| c.is_ascii_hexdigit() || "xoXO_.:+-eETtZz \t".contains(c);
    infinite || (numeric_start && unsigned.chars().all(of_numbers) && unsigned.contains(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A reader that, like Kubernetes' own, takes YAML 1.1's booleans and octal numbers for what they are.
    fn read_as_1_1(text: &str) -> Value {
        let options = serde_saphyr::options! { strict_booleans: false, legacy_octal_numbers: true };
        serde_saphyr::from_str_with_options(text, options).unwrap()
    }

    /// The scalars that stand plain in `text`, which has one `key: scalar` a line.
    fn plain(text: &str) -> impl Iterator<Item = &str> {
        text.lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(_, scalar)| scalar)
            .filter(|s| !s.starts_with(['"', '\'']))
    }

    const STRINGS: [&str; 41] = [
        "on",
        "On",
        "OFF",
        "yes",
        "No",
        "y",
        "n",
        "N",
        "true",
        "False",
        "null",
        "Null",
        "~",
        "",
        "12:30:45",
        "1:30",
        "-190:20:30",
        "190:20:30.15",
        "0o14",
        "014",
        "0x1f",
        "0b1010",
        "1_000",
        "+12",
        "-5",
        "1e3",
        "1.5",
        ".5",
        "5.",
        ".inf",
        "-.INF",
        ".NaN",
        "2001-12-14",
        "2001-12-14t21:59:43.10-05:00",
        "=",
        "<<",
        "1.34.4",
        "15m",
        "sha256:00",
        " on",
        "003",
    ];

    #[test]
    fn strings_that_yaml_1_1_would_read_as_something_else_are_quoted() {
        for string in STRINGS {
            let value = json!({ "key": string, "list": [string], "nested": { "inner": string } });
            let text = to_string(&value).unwrap();
            assert_eq!(read_as_1_1(&text), value, "{text}");
            assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), value, "{text}");
        }
        for string in ["12:30:45", "1:30", "-190:20:30", "190:20:30.15", "2001-12-14", "014", "1_000"] {
            let text = to_string(&json!({ "key": string })).unwrap();
            assert_eq!(text, format!("key: '{string}'\n"));
        }
    }

    #[test]
    fn keys_are_quoted_as_well() {
        let value = json!({ "on": 1, "y": true, "12:30": null, "plain": "003" });
        let text = to_string(&value).unwrap();
        assert_eq!(read_as_1_1(&text), value, "{text}");
        assert!(text.contains("'on': 1") && text.contains("'12:30': null"), "{text}");
    }

    #[test]
    fn text_of_many_lines_that_looks_like_yaml_stays_as_it_is() {
        let value = json!({ "sql": "on: yes\n- 12:30:45\n", "prose": "yes, or no: on\n  1:30\n" });
        assert_eq!(read_as_1_1(&to_string(&value).unwrap()), value);
    }

    proptest! {
        #![proptest_config(crate::testing::same_cases(256))]

        #[test]
        fn what_is_written_reads_back_equal(strings in prop::collection::vec("[-+0-9:._xobeEnyfsNYOFT ~=<#'\"]{0,9}", 1..30)) {
            let value = Value::from_iter(strings.iter().enumerate().map(|(n, s)| (format!("key{n}"), Value::from(s.as_str()))));
            let text = to_string(&value).unwrap();
            prop_assert_eq!(&serde_yaml::from_str::<Value>(&text).unwrap(), &value, "{}", text);
            prop_assert_eq!(&read_as_1_1(&text), &value, "{}", text);
            for scalar in plain(&text) {
                prop_assert!(!is_ambiguous(scalar), "{scalar} stands plain in {text}");
            }
        }
    }
}
