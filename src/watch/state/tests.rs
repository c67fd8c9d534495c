use super::*;
use crate::watch::samples::{frame, link, links, ping, state};

/// The packets that are shown, by their numbers.
fn numbers(state: &State) -> Vec<u64> {
    state.shown().map(|journey| journey.number).collect()
}

#[test]
fn a_rate_is_what_passed_between_two_looks() {
    let mut state = state();
    state.count(&links(1012), Duration::from_secs(13));
    let tun = state.hosts[0].interfaces.iter().find(|it| it.is_tun).unwrap();
    assert_eq!((tun.sent, tun.received), (Rate { packets: 500, bits: 400_000 }, Rate { packets: 500, bits: 400_000 }));
    // A device that was made anew counts from 0.
    state.count(&links(3), Duration::from_secs(14));
    assert!(state.hosts.iter().flat_map(|host| &host.interfaces).all(|it| it.sent == Rate::default()));
    assert!(!state.count(&links(3), Duration::from_secs(14)), "nothing is new");
}

#[test]
fn the_filters_take_what_they_say() {
    let mut state = state();
    state.see(0, frame("eth0", Direction::Out, 1000, &crate::watch::headers::samples::tcp(2, 1, b"")));
    assert_eq!(numbers(&state), [1, 2, 3]);
    state.apply(Action::Tunnel);
    assert_eq!(numbers(&state), [1, 2]);
    state.apply(Action::Tunnel);
    for expected in [&[1, 2][..], &[3], &[], &[], &[], &[1, 2, 3]] {
        state.apply(Action::Protocol);
        assert_eq!(numbers(&state), expected, "{:?}", state.filter);
    }
    for expected in [&[1, 2, 3][..], &[1, 2], &[1, 2], &[], &[], &[1, 2, 3]] {
        state.apply(Action::Host);
        assert_eq!(numbers(&state), expected, "{:?}", state.filter);
    }
}

#[test]
fn who_picks_a_packet_is_not_disturbed() {
    let mut state = state();
    state.apply(Action::Up);
    assert_eq!((state.picked, state.is_paused), (Some(2), true));
    state.apply(Action::Up);
    state.apply(Action::Up);
    ping(&mut state, 2);
    assert_eq!((state.picked, numbers(&state)), (Some(1), vec![1, 2]));
    state.apply(Action::Pause);
    ping(&mut state, 3);
    assert_eq!((state.picked, numbers(&state)), (None, vec![1, 2, 3, 4]));
}

#[test]
fn the_newest_packet_is_opened_where_it_is_in_the_tunnel() {
    let mut state = state();
    state.apply(Action::Open);
    let (journey, place, layers) = state.layers().unwrap();
    assert_eq!((journey.number, place.interface.as_str()), (2, "eth0"));
    assert!(place.sight.outer.is_some());
    let opened = state.opened.unwrap();
    assert_eq!(layers[opened.layer].title, "IPv4 10.1.1.2 > 10.1.3.1");
    state.apply(Action::Back);
    assert_eq!((state.opened, state.picked), (None, Some(2)));
    state.apply(Action::Clear);
    state.apply(Action::Open);
    assert_eq!((state.opened, state.picked), (None, None));
}

#[test]
fn up_and_down_go_through_all_fields_and_back() {
    let mut state = state();
    state.apply(Action::Open);
    state.apply(Action::First);
    let at = |state: &State| state.opened.map(|opened| (opened.layer, opened.field));
    let mut way = vec![at(&state)];
    loop {
        state.apply(Action::Down);
        match at(&state) {
            here if Some(&here) == way.last() => break,
            here => way.push(here),
        }
    }
    let fields: usize = state.layers().unwrap().2.iter().map(|layer| 1 + layer.fields.len()).sum();
    assert_eq!(way.len(), fields);
    while let Some(here) = way.pop() {
        assert_eq!(at(&state), here);
        state.apply(Action::Up);
    }
    state.apply(Action::NextLayer);
    assert_eq!(at(&state), Some((1, None)));
}

#[test]
fn the_control_network_is_shown_when_something_passes_it() {
    let mut state = state();
    let shown = |state: &State, host: usize| {
        let host = &state.hosts[host];
        host.interfaces.iter().filter(|it| state.shows(it)).map(|it| it.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&state, 0), ["eth0", "tun0"]);
    assert!(shown(&state, 4).is_empty());
    state.see(0, frame("eth3", Direction::Out, 0, &crate::watch::headers::samples::echo(8, 9, 64)));
    assert_eq!(shown(&state, 0), ["eth0", "eth3", "tun0"]);
    assert_eq!(shown(&state, 4), ["eth0"]);
}

#[test]
fn names_are_shown_as_ascii() {
    let mut state = state();
    let mut links = links(1);
    links[0].push((link("a\x1b[2J\u{fc}", 20, 0), Vec::new()));
    state.count(&links, Duration::from_secs(20));
    assert_eq!(state.hosts[0].interfaces.last().unwrap().name, "a?[2J?");
}
