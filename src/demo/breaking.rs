//! After the handout: a TCP session through the tunnel, the tunnel breaks while somebody types, and nothing is lost.

use super::stage::Stage;
use super::stages::{PING, tunnel_both_ways};
use crate::error::Result;
use crate::topology::Topology;

/// What the experiment shows.
pub const TITLE: &str = "a TCP session outlives a tunnel that breaks";

/// The port of the session.
const PORT: u16 = 2323;

/// What is typed while the tunnel is broken.
const TYPED: [&str; 3] = ["is anybody", "still", "there?"];

/// The story.
pub fn story(stage: &mut Stage<'_>, Topology { tunnel, .. }: &Topology) -> Result<()> {
    let own = tunnel.client_address.addr().to_string();
    stage
        .say("The tunnel of step 4, and a TCP session through it: what is typed into nc on useru, nc on userv prints.");
    let [server, client] = tunnel_both_ways(stage)?;
    let listener = stage.start("userv", &format!("nc -v -l -p {PORT}"))?;
    let ready = stage.sees(&listener, &["istening on"]);
    stage.must(ready, "nc waits for a connection");
    let mut speaker = stage.start_to_type("useru", &format!("nc -v userv {PORT}"))?;
    let ready = stage.sees(&speaker, &[&PORT.to_string()]);
    stage.must(ready, "the session is there");
    stage.types(&mut speaker, "hello")?;
    stage.look_at(&listener);
    let heard = stage.sees(&listener, &["hello"]);
    stage.must(heard, "userv sees what is typed on useru");
    stage.look_at(&client);
    stage.has_seen(&client, &own);

    stage.say("The tunnel breaks: the server's program ends. On useru somebody goes on typing.");
    stage.stop(server)?;
    for line in TYPED {
        stage.types(&mut speaker, line)?;
    }
    stage.look_at(&listener);
    let heard = stage.has_seen(&listener, TYPED[0]);
    stage.must(!heard, "userv sees nothing while the tunnel is broken");
    let answered = stage.run("useru", &format!("{PING} userv"))?;
    stage.must(answered == 1, "a ping is lost");
    stage.say(
        "Nobody sends this ping again. But TCP keeps what it has no acknowledgement for, and tries again and again:",
    );
    stage.look_at(&client);
    let tries = (0..3).all(|_| stage.sees(&client, &["From tun ==>:", &own]));
    stage.must(tries, "useru sends its segment again and again");
    stage.run("useru", &format!("ss -tino dport = :{PORT}"))?;
    let waits = stage.output().iter().any(|line| line.contains("timer:(on,"));
    let again = stage.output().iter().any(|line| line.contains("retrans:"));
    stage.must(waits && again, "the timer runs, and segments were sent again");
    stage.say(
        "timer:(on,TIME,N): the time until the next attempt, and how many were in vain. backoff: each time it waits twice as\n\
        long. And now the server's program is started anew. It knows nothing of the session, and need not:",
    );
    let server = stage.start("server", "sudo vpnlab vpn --role server")?;
    let ready = stage.sees(&server, &["ip link set dev", "up"]);
    stage.must(ready, "the server brings its device up");
    stage.look_at(&listener);
    // Until the next attempt it is no longer than the tunnel was broken.
    let patient = |stage: &mut Stage<'_>, line| (0..3).any(|_| stage.sees(&listener, &[line]));
    let heard = TYPED.iter().all(|line| patient(stage, *line));
    stage.must(heard, "everything that was typed appears, in its order");
    stage.say("Nothing is lost, and nothing was done for it but to mend the tunnel: the two ends of TCP are on useru and userv.");
    stage.end(speaker)?;
    stage.end(listener)?;
    stage.stop(client)?;
    stage.stop(server)?;
    Ok(())
}
