//! Values and names inside SQL text. The simple query protocol, which is what lets a script and its ledger row
//! travel in one message, has no parameters.

use std::fmt;

/// A name, as a quoted identifier.
pub(super) struct Ident<'a>(pub &'a str);

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A string as a dollar-quoted literal, which reads the same whatever `standard_conforming_strings` is.
pub(super) struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The tag's letters appear nowhere in the value, so that neither the value nor the seam between its end
        // and the closing tag can hold the delimiter.
        let mut tag = String::from("belay");
        let mut n = 0u64;
        while self.0.contains(&tag) {
            n += 1;
            tag = format!("belay{n}x");
        }
        write!(f, "${tag}${}${tag}$", self.0)
    }
}

/// `NULL`, or a literal.
pub(super) struct Nullable<'a>(pub Option<&'a str>);

impl fmt::Display for Nullable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => Literal(value).fmt(f),
            None => f.write_str("NULL"),
        }
    }
}

/// A search path: quoted names, or the empty path.
pub(super) struct Path<'a>(pub &'a [String]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, schema) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            Ident(schema).fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(Ident(r#"a"; drop"#).to_string(), r#""a""; drop""#);
    }

    #[test]
    fn a_value_that_holds_the_tag_gets_another() {
        let literal = Literal("x $belay$ y $belay").to_string();
        assert_eq!(literal, "$belay1x$x $belay$ y $belay$belay1x$");
    }

    proptest! {
        #![proptest_config(crate::testing::same_cases(256))]

        #[test]
        fn the_delimiter_is_found_at_the_end_and_nowhere_else(value in "(\\$|belay|1x|[a-z ])*") {
            let literal = Literal(&value).to_string();
            let end = literal[1..].find('$').map_or(0, |at| at + 2);
            let (open, rest) = literal.split_at(end);
            prop_assert_eq!(rest.find(open), Some(value.len()));
            prop_assert_eq!(&rest[..value.len()], value.as_str());
        }
    }
}
