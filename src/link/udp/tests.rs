//! A socket as an end of a tunnel: who may send, what is counted and survived.

use super::*;
use crate::addresses::Known;

const LOCAL: &str = "127.0.0.1:0";

/// A minimal IPv4 packet: UDP from port 1 to port 9090 of 192.0.2.1, without payload.
fn packet() -> Vec<u8> {
    let mut packet = vec![0; 28];
    packet[0] = 0x45;
    packet[3] = 28;
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&[192, 0, 2, 9]);
    packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
    packet[20..28].copy_from_slice(&[0, 1, 0x23, 0x82, 0, 8, 0, 0]);
    packet
}

fn batch_of(packet: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.push(packet);
    batch
}

/// Receives until something was counted as received or dropped.
fn receive(link: &mut UdpLink, batch: &mut Batch) {
    crate::select::readable([link.as_fd()], &nix::sys::signal::SigSet::empty()).unwrap();
    link.recv(batch).unwrap();
}

#[test]
fn a_datagram_of_the_tunnel_itself_is_recognised() {
    let mut packet = packet();
    assert!(is_datagram_to(&packet, "192.0.2.1:9090".parse().unwrap()));
    assert!(is_datagram_to(&packet, "[::ffff:192.0.2.1]:9090".parse().unwrap()));
    assert!(!is_datagram_to(&packet, "192.0.2.1:9091".parse().unwrap()));
    assert!(!is_datagram_to(&packet, "192.0.2.2:9090".parse().unwrap()));
    packet[9] = 6;
    assert!(!is_datagram_to(&packet, "192.0.2.1:9090".parse().unwrap()));
    assert!(!is_datagram_to(&[0x4f], "192.0.2.1:9090".parse().unwrap()));
}

/// A server whose clients are 192.0.2.0/24.
fn server(rules: Rules) -> UdpLink {
    let mut server = UdpLink::on(LOCAL.parse().unwrap(), rules).unwrap();
    let addresses = Addresses::default();
    let (of_tun, own) = (vec!["192.0.2.100/24".parse().unwrap()], vec!["192.0.2.100".parse().unwrap()]);
    addresses.learn(Known { name: "tun0".into(), of_tun, own });
    server.judge_by(addresses);
    server
}

/// The packet from 192.0.2.HOST, for somewhere else.
fn packet_from(host: u8) -> Vec<u8> {
    let mut packet = packet();
    packet[12..20].copy_from_slice(&[192, 0, 2, host, 198, 51, 100, 1]);
    packet
}

/// The packet for 192.0.2.HOST, from somewhere else.
fn packet_for(host: u8) -> Vec<u8> {
    let mut packet = packet();
    packet[12..20].copy_from_slice(&[198, 51, 100, 1, 192, 0, 2, host]);
    packet
}

#[track_caller]
fn answer(client: &UdpSocket) -> Option<Vec<u8>> {
    let mut answer = [0; 2000];
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    client.recv(&mut answer).ok().map(|length| answer[..length].to_vec())
}

#[test]
fn the_server_answers_to_where_the_last_packet_came_from() {
    let mut server = server(Rules::default());
    let clients = [(); 2].map(|()| UdpSocket::bind(LOCAL).unwrap());
    let mut batch = batch_of(&packet());
    server.send(&batch).unwrap();
    assert_eq!(server.peer(), None);
    for client in &clients {
        client.send_to(&packet(), server.socket.local_addr().unwrap()).unwrap();
        receive(&mut server, &mut batch);
        assert_eq!(server.peer(), Some(client.local_addr().unwrap()));
        server.send(&batch_of(&packet_for(9))).unwrap();
        assert_eq!(answer(client), Some(packet_for(9)));
    }
}

