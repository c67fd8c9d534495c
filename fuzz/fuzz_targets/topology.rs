//! A topology file: refused in one line, or a network about which every question has an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vpnlab::topology::Topology;

fuzz_target!(|text: &str| {
    match Topology::parse(text, "fuzz.toml") {
        Ok(topology) => {
            for asker in &topology.hosts {
                let file = topology.hosts_file(asker);
                assert!(file.lines().all(|line| line.split('\t').count() == 2), "{file:?}");
                for target in &topology.hosts {
                    let address = topology.resolve(asker, target);
                    assert!(target.interfaces.iter().any(|interface| interface.address.addr() == address));
                    topology.name_of(address.into());
                }
                assert_eq!(topology.host(&asker.name).unwrap().name, asker.name);
            }
            let members = topology.networks().iter().map(|(_, members)| members.len()).sum::<usize>();
            assert_eq!(members, topology.hosts.iter().map(|host| host.interfaces.len()).sum::<usize>());
            topology.behind_the_tunnel();
        }
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("topology fuzz.toml") && !line.contains('\n'), "{line:?}");
        }
    }
});
