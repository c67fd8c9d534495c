"""The tunnels that are compared: lab/peers/NAME.sh, and those of --extra-peers."""

import glob
import os
import subprocess
from dataclasses import dataclass

from .errors import UsageError

HERE = os.path.dirname(os.path.realpath(__file__))
PEERS = os.path.join(os.path.dirname(HERE), "peers")
LIBRARY = os.path.join(HERE, "peer.sh")

MINE = "vpnlab"

# The order of the table; others follow.
ORDER = ["direct", "vxlan", "python", "cmin", "socat", "vtun", "tinc", "openvpn-none", "openvpn-gcm", "wireguard-go", "boringtun",
         "gotatun", "prototype", "vpnlab-steps", "vpnlab-no-offload", "vpnlab-batch", "vpnlab-udp", "vpnlab-tun", "vpnlab-gso", "vpnlab-tso", "vpnlab"]


@dataclass
class Peer:
    name: str
    script: str
    kind: str
    can: list
    missing: str
    about: str

    def call(self, action, environment, timeout=60):
        """Runs the peer's script: its exit code, and what it said."""
        # Not through pipes: what it starts lives on, and would hold them open.
        log = os.path.join(environment["STATE"], f"{self.name}-{action}.log")
        with open(log, "w") as errors:
            try:
                code = subprocess.run([self.script, action], env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                      timeout=timeout, start_new_session=True).returncode
            except subprocess.TimeoutExpired:
                return 1, f"{self.script} {action} did not end in {timeout} s"
        with open(log) as file:
            return code, file.read().strip()


def environment(vpnlab, lab_name, state):
    """What a peer's script is given."""
    return {**os.environ, "BENCH_LIB": LIBRARY, "PEERS": PEERS, "VPNLAB": vpnlab, "LAB": lab_name, "STATE": state}


def find(directories, env):
    """All peers by name, in the table's order."""
    found = {}
    for directory in [PEERS, *directories]:
        scripts = sorted(glob.glob(os.path.join(directory, "*.sh")))
        if not scripts:
            raise UsageError(f"{directory}: there is no peer's script, NAME.sh, in it")
        for script in scripts:
            name = os.path.basename(script)[:-3]
            found[name] = inspect(name, script, env)
    place = {name: number for number, name in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda item: place.get(item[0], len(ORDER))))


def inspect(name, script, env):
    try:
        done = subprocess.run([script, "info"], env=env, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise UsageError(f"{script}: {error.strerror}; a peer is an executable script") from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != 4:
        raise UsageError(f"{script} info: {done.stderr.strip() or 'unexpected output'}; see {LIBRARY} for what a peer is")
    kind, can, missing, about = lines
    return Peer(name, script, kind, can.split(), missing, about)


def select(peers, wanted, say):
    """The peers to measure: those that the user named, or all that are there."""
    if wanted is None:
        for peer in peers.values():
            if peer.missing:
                say(f"{peer.name} is left out, missing: {peer.missing}")
        return [peer for peer in peers.values() if not peer.missing]
    for name in wanted:
        if name not in peers:
            raise UsageError(f"there is no peer {name}; there are: {', '.join(peers)}")
        if peers[name].missing:
            raise UsageError(f"{name} cannot be measured, missing: {peers[name].missing}")
    return [peer for name, peer in peers.items() if name in wanted]
