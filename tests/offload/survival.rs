//! What happens to the network while a fast tunnel is at full load is survived.

use crate::common::{self, Lab};
use crate::fixtures::traffic::{CLIENT, Load, bytes_come, has_route, vpn};
use crate::for_each_user;

for_each_user! {
    fn an_interface_that_goes_down_and_up_at_full_load_is_survived(user: User) {
        let lab = Lab::up_at(user, 4);
        let (mut client, mut server) = vpn(&lab, &[], &[]);
        let load = [Load::start(&lab, "useru", "userv", "10.1.1.2"), Load::start(&lab, "userv", "useru", CLIENT)];
        bytes_come(&lab, "server", 1_000_000);
        bytes_come(&lab, "useru", 1_000_000);
        for (host, device) in [("useru", "tun0"), ("server", "tun0"), ("useru", "eth0"), ("server", "eth0")] {
            for _ in 0..3 {
                lab.sh(host, &format!("ip link set dev {device} down; ip link set dev {device} up")).ok();
            }
            has_route(&lab);
            bytes_come(&lab, "server", 1_000_000);
            bytes_come(&lab, "useru", 1_000_000);
        }
        load.into_iter().for_each(Load::end);
        assert!(client.runs() && server.runs());
        assert!(lab.pings("useru", "userv") && lab.pings("userv", CLIENT));
        let (client, server) = (client.interrupt().ok(), server.interrupt().ok());
        for done in [client, server] {
            assert!(!done.stderr.contains("from now on"), "nothing is switched off for that: {done:#?}");
        }
    }
}
