//! The table against what it promises: examples, and a naive model of it under random traffic.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const TIMEOUT: u64 = 60;

fn at(second: u64) -> Duration {
    Duration::from_secs(1000 + second)
}

fn inner(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    // Every third is one of IPv6.
    match number % 3 {
        0 => IpAddr::from([0xfd00, 3, 0, 0, 0, 0, 0, number]),
        _ => IpAddr::from([10, 9, high, low]),
    }
}

fn outer(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

fn table(most: usize) -> Peers {
    Peers::new(most, Duration::from_secs(TIMEOUT))
}

#[test]
fn each_inner_address_is_found_where_it_was_heard() {
    let mut peers = table(100);
    for number in 0..50 {
        assert_eq!(peers.hear(inner(number), outer(number as u8, 4000 + number), at(0)), Ok(News::New));
    }
    for number in 0..50 {
        assert_eq!(peers.find(inner(number)), Some(outer(number as u8, 4000 + number)));
        assert_eq!(peers.hear(inner(number), outer(number as u8, 4000 + number), at(1)), Ok(News::Known));
    }
    assert_eq!(peers.find(inner(50)), None);
    assert_eq!(peers.len(), 50);
}

#[test]
fn many_inner_addresses_may_belong_to_one_client() {
    let mut peers = table(100);
    (0..40).for_each(|number| assert_eq!(peers.hear(inner(number), outer(1, 4000), at(0)), Ok(News::New)));
    assert!((0..40).all(|number| peers.find(inner(number)) == Some(outer(1, 4000))));
    assert_eq!(peers.in_use(at(0)).sole, Some(outer(1, 4000)));
}

#[test]
fn another_port_of_the_same_host_is_followed_at_once() {
    let mut peers = table(10);
    peers.hear(inner(1), outer(1, 4000), at(0)).unwrap();
    assert_eq!(peers.hear(inner(1), outer(1, 4001), at(0)), Ok(News::Moved(outer(1, 4000))));
    assert_eq!(peers.find(inner(1)), Some(outer(1, 4001)));
}

#[test]
fn another_host_waits_until_the_address_was_not_used_for_the_timeout() {
    let mut peers = table(10);
    peers.hear(inner(1), outer(1, 4000), at(0)).unwrap();
    peers.hear(inner(1), outer(1, 4000), at(30)).unwrap();
    for second in [30, 60, 61, 90] {
        assert_eq!(peers.hear(inner(1), outer(2, 4000), at(second)), Err(Refused::Taken(outer(1, 4000))));
        assert_eq!(peers.find(inner(1)), Some(outer(1, 4000)));
    }
    assert_eq!(peers.hear(inner(1), outer(2, 4000), at(91)), Ok(News::Moved(outer(1, 4000))));
    assert!(!peers.has_host(outer(1, 0).ip()) && peers.has_host(outer(2, 0).ip()));
}

#[test]
fn a_part_of_a_second_is_never_missing_from_the_timeout() {
    let mut peers = table(10);
    let started = Duration::from_millis(1_000_999);
    peers.hear(inner(1), outer(1, 4000), started).unwrap();
    let just_before = started + Duration::from_millis(59_999);
    assert_eq!(peers.hear(inner(1), outer(2, 4000), just_before), Err(Refused::Taken(outer(1, 4000))));
}

#[test]
fn a_silent_client_is_still_found_while_nobody_needs_its_place() {
    let mut peers = table(2);
    peers.hear(inner(1), outer(1, 4000), at(0)).unwrap();
    peers.hear(inner(2), outer(2, 4000), at(100_000)).unwrap();
    assert_eq!(peers.find(inner(1)), Some(outer(1, 4000)));
    assert_eq!(peers.in_use(at(100_000)).hosts.into_keys().collect::<Vec<_>>(), [outer(2, 0).ip()]);
    assert_eq!(peers.hear(inner(3), outer(3, 4000), at(100_001)), Ok(News::New));
    assert_eq!(peers.find(inner(1)), None);
    assert_eq!(peers.find(inner(2)), Some(outer(2, 4000)));
}

#[test]
fn a_flood_of_invented_addresses_pushes_nobody_out_and_memory_does_not_grow() {
    let mut peers = table(100);
    for number in 0..20 {
        peers.hear(inner(number), outer(number as u8, 4000), at(0)).unwrap();
    }
    let mut room = 0;
    for second in 0..TIMEOUT {
        for number in 1000..1500 {
            let _ = peers.hear(inner(number), outer(200, 4000), at(second));
            assert!(peers.len() <= 100);
        }
        if second == 0 {
            room = peers.clients.capacity();
        }
    }
    assert!((0..20).all(|number| peers.find(inner(number)) == Some(outer(number as u8, 4000))));
    assert_eq!(peers.clients.capacity(), room);
    assert_eq!(peers.hosts.len(), 21);
}

#[test]
fn a_flood_from_many_hosts_pushes_nobody_out_either() {
    let mut peers = table(100);
    for number in 0..20 {
        peers.hear(inner(number), outer(number as u8, 4000), at(0)).unwrap();
    }
    for number in 1000..3000_u16 {
        let [high, low] = number.to_be_bytes();
        let stranger = SocketAddr::from(([203, 0, high, low], 4000));
        assert_eq!(peers.hear(inner(number), stranger, at(1)).is_ok(), number < 1080, "{number}");
        // Nor does it get what is somebody's.
        assert_eq!(peers.hear(inner(7), stranger, at(1)), Err(Refused::Taken(outer(7, 4000))));
    }
    assert_eq!(peers.len(), 100);
    assert!((0..20).all(|number| peers.find(inner(number)) == Some(outer(number as u8, 4000))));
    // Who was there before may go on, and one that is new gets a place when the flood is over.
    assert!(peers.renew(inner(7), outer(7, 4000), at(2)));
    assert_eq!(peers.hear(inner(500), outer(100, 4000), at(TIMEOUT)), Err(Refused::Full));
    assert_eq!(peers.hear(inner(500), outer(100, 4000), at(TIMEOUT + 1)), Ok(News::New));
}

#[test]
fn one_host_does_not_take_the_whole_table() {
    let mut peers = table(100);
    let refused = (0..200).filter(|number| peers.hear(inner(*number), outer(200, 4000), at(0)).is_err()).count();
    assert_eq!(refused, 150);
    assert_eq!(peers.len(), 50);
    for host in 1..=40 {
        assert_eq!(peers.hear(inner(1000 + u16::from(host)), outer(host, 4000), at(1)), Ok(News::New));
    }
    assert_eq!(peers.hear(inner(300), outer(200, 4000), at(1)), Err(Refused::Full));
}

#[test]
fn what_is_not_to_be_kept_is_forgotten_with_its_host() {
    let mut peers = table(10);
    peers.hear(inner(1), outer(1, 4000), at(0)).unwrap();
    peers.hear(inner(2), outer(2, 4000), at(0)).unwrap();
    peers.retain(|address| address == inner(2));
    assert_eq!((peers.find(inner(1)), peers.len()), (None, 1));
    assert!(!peers.has_host(outer(1, 0).ip()));
}

/// The same promises, as simply as they can be written: a list.
struct Model {
    clients: Vec<(IpAddr, SocketAddr, u64)>,
    most: usize,
}

impl Model {
    fn expired(heard: u64, now: u64) -> bool {
        now - heard > TIMEOUT
    }

    /// How many entries there may be for one more of this host's.
    fn most_for(&self, host: IpAddr) -> usize {
        let has = self.clients.iter().filter(|(_, at, _)| at.ip() == host).count();
        if has < FEW as usize { self.most } else { self.most / 2 }
    }

    /// Lets what has expired go if that is needed for one more entry of this host's.
    fn makes_room(&mut self, host: IpAddr, now: u64) -> bool {
        if self.clients.len() >= self.most_for(host) {
            self.clients.retain(|(_, _, heard)| !Self::expired(*heard, now));
        }
        self.clients.len() < self.most_for(host)
    }

    fn hear(&mut self, inner: IpAddr, from: SocketAddr, now: u64) -> Result<News, Refused> {
        let found = self.clients.iter().position(|(known, ..)| *known == inner);
        let mut news = News::New;
        if let Some(found) = found {
            let (_, before, heard) = self.clients.swap_remove(found);
            news = if before == from { News::Known } else { News::Moved(before) };
            if before.ip() == from.ip() {
                self.clients.push((inner, from, now));
                return Ok(news);
            }
            if !Self::expired(heard, now) {
                self.clients.push((inner, before, heard));
                return Err(Refused::Taken(before));
            }
        }
        if !self.makes_room(from.ip(), now) {
            return Err(Refused::Full);
        }
        self.clients.push((inner, from, now));
        Ok(news)
    }
}

proptest! {
    /// Few addresses, few hosts and a small table, so that all meets; seconds go by, now and then many.
    #[test]
    fn it_does_what_a_list_would(
        most in 1_usize..30,
        steps in prop::collection::vec((0_u16..40, 0_u8..5, 4000_u16..4003, prop_oneof![8 => 0_u64..3, 1 => 20_u64..90]), 1..400),
    ) {
        let mut peers = table(most);
        let mut model = Model { clients: Vec::new(), most };
        let mut now = 0;
        for (number, host, port, pause) in steps {
            now += pause;
            let (inner, from) = (inner(number), outer(host, port));
            // As the link asks: first whether all is as it was.
            let heard = match peers.renew(inner, from, at(now)) {
                true => Ok(News::Known),
                false => peers.hear(inner, from, at(now)),
            };
            prop_assert_eq!(heard, model.hear(inner, from, now));
            prop_assert_eq!(peers.len(), model.clients.len());
            prop_assert!(peers.len() <= most);
            for (inner, at, _) in &model.clients {
                prop_assert_eq!(peers.find(*inner), Some(*at));
            }
            for host in 0..5 {
                let count = model.clients.iter().filter(|(_, at, _)| at.ip() == outer(host, 0).ip()).count();
                prop_assert_eq!(peers.hosts.get(&outer(host, 0).ip()).copied().unwrap_or(0), count as u32);
            }
            let in_use = model.clients.iter().filter(|(.., heard)| !Model::expired(*heard, now));
            let clients: HashSet<_> = in_use.map(|(_, at, _)| *at).collect();
            let found = peers.in_use(at(now));
            prop_assert_eq!(found.hosts.into_keys().collect::<HashSet<_>>(), clients.iter().map(SocketAddr::ip).collect());
            prop_assert_eq!(found.sole, clients.iter().next().copied().filter(|_| clients.len() == 1));
        }
    }
}
