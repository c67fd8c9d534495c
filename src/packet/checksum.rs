//! The Internet checksum: RFC 1071, and its incremental update, RFC 1624.

/// A one's complement sum of 16-bit words in the making. It is the same in either byte order (RFC 1071 section 2 (B)), and
/// wider words add up to the same (section 2 (C)): so words of 64 bits are added as the machine reads them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes, two of them a word. An odd last byte is padded with a zero, so only the last addition may be odd.
    pub(crate) fn add(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<32>();
        let (mut even, mut odd) = (u128::from(self.0), 0);
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            even += word(words[0]) + word(words[2]);
            odd += word(words[1]) + word(words[3]);
        }
        let (words, rest) = rest.as_chunks::<8>();
        let words = words.iter().fold(even + odd, |sum, bytes| sum + word(*bytes));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let sum = words + word(last);
        let (sum, carry) = (sum as u64).overflowing_add((sum >> 64) as u64);
        Self(sum + u64::from(carry))
    }

    /// The sum folded to 16 bits, carries added back in.
    pub(crate) fn folded(self) -> u16 {
        let mut sum = self.0;
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

fn word(bytes: [u8; 8]) -> u128 {
    u128::from(u64::from_ne_bytes(bytes))
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
