//! Who may have which inner address, and where packets go.

use super::*;

const NOW: Duration = Duration::from_secs(1000);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The client on host 198.51.100.HOST.
fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, host], port))
}

fn addresses(of_tun: &[&str]) -> Addresses {
    let of_tun: Vec<IpNet> = of_tun.iter().map(|text| text.parse().unwrap()).collect();
    let mut own: Vec<_> = of_tun.iter().map(IpNet::addr).collect();
    own.extend([ip("10.1.2.3"), ip("127.0.0.1"), ip("::1")]);
    let addresses = Addresses::default();
    addresses.learn(Known { name: "tun0".into(), of_tun, own });
    addresses
}

/// A server with 10.1.3.2/24, fd00:3::2/64 and a link-local address.
fn server(rules: Rules) -> Clients {
    let mut clients = Clients::new(rules);
    clients.judge_by(addresses(&["10.1.3.2/24", "fd00:3::2/64", "fe80::2/64"]));
    clients
}

fn rules(allow_source: &[&str]) -> Rules {
    Rules { allow_source: allow_source.iter().map(|text| text.parse().unwrap()).collect(), ..Rules::default() }
}

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: ip(source), destination: ip(destination) }
}

/// A packet between these addresses, as far as it matters here.
fn packet(source: &str, destination: &str) -> Vec<u8> {
    match (ip(source), ip(destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            [&[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0, 0][..], &source.octets(), &destination.octets()].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            [&[0x60, 0, 0, 0, 0, 0, 58, 64][..], &source.octets(), &destination.octets()].concat()
        }
        _ => panic!("two families"),
    }
}

/// What becomes of a packet from this source to userv.
fn take(clients: &mut Clients, source: &str, from: SocketAddr) -> Result<Change, Refusal> {
    let destination = if source.contains(':') { "2001:db8::1" } else { "10.1.1.2" };
    clients.take(ends(source, destination), from, NOW)
}

#[test]
fn an_inner_source_has_to_be_one_that_a_client_can_have() {
    let mut clients = server(Rules::default());
    for (source, verdict) in [
        ("10.1.3.1", None),
        ("fd00:3::77", None),
        ("fe80::77", None),
        ("10.1.3.2", Some(Refusal::Own)),
        ("10.1.2.3", Some(Refusal::Own)),
        ("fe80::2", Some(Refusal::Own)),
        ("10.1.3.0", Some(Refusal::NoHost)),
        ("10.1.3.255", Some(Refusal::NoHost)),
        ("255.255.255.255", Some(Refusal::NoHost)),
        ("0.0.0.0", Some(Refusal::NoHost)),
        ("127.0.0.2", Some(Refusal::NoHost)),
        ("224.0.0.1", Some(Refusal::NoHost)),
        ("::", Some(Refusal::NoHost)),
        ("ff02::1", Some(Refusal::NoHost)),
        ("::ffff:10.1.3.1", Some(Refusal::NoHost)),
        ("10.1.4.1", Some(Refusal::Foreign)),
        ("8.8.8.8", Some(Refusal::Foreign)),
        ("fd00:4::1", Some(Refusal::Foreign)),
    ] {
        assert_eq!(take(&mut clients, source, at(1, 9)).err(), verdict, "{source}");
    }
}

#[test]
fn allow_source_widens_what_may_be_but_nothing_that_cannot() {
    let mut clients = server(rules(&["0.0.0.0/0", "::/0"]));
    for source in ["8.8.8.8", "10.1.4.1", "fd00:4::1"] {
        assert!(take(&mut clients, source, at(1, 9)).is_ok(), "{source}");
    }
    for source in
        ["10.1.3.2", "10.1.2.3", "127.0.0.1", "10.1.3.255", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "ff02::1"]
    {
        assert!(take(&mut clients, source, at(1, 9)).is_err(), "{source}");
    }
}

#[test]
fn without_addresses_nothing_is_taken_and_with_them_it_is() {
    let mut clients = Clients::new(Rules::default());
    assert_eq!(take(&mut clients, "10.1.3.1", at(1, 9)), Err(Refusal::Foreign));
    clients.judge_by(addresses(&[]));
    assert_eq!(take(&mut clients, "10.1.3.1", at(1, 9)), Err(Refusal::Foreign));
    clients.addresses.learn(addresses(&["10.1.3.2/24"]).now().clone());
    assert_eq!(take(&mut clients, "10.1.3.1", at(1, 9)), Ok(Change::New { first: true }));
    // The client's address becomes the server's.
    clients.addresses.learn(addresses(&["10.1.3.1/24"]).now().clone());
    assert_eq!(take(&mut clients, "10.1.3.1", at(1, 9)), Err(Refusal::Own));
    assert_eq!(clients.count().0, 0);
}