#[test]
fn each_client_gets_what_is_for_its_inner_address_one_by_one_and_many_at_a_time() {
    let parts = Parts { tso: false, uso: false, gso: true, gro: true };
    for server in [server(Rules::default()), server(Rules::default()).with_offload(parts)] {
        let mut server = server;
        let mut batch = server.batch();
        let clients: Vec<_> = (1..=40).map(|host| (host, UdpSocket::bind(LOCAL).unwrap())).collect();
        for (host, client) in &clients {
            client.send_to(&packet_from(*host), server.socket.local_addr().unwrap()).unwrap();
            receive(&mut server, &mut batch);
            assert_eq!(batch.len(), 1);
        }
        batch.clear();
        // Runs of three for one, mixed with single ones for others, and one for nobody.
        for (host, _) in &clients {
            (0..3).for_each(|_| batch.push(&packet_for(*host)));
            batch.push(&packet_for(41 - *host));
        }
        batch.push(&packet_for(50));
        server.send(&batch).unwrap();
        for (host, client) in &clients {
            (0..4).for_each(|_| assert_eq!(answer(client), Some(packet_for(*host))));
        }
        let said = crate::counts::summary(&[("UDP", server.counts())]);
        assert!(said.contains("160 packets (4480 bytes) out"), "{said}");
    }
}

#[test]
fn an_outer_address_that_is_not_allowed_does_not_speak() {
    for (allowed, received) in [("127.0.0.0/8", 1), ("192.0.2.0/24", 0)] {
        let mut server = server(Rules { allow_peer: vec![allowed.parse().unwrap()], ..Rules::default() });
        let client = UdpSocket::bind(LOCAL).unwrap();
        client.send_to(&packet(), server.socket.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new();
        receive(&mut server, &mut batch);
        assert_eq!(batch.len(), received, "{allowed}");
        let said = crate::counts::summary(&[("UDP", server.counts())]);
        assert_eq!(said.ends_with("dropped 1: 1 from an address that is not allowed"), received == 0, "{said}");
    }
}

#[test]
fn what_is_no_ip_packet_is_dropped_and_does_not_move_the_client() {
    let mut server = server(Rules::default());
    let stranger = UdpSocket::bind(LOCAL).unwrap();
    let mut batch = Batch::new();
    for datagram in [&b"hello"[..], b""] {
        stranger.send_to(datagram, server.socket.local_addr().unwrap()).unwrap();
        receive(&mut server, &mut batch);
        assert!(batch.is_empty());
    }
    assert_eq!(server.peer(), None);
}

#[test]
fn the_client_takes_packets_from_any_port_of_the_server_but_from_no_other_address() {
    let server = UdpSocket::bind(LOCAL).unwrap();
    let mut client = UdpLink::to_server(server.local_addr().unwrap()).unwrap();
    let here = SocketAddr::new(server.local_addr().unwrap().ip(), client.socket.local_addr().unwrap().port());
    let mut batch = Batch::new();
    for (other, packets) in [("127.0.0.1:0", 1), ("127.0.0.2:0", 0)] {
        UdpSocket::bind(other).unwrap().send_to(&packet(), here).unwrap();
        receive(&mut client, &mut batch);
        assert_eq!(batch.len(), packets, "from {other}");
    }
}

#[test]
fn a_server_that_is_not_up_yet_is_counted_and_loses_no_later_packet() {
    let server = UdpSocket::bind(LOCAL).unwrap();
    let address = server.local_addr().unwrap();
    drop(server);
    let mut client = UdpLink::to_server(address).unwrap();
    let mut batch = batch_of(&packet());
    client.send(&batch).unwrap();
    let server = UdpSocket::bind(address).unwrap();
    batch = batch_of(&packet());
    client.send(&batch).unwrap();
    assert_eq!(server.recv(&mut [0; 100]).unwrap(), 28);
    let said = crate::counts::summary(&[("UDP", client.counts())]);
    assert!(said.ends_with("dropped 1: 1 connection refused"), "{said}");
}

#[test]
fn an_oversized_packet_is_counted_and_survived() {
    let server = UdpSocket::bind(LOCAL).unwrap();
    let mut client = UdpLink::to_server(server.local_addr().unwrap()).unwrap();
    client.send(&batch_of(&[0x45; 65535])).unwrap();
    let said = crate::counts::summary(&[("UDP", client.counts())]);
    assert!(said.ends_with("dropped 1: 1 message too long"), "{said}");
}

#[test]
fn a_port_in_use_is_an_error_that_says_so() {
    let taken = UdpSocket::bind(LOCAL).unwrap();
    let error = UdpLink::on(taken.local_addr().unwrap(), Rules::default()).unwrap_err();
    assert!(error.to_string().contains("the port is in use"), "{error}");
}
