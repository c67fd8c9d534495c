//! Packets of several flows, in any order and changed in any way: what is merged is cut into what came.
#![no_main]

#[path = "../../tests/wire/mod.rs"]
mod wire;

use libfuzzer_sys::fuzz_target;
use vpnlab::fast::coalesce::Coalescer;
use wire::{ACK, PSH, Parts, noise, seal};

/// What the bytes say of a packet, one after the other; zeros when there are no more.
struct Script<'b>(&'b [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }
}

fn flows() -> Vec<Parts> {
    let flow = |number: u8| Parts {
        tcp: number & 1 != 0,
        ipv6: number & 2 != 0,
        hosts: [1, 2],
        ports: [1 + u16::from(number & 4), 3],
        class: 0,
        label: 0,
        hops: 64,
        identification: 0xfff0,
        dont_fragment: number & 4 != 0,
        between: Vec::new(),
        sequence: 0xffff_ff00,
        acknowledgment: 7,
        flags: ACK,
        window: 500,
        urgent: 0,
        options: vec![1; if number & 5 == 5 { 12 } else { 0 }],
        payload: Vec::new(),
    };
    (0..8).map(flow).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script(bytes);
    let mut coalescer = Coalescer::new(script.byte() % 8 > 0);
    let (mut flows, mut packets) = (flows(), Vec::new());
    while !script.0.is_empty() && packets.len() < 100 {
        let (what, how) = (script.byte(), script.byte());
        if how >= 0xf8 {
            // Any bytes at all.
            let (bytes, rest) = script.0.split_at(script.0.len().min(usize::from(what)));
            packets.push(bytes.to_vec());
            script.0 = rest;
            continue;
        }
        let flow = &mut flows[usize::from(what & 7)];
        let length = usize::from(if how & 1 == 0 {
            [100, 1, 2, 1400][usize::from(what >> 3 & 3)]
        } else {
            script.number() % 4096
        });
        flow.payload = noise(u64::from(what >> 5), length);
        flow.flags = if how & 2 == 0 { ACK } else { ACK | PSH };
        let mut packet = flow.packet();
        flow.identification = flow.identification.wrapping_add(1);
        flow.sequence = flow.sequence.wrapping_add(flow.payload.len() as u32);
        let at = flow.transport();
        if how & 4 != 0 {
            let (place, change) = (usize::from(script.byte()) % flow.headers(), script.byte());
            packet[place] ^= change;
            let same_version = if flow.ipv6 { packet[0] >> 4 == 6 } else { packet[0] == 0x45 };
            if how & 8 == 0 && same_version {
                seal(&mut packet, at, flow.tcp);
            }
        }
        if how & 0x70 == 0x10 {
            packet.truncate(usize::from(script.number()) % (packet.len() + 1));
        } else if how & 0x70 == 0x20 {
            packet.push(script.byte());
        }
        if how & 0x80 != 0 && how & 0x70 == 0x30 {
            packets.push(packet.clone());
        }
        packets.push(packet);
    }
    wire::judge::merge(&mut coalescer, &packets);
});