#[test]
fn a_datagram_from_inside_the_tunnel_is_none_of_a_client() {
    let mut clients = server(Rules::default());
    assert_eq!(take(&mut clients, "10.1.3.1", "10.1.3.9:9".parse().unwrap()), Err(Refusal::OuterInside));
    // Nor does it get an address that was somebody's before.
    take(&mut clients, "10.1.3.1", at(1, 9)).unwrap();
    let later = NOW + Duration::from_secs(100);
    let moved = clients.take(ends("10.1.3.1", "10.1.1.2"), "10.1.3.9:9".parse().unwrap(), later);
    assert_eq!(moved, Err(Refusal::OuterInside));
    // Link-local addresses are on every link.
    assert!(take(&mut clients, "10.1.3.3", "[fe80::9]:9".parse().unwrap()).is_ok());
}

#[test]
fn clients_reach_each_other_only_if_they_may() {
    for allowed in [false, true] {
        let mut clients = server(Rules { client_to_client: allowed, ..rules(&["10.7.0.0/16"]) });
        take(&mut clients, "10.1.3.1", at(1, 9)).unwrap();
        take(&mut clients, "10.7.0.1", at(2, 9)).unwrap();
        let verdict = |allowed, refused| if allowed { Ok(Change::None) } else { Err(refused) };
        for _ in 0..2 {
            let taken = clients.take(ends("10.1.3.1", "10.7.0.1"), at(1, 9), NOW);
            assert_eq!(taken, verdict(allowed, Refusal::Client));
        }
        // A host of the site that has not said anything yet: what the kernel sends back is looked at again.
        assert!(clients.take(ends("10.1.3.1", "10.7.0.99"), at(1, 9), NOW).is_ok());
        let routed = clients.route(&packet("10.1.3.1", "10.7.0.99"));
        assert_eq!(routed, if allowed { Ok(at(2, 9)) } else { Err(Cause::ClientToClient) });
        assert_eq!(clients.route(&packet("10.1.1.2", "10.7.0.99")), Ok(at(2, 9)));
    }
}

#[test]
fn a_packet_goes_to_the_client_that_has_its_destination() {
    let mut clients = server(Rules::default());
    assert_eq!(clients.route(&packet("10.1.1.2", "10.1.3.1")), Err(Cause::NoPeer));
    for host in 1..=3 {
        let first = host == 1;
        assert_eq!(take(&mut clients, &format!("10.1.3.{}", 10 + host), at(host, 9)), Ok(Change::New { first }));
        take(&mut clients, &format!("fd00:3::1{host}"), at(host, 9)).unwrap();
    }
    for host in 1..=3 {
        assert_eq!(clients.route(&packet("10.1.1.2", &format!("10.1.3.{}", 10 + host))), Ok(at(host, 9)));
        assert_eq!(clients.route(&packet("2001:db8::1", &format!("fd00:3::1{host}"))), Ok(at(host, 9)));
    }
    assert_eq!(clients.route(&packet("10.1.1.2", "10.1.3.99")), Err(Cause::UnknownClient));
    for many in ["224.0.0.251", "255.255.255.255", "10.1.3.255"] {
        assert_eq!(clients.route(&packet("10.1.3.2", many)), Err(Cause::ToMany), "{many}");
    }
    assert_eq!(clients.route(&packet("fe80::2", "ff02::2")), Err(Cause::ToMany));
    // A client that moves is followed, also by what was asked for just before.
    assert_eq!(clients.route(&packet("10.1.1.2", "10.1.3.13")), Ok(at(3, 9)));
    assert_eq!(take(&mut clients, "10.1.3.13", at(3, 10)), Ok(Change::Moved(at(3, 9))));
    assert_eq!(clients.route(&packet("10.1.1.2", "10.1.3.13")), Ok(at(3, 10)));
}

