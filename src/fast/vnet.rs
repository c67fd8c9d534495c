//! The header that the kernel puts before each packet of a TUN device with `IFF_VNET_HDR`: `struct virtio_net_hdr`.
//!
//! Pure. Source: Virtual I/O Device (VIRTIO) 1.3, section 5.1.6; linux/virtio_net.h. Its numbers are in the machine's byte
//! order, which tuntap calls legacy.

/// The header's length in bytes.
pub const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
const ECN: u8 = 0x80; // VIRTIO_NET_HDR_GSO_ECN

/// What the kernel and we tell each other about a packet that one of us has not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// What the packet's payload is to be cut into.
    pub segments: Segments,
    /// The length of the headers before the payload, in bytes. A hint: the kernel's own may be too large.
    pub header_length: u16,
    /// How many bytes of payload each segment but the last has.
    pub segment_size: u16,
    /// Where the checksum is to be filled in, if it is still to be.
    pub checksum: Option<Checksum>,
}

/// What a packet is to be cut into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Segments {
    /// Nothing: it is one packet.
    #[default]
    None,
    /// TCP segments in IPv4 packets (TSO).
    TcpV4,
    /// TCP segments in IPv6 packets (TSO).
    TcpV6,
    /// UDP datagrams (USO).
    Udp,
    /// Something that this program did not ask for, by its number.
    Unknown(u8),
}

/// A checksum that is still to be made: its field holds the sum over the pseudo-header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum {
    /// Where what is summed up begins: the transport header. It goes to the packet's end.
    pub start: u16,
    /// Where the field is, counted from `start`.
    pub offset: u16,
}

impl Header {
    /// Reads the header.
    pub fn parse(bytes: &[u8; LENGTH]) -> Self {
        let [flags, kind, rest @ ..] = *bytes;
        let [header_length, segment_size, start, offset] = numbers(rest);
        let segments = match kind & !ECN {
            0 => Segments::None,
            1 => Segments::TcpV4,
            4 => Segments::TcpV6,
            5 => Segments::Udp,
            other => Segments::Unknown(other),
        };
        let checksum = (flags & NEEDS_CHECKSUM != 0).then_some(Checksum { start, offset });
        Self { segments, header_length, segment_size, checksum }
    }

    /// Writes the header.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let kind = match self.segments {
            Segments::None => 0,
            Segments::TcpV4 => 1,
            Segments::TcpV6 => 4,
            Segments::Udp => 5,
            Segments::Unknown(other) => other,
        };
        let (flags, Checksum { start, offset }) = match self.checksum {
            Some(checksum) => (NEEDS_CHECKSUM, checksum),
            None => (0, Checksum { start: 0, offset: 0 }),
        };
        let mut bytes = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        let (numbers, _) = bytes[2..].as_chunks_mut::<2>();
        for (bytes, number) in numbers.iter_mut().zip([self.header_length, self.segment_size, start, offset]) {
            *bytes = number.to_ne_bytes();
        }
        bytes
    }
}

fn numbers(bytes: [u8; 8]) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = bytes;
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        for segments in [Segments::None, Segments::TcpV4, Segments::TcpV6, Segments::Udp, Segments::Unknown(3)] {
            for checksum in [None, Some(Checksum { start: 20, offset: 16 })] {
                let header = Header { segments, header_length: 52, segment_size: 1420, checksum };
                assert_eq!(Header::parse(&header.to_bytes()), header);
            }
        }
    }

    #[test]
    fn the_congestion_flag_does_not_hide_the_kind() {
        let mut bytes = Header { segments: Segments::TcpV4, ..Header::default() }.to_bytes();
        bytes[1] |= ECN;
        assert_eq!(Header::parse(&bytes).segments, Segments::TcpV4);
    }

    #[test]
    fn a_packet_of_its_own_has_a_header_of_zeros() {
        assert_eq!(Header::default().to_bytes(), [0; LENGTH]);
    }
}
