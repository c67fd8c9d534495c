use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use super::{HEIGHT, Look, WIDTH, draw};
use crate::lab::capture::Frame;
use crate::pcapng::{Direction, LinkType};
use crate::topology;
use crate::watch::samples::{frame, link, links, ping, state};
use crate::watch::state::{Action, Filter, State};

const PLAIN: Look = Look { is_unicode: true, has_colour: false };
const ASCII: Look = Look { is_unicode: false, has_colour: false };
const COLOURED: Look = Look { is_unicode: true, has_colour: true };

/// What a terminal of this size shows.
fn seen(state: &State, look: &Look, width: u16, height: u16) -> (Vec<String>, Buffer) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|screen| draw(state, look, screen.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    (buffer.content.chunks(usize::from(width)).map(|cells| row(cells).trim_end().to_string()).collect(), buffer)
}

fn lines(state: &State, look: &Look) -> Vec<String> {
    seen(state, look, WIDTH, HEIGHT).0
}

#[test]
fn a_ping_through_the_tunnel_is_two_ladders_under_the_picture_of_the_lab() {
    let expected = "
 vpnlab watch   lab default                                showing every packet
 host     interface             wires               sent  bit/s received  bit/s
 useru    eth0  10.1.2.2        ──┐   lan0            12   1.6k       12   1.6k
          tun0  10.1.3.1        ══╪═╗ tunnel          12   1.6k       12   1.6k
 server   eth0  10.1.2.3        ──┘ ║                 12   1.6k       12   1.6k
          eth1  10.1.1.4        ──┐ ║ lab1            12   1.6k       12   1.6k
          tun0  10.1.3.2        ══╪═╝                 12   1.6k       12   1.6k
 userv    eth0  10.1.1.2        ──┤                   12   1.6k       12   1.6k
 userw    eth0  10.1.1.3        ──┘                   12   1.6k       12   1.6k
────── ms  useru server userv  outer [inner] ───────────────────── all packets ─
       #1  tun0> │      │      10.1.3.1 > 10.1.1.2 echo request seq 1 ttl 64
    0.110  eth0> │      │      UDP 10.1.2.2:44321 > 10.1.2.3:9090 [echo request]
    0.112  │     >eth0  │      UDP 10.1.2.2:44321 > 10.1.2.3:9090 [echo request]
    0.200  │     >tun0  │      10.1.3.1 > 10.1.1.2 echo request seq 1 ttl 64
    0.210  │     eth1>  │      10.1.3.1 > 10.1.1.2 echo request seq 1 ttl 63
    0.212  │     │      >eth0  10.1.3.1 > 10.1.1.2 echo request seq 1 ttl 63

       #2  │     │      eth0>  10.1.1.2 > 10.1.3.1 echo reply seq 1 ttl 64
    0.002  │     >eth1  │      10.1.1.2 > 10.1.3.1 echo reply seq 1 ttl 64
    0.010  │     tun0>  │      10.1.1.2 > 10.1.3.1 echo reply seq 1 ttl 63
    0.070  │     eth0>  │      UDP 10.1.2.2:44321 > 10.1.2.3:9090 [echo reply]
    0.072  >eth0 │      │      UDP 10.1.2.2:44321 > 10.1.2.3:9090 [echo reply]
    0.160  >tun0 │      │      10.1.1.2 > 10.1.3.1 echo reply seq 1 ttl 63
 space pause  ↑ ↓ pick  enter open  h host  p protocol  t tunnel  ? keys  q quit";
    assert_eq!(lines(&state(), &PLAIN).join("\n"), expected.trim_start_matches('\n'));
}

