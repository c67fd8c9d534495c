//! The Internet checksum: RFC 1071, and its incremental update, RFC 1624.

/// A one's complement sum of 16-bit words in the making.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes as big-endian words. An odd last byte is padded with a zero, so only the last addition may be odd.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        let (words, odd) = bytes.as_chunks::<2>();
        let words: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
        let odd = odd.first().map_or(0, |byte| u64::from(*byte) << 8);
        Self(self.0 + words + odd)
    }

    /// The sum folded to 16 bits, carries added back in.
    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// What goes into a checksum field that was zero, or was left out, while the sum was made. Over a header or segment
    /// whose field is in place, 0 means that it is right.
    pub(super) fn checksum(self) -> u16 {
        !self.folded()
    }
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
