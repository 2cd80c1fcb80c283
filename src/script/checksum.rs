use std::fmt;
use std::str::FromStr;

/// SHA-256 over what a script does: its text without a byte order mark, CRLF read as LF, rollback
/// lines and trailing newlines left out. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum([u8; 32]);

/// What was given is not a SHA-256 in hexadecimal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a checksum: a checksum is 64 hexadecimal digits")]
pub struct InvalidChecksum;

impl Checksum {
    /// The checksum of these pieces, one after the other.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Hasher::default();
        pieces.into_iter().for_each(|piece| hasher.add(piece));
        hasher.end()
    }
}

/// Makes a checksum of pieces that come one after the other.
#[derive(Default)]
pub(super) struct Hasher(sha2::Sha256);

impl Hasher {
    pub fn add(&mut self, piece: &[u8]) {
        sha2::Digest::update(&mut self.0, piece);
    }

    pub fn end(self) -> Checksum {
        Checksum(sha2::Digest::finalize(self.0).into())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
        let digits = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]);
        f.write_str(&digits.collect::<String>())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Checksum {
    type Err = InvalidChecksum;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.as_bytes();
        if text.len() != 64 || !text.iter().all(u8::is_ascii_hexdigit) {
            return Err(InvalidChecksum);
        }
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_reads_back_as_it_was_written() {
        let sum = Checksum::of([b"select 1".as_slice()]);
        assert_eq!(sum.to_string().parse(), Ok(sum));
        assert_eq!("zz".parse::<Checksum>(), Err(InvalidChecksum));
        assert_eq!("g".repeat(64).parse::<Checksum>(), Err(InvalidChecksum));
    }
}