#[test]
fn an_open_packet_shows_its_layers_with_the_bytes_beside() {
    let mut state = state();
    state.apply(Action::First);
    state.apply(Action::Open);
    (0..8).for_each(|_| state.apply(Action::Down));
    let shown = lines(&state, &PLAIN);
    assert_eq!(shown[1], " #1 10.1.3.1 > 10.1.1.2 echo request seq 1");
    assert_eq!(shown[2], " useru tun0> [eth0>] │ server [>eth0] >tun0 eth1> │ userv >eth0");
    assert!(shown[3].starts_with("─ out of useru through eth0, 2 of 6, 0.110 ms ──"), "{}", shown[3]);
    assert!(shown[3].ends_with("── 126 bytes ─"), "{}", shown[3]);
    assert!(shown[4].starts_with(" ▸ Ethernet      "), "{}", shown[4]);
    let at = shown.iter().find(|line| line.starts_with('*')).unwrap();
    assert!(at.starts_with("*│   TTL               64"), "{at}");
    assert!(shown.iter().any(|line| line.contains("0030 40 00[40]01 ")), "{shown:#?}");
    // The place after it on its way: the same header, wherever it is then.
    (0..2).for_each(|_| state.apply(Action::Right));
    let shown = lines(&state, &PLAIN);
    assert!(shown[3].starts_with("─ into server through tun0, 4 of 6"), "{}", shown[3]);
    assert!(shown.iter().any(|line| line.starts_with("*  TTL               64")), "{shown:#?}");
}

#[test]
fn a_screen_that_is_too_small_says_so() {
    for (width, height) in [(79, 24), (80, 23), (30, 3), (10, 1), (1, 1)] {
        let (shown, _) = seen(&state(), &PLAIN, width, height);
        let room = usize::from(width).min("Too small a screen:".len());
        assert_eq!(shown[0], "Too small a screen:"[..room].trim_end());
    }
    assert_eq!(seen(&state(), &PLAIN, 60, 20).0[1], "60x20, 80x24 are needed.");
}