#[test]
fn a_client_that_is_alone_gets_all_that_no_other_can_have() {
    let mut clients = server(Rules::default());
    take(&mut clients, "fe80::1", at(1, 9)).unwrap();
    for destination in ["10.1.3.1", "10.1.3.77", "224.0.0.251"] {
        assert_eq!(clients.route(&packet("10.1.1.2", destination)), Ok(at(1, 9)), "{destination}");
    }
    // But nothing of its own.
    assert_eq!(clients.route(&packet("fe80::1", "fe80::77")), Err(Cause::UnknownClient));
    take(&mut clients, "fe80::3", at(2, 9)).unwrap();
    assert_eq!(clients.route(&packet("10.1.1.2", "10.1.3.1")), Err(Cause::UnknownClient));
    // Once the other has been silent for the timeout, it is alone again.
    let later = NOW + Duration::from_secs(61);
    clients.take(ends("fe80::1", "ff02::2"), at(1, 9), later).unwrap();
    assert_eq!(clients.survey(later), Some(vec![at(1, 9)]));
    assert_eq!(clients.survey(later), None);
    assert_eq!(clients.route(&packet("10.1.1.2", "10.1.3.1")), Ok(at(1, 9)));
}

#[test]
fn a_site_has_one_client_until_that_is_silent() {
    let mut clients = server(rules(&["10.7.0.0/16", "10.7.1.0/24"]));
    take(&mut clients, "10.1.3.1", at(1, 9)).unwrap();
    take(&mut clients, "10.7.0.1", at(2, 9)).unwrap();
    // Another may have an address that is free, but is not the site's way.
    take(&mut clients, "10.7.0.2", at(1, 9)).unwrap();
    assert_eq!(clients.route(&packet("10.1.1.2", "10.7.0.3")), Ok(at(2, 9)));
    // The network that fits best counts.
    take(&mut clients, "10.7.1.1", at(3, 9)).unwrap();
    assert_eq!(clients.route(&packet("10.1.1.2", "10.7.1.3")), Ok(at(3, 9)));
    assert_eq!(clients.route(&packet("10.1.1.2", "10.7.0.3")), Ok(at(2, 9)));
    let later = NOW + Duration::from_secs(61);
    clients.take(ends("10.7.0.9", "10.1.1.2"), at(1, 9), later).unwrap();
    assert_eq!(clients.route(&packet("10.1.1.2", "10.7.0.3")), Ok(at(1, 9)));
}

#[test]
fn no_client_is_told_of_a_shorter_way() {
    let mut clients = server(Rules::default());
    take(&mut clients, "10.1.3.1", at(1, 9)).unwrap();
    for (kind, verdict) in [(5, Err(Cause::Redirect)), (3, Ok(at(1, 9)))] {
        assert_eq!(clients.route(&[&packet("10.1.3.2", "10.1.3.1")[..], &[kind, 1, 0, 0]].concat()), verdict);
    }
    for (kind, verdict) in [(137, Err(Cause::Redirect)), (136, Ok(at(1, 9)))] {
        assert_eq!(clients.route(&[&packet("fe80::2", "fe80::1")[..], &[kind, 0, 0, 0]].concat()), verdict);
    }
}

#[test]
fn a_datagram_of_the_tunnel_is_not_led_into_it() {
    let mut clients = server(Rules::default());
    take(&mut clients, "10.1.3.1", at(1, 9)).unwrap();
    take(&mut clients, "10.1.3.3", at(2, 9)).unwrap();
    let mut own = packet("10.1.2.3", "198.51.100.2");
    own[9] = protocol::UDP;
    assert_eq!(clients.route(&own), Err(Cause::Loop));
    own[9] = protocol::ICMP;
    assert_eq!(clients.route(&own), Err(Cause::UnknownClient));
}

#[test]
fn a_client_with_an_odd_address_is_told_what_to_do() {
    let clients = server(Rules::default());
    let told = |refusal, source, destination| {
        Told { refusal, ends: ends(source, destination), from: at(1, 4000), clients: &clients }.to_string()
    };
    assert_eq!(
        told(Refusal::Foreign, "10.9.9.9", "10.1.1.2"),
        "ignored a packet from 198.51.100.1:4000: its source is 10.9.9.9, which is not in 10.1.3.0/24, where tun0 is; if that \
         client may have this address, start the server with --allow-source 10.9.9.9/32"
    );
    assert!(told(Refusal::Taken(at(2, 5000)), "10.1.3.1", "10.1.1.2").contains("the client at 198.51.100.2:5000"));
    assert!(told(Refusal::Own, "10.1.3.2", "10.1.1.2").contains("the address of tun0 itself"));
    assert!(told(Refusal::Own, "10.1.2.3", "10.1.1.2").contains("an address of this host"));
}
