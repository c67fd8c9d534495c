//! The Internet checksum: RFC 1071, and its incremental update, RFC 1624.

use crate::sys;

/// A one's complement sum of 16-bit words in the making. It is the same in either byte order (RFC 1071 section 2 (B)), and
/// wider words add up to the same (section 2 (C)): so words of 32 bits are added as the machine reads them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes, two of them a word. An odd last byte is padded with a zero, so only one addition may be
    /// odd: that of the end.
    #[inline]
    pub(crate) fn add(self, bytes: &[u8]) -> Self {
        match bytes.len() {
            ..WORTH_VECTORS => self.plus(Self(words(bytes))),
            _ => self.plus(Self(sys::with_vectors(|| words(bytes)))),
        }
    }

    /// Adds bytes, and copies them to the front of `to` on the way, which costs little more than reading them.
    ///
    /// # Panics
    /// `to` is shorter.
    pub(crate) fn add_copied(self, bytes: &[u8], to: &mut [u8]) -> Self {
        let to = &mut to[..bytes.len()];
        self.plus(Self(sys::with_vectors(|| words_copied(bytes, to))))
    }

    /// Adds one word.
    #[inline]
    pub(crate) fn add_word(self, word: u16) -> Self {
        self.plus(Self(u64::from(word.to_be())))
    }

    /// Adds what has been summed up elsewhere.
    #[inline]
    pub(crate) fn plus(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Self(sum + u64::from(carry))
    }

    /// The sum folded to 16 bits, carries added back in.
    #[inline]
    pub(crate) fn folded(self) -> u16 {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(sum as u16)
    }

    /// What goes into a checksum field that was zero, or was left out, while the sum was made. Over a header or segment
    /// whose field is in place, 0 means that it is right.
    pub(crate) fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// From how many bytes on it pays to ask for wider vectors.
const WORTH_VECTORS: usize = 64;

/// The sum of words of 32 bits; those in the upper and in the lower half of 64 bits apart, which the compiler turns into
/// vectors. 16 GiB would fit before it overflows.
#[inline(always)]
fn words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (mut low, mut high) = (0, 0);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    low + high + last(rest)
}

/// The same, while copying.
#[inline(always)]
fn words_copied(bytes: &[u8], to: &mut [u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (copies, rest_of_copy) = to.as_chunks_mut::<8>();
    let (mut low, mut high) = (0, 0);
    for (word, copy) in words.iter().zip(copies) {
        *copy = *word;
        let word = u64::from_ne_bytes(*word);
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    rest_of_copy.copy_from_slice(rest);
    low + high + last(rest)
}

/// The sum of fewer than 8 bytes.
#[inline(always)]
fn last(rest: &[u8]) -> u64 {
    let (words, rest) = rest.as_chunks::<4>();
    let (halves, odd) = rest.as_chunks::<2>();
    let words: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let halves: u64 = halves.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum();
    let odd: u64 = odd.iter().map(|byte| u64::from(u16::from_ne_bytes([*byte, 0]))).sum();
    words + halves + odd
}

/// The checksum after `old` words were replaced by `new` ones: RFC 1624 equation 3, `HC' = ~(~HC + ~m + m')`.
///
/// A wrong checksum stays wrong by the same amount, which computing it afresh would hide.
pub(super) fn update(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let old = !Sum::default().add(old).folded();
    Sum::default().add(&(!checksum).to_be_bytes()).add(&old.to_be_bytes()).add(new).checksum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().add(&bytes).folded(), 0xddf2);
    }

    #[test]
    fn wide_words_add_up_to_what_single_ones_do() {
        let bytes: Vec<u8> = (0..200u8).map(|byte| byte.wrapping_mul(89)).chain([0xff; 100]).collect();
        for length in 0..bytes.len() {
            let words = bytes[..length].chunks(2).map(|word| u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]));
            let mut sum: u32 = words.map(u32::from).sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(Sum::default().add(&bytes[..length]).folded(), sum as u16, "{length} bytes");
            let mut copy = vec![0; length];
            assert_eq!(Sum::default().add_copied(&bytes[..length], &mut copy).folded(), sum as u16, "{length} bytes");
            assert_eq!(copy, bytes[..length]);
        }
    }

    #[test]
    fn an_odd_last_byte_is_padded_with_zero() {
        assert_eq!(Sum::default().add(&[1, 2, 3]).checksum(), Sum::default().add(&[1, 2, 3, 0]).checksum());
    }

    #[test]
    fn the_example_of_rfc_1624_yields_zero_and_not_all_ones() {
        assert_eq!(update(0xdd2f, &[0x55, 0x55], &[0x32, 0x85]), 0x0000);
    }

    #[test]
    fn an_update_is_what_a_fresh_sum_would_be() {
        let (before, after) = ([1, 2, 3, 4, 5, 6], [1, 2, 9, 8, 5, 6]);
        let updated = update(Sum::default().add(&before).checksum(), &before[2..4], &after[2..4]);
        assert_eq!(updated, Sum::default().add(&after).checksum());
    }
}
