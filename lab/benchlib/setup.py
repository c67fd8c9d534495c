"""The Debian packages that the benchmark and its peers want (--setup)."""

import os
import shlex
import shutil
import subprocess

from .errors import UsageError

# program or file: package
WANTED = {
    "gcc": "gcc", "/usr/include/stdio.h": "libc6-dev", "ip": "iproute2", "ping": "iputils-ping", "sysctl": "procps", "taskset": "util-linux",
    "iperf3": "iperf3", "sockperf": "sockperf", "socat": "socat", "vtund": "vtun", "ifconfig": "net-tools", "tincd": "tinc",
    "openvpn": "openvpn", "openssl": "openssl", "wireguard-go": "wireguard-go", "wg": "wireguard-tools", "/usr/bin/python3": "python3",
    "/usr/lib/python3/dist-packages/scapy/__init__.py": "python3-scapy",
}
# Without these there is no measurement; without the others only a peer is missing.
TOOLS = "gcc", "/usr/include/stdio.h", "ip", "ping", "sysctl", "taskset", "iperf3", "sockperf"


def is_there(wanted):
    return os.path.exists(wanted) if wanted.startswith("/") else bool(shutil.which(wanted))


def require_tools():
    missing = [WANTED[tool] for tool in TOOLS if not is_there(tool)]
    if missing:
        raise UsageError(f"missing packages: {', '.join(missing)}; lab/bench --setup installs them")


def install(say):
    """Installs what is missing, through apt-get."""
    missing = list(dict.fromkeys(package for wanted, package in WANTED.items() if not is_there(wanted)))
    say("two peers are no Debian packages: cargo install boringtun-cli gotatun-cli (where not on the path: BORINGTUN=, GOTATUN=)")
    if not missing:
        say("all packages are there")
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.getuid() != 0:
        command.insert(0, "sudo")
    say(f"running {shlex.join(command)}")
    if not shutil.which("apt-get") or not shutil.which(command[0]):
        raise UsageError("it needs Debian's apt-get, and root or sudo; install by hand what provides: " + " ".join(missing))
    if subprocess.run(command).returncode != 0:
        raise UsageError("apt-get failed; where it does not know a package, `apt-get update` may help")
