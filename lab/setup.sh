#!/bin/sh
# Installs the Debian packages that the build, the grader and the handout's own commands want, and opens /dev/net/tun to
# every user, as udev does on an ordinary machine. With --tests also what the tests read files and pages with, what the
# fuzz targets are linked with, and what the package is built and tried with, which is larger. Safe to run again; quiet
# when nothing is missing.
set -eu

# command or file -> package
wanted='
cc:gcc
/usr/include/stdio.h:libc6-dev
ip:iproute2
nft:nftables
ping:iputils-ping
traceroute:traceroute
tcpdump:tcpdump
sysctl:procps
nsenter:util-linux
bwrap:bubblewrap
prlimit:util-linux
script:bsdutils
/usr/bin/python3:python3
/usr/lib/python3/dist-packages/scapy/__init__.py:python3-scapy
'

for_tests='
c++:g++
tshark:tshark
chromium:chromium
setcap:libcap2-bin
dpkg-shlibdeps:dpkg-dev
lintian:lintian
man:man-db
/usr/share/bash-completion/bash_completion:bash-completion
zsh:zsh
fish:fish
zip:zip
arping:iputils-arping
tmux:tmux
'

case ${1-} in
    '') ;;
    --tests) wanted=$wanted$for_tests ;;
    *)
        echo "usage: lab/setup.sh [--tests]" >&2
        exit 2
        ;;
esac

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "lab/setup.sh: root is needed to run: $*" >&2
        echo "lab/setup.sh: there is no sudo here; run lab/setup.sh as root once" >&2
        exit 3
    fi
}

# A plain user's path lacks the directories of ip and tcpdump.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=
for pair in $wanted; do
    what=${pair%%:*}
    case $what in
        /*) [ -e "$what" ] || missing="$missing ${pair#*:}" ;;
        *) command -v "$what" >/dev/null || missing="$missing ${pair#*:}" ;;
    esac
done
if [ -n "$missing" ]; then
    echo "lab/setup.sh: installing$missing"
    command -v apt-get >/dev/null || {
        echo "lab/setup.sh: this is no Debian; install by hand what provides:$missing" >&2
        exit 3
    }
    as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

[ -e /dev/net/tun ] || as_root sh -c 'modprobe tun 2>/dev/null || true'
if [ ! -e /dev/net/tun ]; then
    echo "lab/setup.sh: there is no /dev/net/tun: the kernel has no TUN driver, or this is a container without the device" >&2
    exit 3
fi
if [ "$(stat -c %a /dev/net/tun)" != 666 ]; then
    echo "lab/setup.sh: opening /dev/net/tun to every user (chmod 0666), as udev does"
    as_root chmod 0666 /dev/net/tun
fi
