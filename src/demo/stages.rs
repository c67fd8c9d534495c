//! The story of the five steps: what is typed, what must be seen, and why it is so.

use super::stage::{Running, Stage};
use crate::error::Result;
use crate::topology::Topology;

/// A step's story.
pub type Story = fn(&mut Stage<'_>, &Topology) -> Result<()>;

/// The steps of the handout, by number.
pub const STAGES: [(&str, Story); 5] = [
    ("the networks are apart, and only the server is on both", networks),
    ("a TUN device gives packets to a program, and takes packets from it", tun),
    ("a packet travels inside a UDP datagram to the server", encapsulation),
    ("the server takes the packet out and routes it on", server),
    ("both directions: a tunnel", both_directions),
];

/// A ping that is not waited for long.
pub const PING: &str = "ping -c 1 -W 1";

fn networks(stage: &mut Stage<'_>, _: &Topology) -> Result<()> {
    stage.say("useru and userv are on private networks of their own. The server is on both.");
    let answered = stage.run("useru", &format!("{PING} server"))?;
    stage.must(answered == 0, "useru reaches the server");
    stage.run("useru", "traceroute server")?;
    let hops = stage.output().len().saturating_sub(1);
    stage.must(hops == 1, "the server is one hop away");
    stage.say(
        "One line: nobody is in between. But userv is out of reach: useru has no route to its network,\n\
        so the packet goes to the default gateway, and that router knows no way either:",
    );
    let answered = stage.run("useru", &format!("{PING} userv"))?;
    let told = says_unreachable(stage);
    stage.must(answered == 1 && told, "useru does not reach userv, and is told so");
    stage.say("The mirror image from userv:");
    let answered = stage.run("userv", &format!("{PING} server"))?;
    stage.must(answered == 0, "userv reaches the server");
    let answered = stage.run("userv", &format!("{PING} useru"))?;
    let told = says_unreachable(stage);
    stage.must(answered == 1 && told, "userv does not reach useru, and is told so");
    Ok(())
}

fn tun(stage: &mut Stage<'_>, Topology { tunnel, .. }: &Topology) -> Result<()> {
    let own = tunnel.client_address.addr().to_string();
    let other = tunnel.other_address(4).to_string();

    stage.say("A program makes a TUN device. What the kernel sends through it, the program reads:");
    let reader = stage.start("useru", "sudo vpnlab tun-read")?;
    let ready = stage.sees(&reader, &["ip link set dev", "up"]);
    stage.must(ready, "tun-read brings its device up");
    let answered = stage.run("useru", &format!("{PING} {other}"))?;
    stage.look_at(&reader);
    let read = stage.sees(&reader, &["ICMP", &own, &other, "echo-request"]);
    stage.must(read && answered == 1, "the program reads the ping, and nobody answers it");
    stage.say(&format!(
        "The kernel routes {} to the device, so the ping arrives in the program, which only prints it.\n\
        (Lines with fe80:: are the kernel's own: it looks for IPv6 routers on every new interface.)\n\
        A ping of userv takes another way, the default route; the program sees nothing of it:",
        tunnel.client_address.trunc()
    ));
    stage.run("useru", &format!("{PING} userv"))?;
    let rest = stage.stop(reader)?;
    stage.must(
        !rest.iter().any(|line| line.contains("echo-request")),
        "the ping of userv does not come through the device",
    );

    stage.say(
        "What the program writes, the kernel receives. Answer each echo request, and ping succeeds,\n\
        though there is no such host:",
    );
    let responder = stage.start("useru", "sudo vpnlab tun-ping")?;
    let ready = stage.sees(&responder, &["ip link set dev", "up"]);
    stage.must(ready, "tun-ping brings its device up");
    let answered = stage.run("useru", &format!("ping -c 3 -i 0.2 -W 1 {other}"))?;
    stage.must(answered == 0, "each ping is answered by the program");
    stage.stop(responder)?;
    Ok(())
}

fn encapsulation(stage: &mut Stage<'_>, topology: &Topology) -> Result<()> {
    let tunnel = &topology.tunnel;
    let userv = topology.resolve(topology.host("useru")?, topology.host("userv")?).to_string();
    let own = tunnel.client_address.addr().to_string();
    let nobody = tunnel.other_address(5).to_string();
    let route = &tunnel.routes[0];

    stage.say("A UDP server that prints what it receives, and a client that sends it each packet of its TUN device:");
    let sink = stage.start("server", &format!("vpnlab udp-sink --port {}", tunnel.port))?;
    let ready = stage.sees(&sink, &["Start UDP server"]);
    stage.must(ready, "the UDP server starts");
    let client = stage.start("useru", "sudo vpnlab client")?;
    let ready = stage.sees(&client, &["ip link set dev", "up"]);
    stage.must(ready, "the client brings its device up");
    stage.run("useru", &format!("{PING} {nobody}"))?;
    stage.look_at(&sink);
    let inside = stage.sees(&sink, &["Inside", &own, &nobody]);
    stage.must(inside, "the server prints the packet inside of the datagram");
    stage.say(
        "A packet inside of a packet: the outer one from useru to the server, the inner one as ping sent it.\n\
        A ping of userv still goes to the default gateway, and the server sees nothing:",
    );
    stage.run("useru", &format!("{PING} userv"))?;
    let seen = stage.has_seen(&sink, &userv);
    stage.must(!seen, "the server sees nothing of a ping that takes another way");
    stage.stop(client)?;

    stage.say(&format!("It needs a route: {route} through the TUN device. The client adds it when told to:"));
    let client = stage.start("useru", &format!("sudo vpnlab client --route {route}"))?;
    let ready = stage.sees(&client, &["ip route add", &route.to_string()]);
    stage.must(ready, "the client adds the route");
    let answered = stage.run("useru", &format!("{PING} userv"))?;
    let told = says_unreachable(stage);
    stage.look_at(&sink);
    let inside = stage.sees(&sink, &["Inside", &own, &userv]);
    stage
        .must(inside && answered == 1 && !told, "the ping of userv reaches the server, and no router says unreachable");
    stage.say(
        "No `Destination Host Unreachable` any more: the ping went into the tunnel. Nobody answers, since the server\n\
        only prints.",
    );
    stage.stop(client)?;
    stage.stop(sink)?;
    Ok(())
}

fn server(stage: &mut Stage<'_>, Topology { tunnel, .. }: &Topology) -> Result<()> {
    let own = tunnel.client_address.addr().to_string();
    stage.say(
        "Now the server writes each packet to a TUN device of its own, and its kernel routes it on, once it is told\n\
        to forward (--forward: sysctl -w net.ipv4.ip_forward=1). On userv, watch what arrives:",
    );
    let watch = stage.start("userv", "sudo tcpdump -l -n -i eth0 -c 1 icmp")?;
    let ready = stage.sees(&watch, &["listening on"]);
    stage.must(ready, "tcpdump listens");
    let server = stage.start("server", "sudo vpnlab server --forward")?;
    let ready = stage.sees(&server, &["ip link set dev", "up"]);
    stage.must(ready, "the server brings its device up");
    let client = stage.start("useru", &format!("sudo vpnlab client --route {}", tunnel.routes[0]))?;
    let ready = stage.sees(&client, &["ip route add"]);
    stage.must(ready, "the client adds the route");
    let answered = stage.run("useru", &format!("{PING} userv"))?;
    stage.look_at(&watch);
    let arrived = stage.sees(&watch, &[&own]);
    stage.must(arrived, "the ping arrives at userv, from the client's TUN address");
    stage.must(answered == 1, "its reply does not find the way back");
    stage.say(&format!(
        "userv received the ping and answered, but its reply to {own} has no way back: userv has no route\n\
        into the tunnel, and the tunnel has one direction only."
    ));
    for program in [client, server, watch] {
        stage.stop(program)?;
    }
    Ok(())
}

/// Starts both ends of step 4's tunnel, the server's first, and waits until each has its device.
pub fn tunnel_both_ways(stage: &mut Stage<'_>) -> Result<[Running; 2]> {
    let server = stage.start("server", "sudo vpnlab vpn --role server")?;
    let ready = stage.sees(&server, &["ip link set dev", "up"]);
    stage.must(ready, "the server brings its device up");
    let client = stage.start("useru", "sudo vpnlab vpn --role client")?;
    let ready = stage.sees(&client, &["ip route add"]);
    stage.must(ready, "the client adds the route");
    Ok([server, client])
}

fn both_directions(stage: &mut Stage<'_>, Topology { tunnel, .. }: &Topology) -> Result<()> {
    let own = tunnel.client_address.addr().to_string();
    stage.say(&format!(
        "Both ends now wait for two descriptors at once, the socket and the TUN device, with select. userv and\n\
        userw have a route to {} by way of the server, and the server forwards\n\
        (vpnlab lab up --step 4 has set both).",
        tunnel.client_address.trunc()
    ));
    let [server, client] = tunnel_both_ways(stage)?;
    for (from, to, what) in [
        ("useru", "userv", "useru reaches userv"),
        ("useru", "userw", "useru reaches userw"),
        ("userv", own.as_str(), "userv reaches useru, by its address in the tunnel"),
    ] {
        let answered = stage.run(from, &format!("ping -c 2 -i 0.2 -W 1 {to}"))?;
        stage.must(answered == 0, what);
    }
    for (program, line) in [(&client, "From tun ==>:"), (&server, "From socket <==:")] {
        stage.look_at(program);
        let seen = stage.sees(program, &[line, &own]);
        stage.must(seen, &format!("a line {line} with the ping"));
    }
    stage.say("ttl=63: one router in between, the server. The two networks are still apart, and yet reach each other.");
    stage.stop(client)?;
    stage.stop(server)?;
    Ok(())
}

/// Whether the ping that was typed last was told that there is no way.
fn says_unreachable(stage: &Stage<'_>) -> bool {
    stage.output().iter().any(|line| line.starts_with("From ") && line.contains("Unreachable"))
}
