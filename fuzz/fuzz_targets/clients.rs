//! Who speaks when, from where and under which inner address: what a client used within the timeout stays its own, whatever
//! others say, and the table stays as small as it may be.
#![no_main]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vpnlab::link::{Peers, Refused};

const TIMEOUT: u64 = 60;

fuzz_target!(|bytes: &[u8]| {
    let Some((most, steps)) = bytes.split_first() else { return };
    let most = usize::from(*most) + 1;
    let mut peers = Peers::new(most, Duration::from_secs(TIMEOUT));
    let (mut used, mut now) = (HashMap::<IpAddr, (SocketAddr, u64)>::new(), 0);
    for step in steps.as_chunks::<4>().0 {
        now += u64::from(step[3] >> 2);
        let inner = IpAddr::from([10, 1, step[3] & 3, step[0]]);
        let from = SocketAddr::from(([192, 0, 2, step[1]], 1000 + u16::from(step[2])));
        let in_use = used.get(&inner).filter(|(_, heard)| now - heard <= TIMEOUT).copied();
        match (peers.hear(inner, from, Duration::from_secs(now)), in_use) {
            (Ok(_), Some((at, _))) => assert_eq!(at.ip(), from.ip(), "an address in use is given to another"),
            (Ok(_), None) => {}
            (Err(Refused::Taken(by)), Some((at, _))) => assert!(by == at && at.ip() != from.ip()),
            (Err(Refused::Taken(_)), None) => panic!("an address is refused that nobody has used"),
            (Err(Refused::Full), in_use) => assert!(in_use.is_none(), "a client in use is pushed out"),
        }
        if peers.find(inner) == Some(from) {
            used.insert(inner, (from, now));
        }
        assert!(peers.len() <= most);
        for (inner, (at, heard)) in &used {
            assert!(now - heard > TIMEOUT || peers.find(*inner) == Some(*at), "a client in use is forgotten");
        }
    }
});