#[test]
fn without_unicode_it_is_ascii_and_without_colours_there_are_none() {
    for action in [None, Some(Action::Open), Some(Action::Help), Some(Action::Lines)] {
        let mut state = state();
        action.into_iter().for_each(|action| state.apply(action));
        assert!(lines(&state, &ASCII).concat().is_ascii());
        let (_, buffer) = seen(&state, &PLAIN, WIDTH, HEIGHT);
        assert!(buffer.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
        let coloured = lines(&state, &COLOURED);
        assert_eq!(coloured, lines(&state, &PLAIN), "colours add nothing that is not said");
    }
    let (_, buffer) = seen(&state(), &COLOURED, WIDTH, HEIGHT);
    assert!(buffer.content.iter().any(|cell| cell.fg == Color::Yellow));
}

#[test]
fn a_device_that_nobody_reads_and_an_interface_that_is_down_are_said() {
    let mut links = links(3);
    links[0].last_mut().unwrap().0.has_carrier = false;
    links[1][1].0.up = false;
    let mut state = state();
    state.count(&links, Duration::from_secs(12));
    let shown = lines(&state, &PLAIN);
    assert!(shown[3].contains("tun0  10.1.3.1        ..│.╗ unread"), "{}", shown[3]);
    assert!(shown[4].contains("eth0  10.1.2.3        ..┘ ║ down"), "{}", shown[4]);
}

#[test]
fn sampling_pausing_and_filters_are_said() {
    let mut state = state();
    state.one_of = 412;
    state.filter = Filter { host: Some(2), protocol: Some(crate::watch::sight::Protocol::Icmp), tunnelled: true };
    state.apply(Action::Pause);
    let shown = lines(&state, &PLAIN);
    assert!(shown[0].contains("lab default   PAUSED"), "{}", shown[0]);
    assert!(shown[0].ends_with("showing 1 of 412 packets"), "{}", shown[0]);
    assert!(shown[9].ends_with(" only ICMP in the tunnel at userv ─"), "{}", shown[9]);
    assert!(shown[23].starts_with(" space go on"), "{}", shown[23]);
}

#[test]
fn the_last_line_has_room_for_every_key() {
    let mut state = state();
    for look in [&PLAIN, &ASCII] {
        assert!(lines(&state, look)[23].ends_with(" q quit"), "{}", lines(&state, look)[23]);
    }
    state.apply(Action::Open);
    for look in [&PLAIN, &ASCII] {
        assert!(lines(&state, look)[23].ends_with(" q quit"), "{}", lines(&state, look)[23]);
    }
}

#[test]
fn every_key_of_the_help_has_room() {
    let mut state = state();
    state.apply(Action::Help);
    let shown = lines(&state, &ASCII);
    assert_eq!(shown[1], " Keys");
    assert!(shown[22].contains("1 of 40 "), "{}", shown[22]);
    assert!(shown.iter().all(|line| line.len() <= 80), "{shown:#?}");
}

#[test]
fn a_packet_in_a_line_tells_its_way() {
    let mut state = state();
    state.apply(Action::Lines);
    let shown = lines(&state, &PLAIN);
    let (first, second) = (
        "       #1  10.1.3.1 > 10.1.1.2 echo request seq 1            useru═server─userv",
        "       #2  10.1.1.2 > 10.1.3.1 echo reply seq 1              userv─server═useru",
    );
    assert_eq!((shown[10].as_str(), shown[11].as_str()), (first, second));
}

#[test]
fn what_is_picked_is_on_the_screen() {
    let mut state = state();
    (2..60).for_each(|number| ping(&mut state, number));
    for action in [Action::Up, Action::First, Action::PageDown, Action::Last, Action::PageUp, Action::Down] {
        state.apply(action);
        let picked = format!("#{}  ", state.picked.unwrap());
        assert!(lines(&state, &PLAIN).iter().any(|line| line.starts_with('>') && line.contains(&picked)), "{picked}");
    }
}

#[test]
fn many_interfaces_leave_room_for_packets() {
    let mut links = links(1);
    links[0].extend((10..60).map(|index| (link(&format!("tun{index}"), index, 1), Vec::new())));
    let mut state = state();
    state.count(&links, Duration::from_secs(12));
    let shown = lines(&state, &PLAIN);
    assert!(shown.iter().any(|line| line.contains("more interfaces: a larger screen shows them")), "{shown:#?}");
    assert!(shown[16].contains("outer [inner]"), "{shown:#?}");
}

/// Whatever is on the screen, a terminal shows it as it is.
fn holds_nothing_that_a_terminal_obeys(buffer: &Buffer) {
    for cell in &buffer.content {
        assert!(!cell.symbol().contains(char::is_control), "{:?}", cell.symbol());
        assert!(cell.symbol().chars().count() == 1, "{:?}", cell.symbol());
    }
}

proptest! {
    #[test]
    fn no_frame_and_no_name_breaks_the_screen(
        bytes in vec(vec(any::<u8>(), 0..120), 1..6),
        tails in vec(any::<(prop::sample::Index, u8)>(), 0..40),
        name in "\\PC{1,15}|[\\x00-\\xff]{1,15}",
        size in (1_u16..140, 1_u16..50),
        actions in vec(0_usize..12, 0..12),
    ) {
        const ACTIONS: [Action; 12] = [
            Action::Open, Action::Down, Action::Up, Action::Right, Action::Left, Action::NextLayer, Action::Last,
            Action::Lines, Action::Back, Action::Interfaces, Action::PreviousLayer, Action::PageUp,
        ];
        let mut state = State::new("default", topology::handout(), Filter::default());
        let mut links = links(7);
        links[2].push((link(&name, 33, u64::MAX / 100), Vec::new()));
        state.count(&links, Duration::from_secs(1));
        state.count(&links, Duration::from_secs(1));
        for (at, bytes) in bytes.iter().enumerate() {
            let mut long = Frame::made(&name, bytes);
            (long.kind, long.length) = (LinkType::Ethernet, 70_000);
            state.see(at % 5, long);
            state.see(at % 5, frame("tun0", Direction::In, at as u64, bytes));
        }
        // A packet of the tunnel with some bytes changed.
        let mut changed = frame("eth0", Direction::Out, 5, &crate::watch::headers::samples::datagram(&crate::watch::headers::samples::tcp(0x10, 7, b"data")));
        for (place, byte) in tails {
            let place = place.index(changed.bytes.len());
            changed.bytes[place] = byte;
        }
        state.see(0, changed);
        for action in actions {
            state.apply(ACTIONS[action]);
            let mut buffer = Buffer::empty(Rect::new(0, 0, size.0, size.1));
            draw(&state, &COLOURED, &mut buffer);
            holds_nothing_that_a_terminal_obeys(&buffer);
            let mut buffer = Buffer::empty(Rect::new(0, 0, WIDTH, HEIGHT));
            draw(&state, &ASCII, &mut buffer);
            holds_nothing_that_a_terminal_obeys(&buffer);
        }
    }
}
