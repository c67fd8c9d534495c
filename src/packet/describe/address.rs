//! IPv6 addresses as scapy writes them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// As the C library's `inet_ntop` writes it. Rust differs for the deprecated IPv4-compatible addresses (RFC 4291
/// section 2.5.5.1), `::1.2.3.4`.
pub(super) fn plain(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            format!("::{}", Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => address.to_string(),
    }
}

/// As scapy's `IP6Field.i2repr` shows it: with the IPv4 addresses inside a Teredo (RFC 4380 section 4) or 6to4 address
/// (RFC 3056 section 2). A Teredo client's address and port are stored inverted.
pub(super) fn annotated(address: Ipv6Addr) -> String {
    let text = plain(address);
    let octets = address.octets();
    let v4 = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]);
    match address.segments() {
        [0x2001, 0, _, _, _, port, ..] => {
            format!("{text} [Teredo srv: {} cli: {}:{}]", v4(4), Ipv4Addr::from(!u32::from(v4(12))), !port)
        }
        [0x2002, ..] => format!("{text} [6to4 GW: {}]", v4(2)),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_scapy_writes_them() {
        let table = [
            ("::1", "::1"),
            ("::", "::"),
            ("::102:304", "::1.2.3.4"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("2001:db8:0:1:0:0:0:1", "2001:db8:0:1::1"),
            ("2002:102:304::1", "2002:102:304::1 [6to4 GW: 1.2.3.4]"),
            ("2001:0:102:304::1", "2001:0:102:304::1 [Teredo srv: 1.2.3.4 cli: 255.255.255.254:65535]"),
        ];
        for (address, shown) in table {
            assert_eq!(annotated(address.parse().unwrap()), shown);
        }
    }
}
