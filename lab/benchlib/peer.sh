# What every peer's script sources: . "$BENCH_LIB". A peer is an executable NAME.sh, in lab/peers or in a directory that
# `lab/bench --extra-peers DIR` names:
#
#     #!/bin/bash
#     . "$BENCH_LIB"
#     ABOUT="what it is, in a few words"
#     KIND=user                   # user: an existing program; kernel; yardstick; vpnlab
#     NEEDS="socat wg:wireguard-tools"   # programs, with their Debian packages where those have other names
#     CAN="clients 6in6 6in4"     # what it can beyond one tunnel with IPv4 in IPv4; `oneway` if it has no way back
#     up() {
#         spawn server NAME COMMAND...   # on that host, until the peer is taken down; its log is $STATE/NAME.log
#         spawn useru NAME COMMAND...
#         configure_server tun0   # waits for the device; sets address, MTU and the client's route
#         configure_client tun0
#     }
#     main "$@"
#
# CPU time and memory are those of the spawned commands and of all of their children: they have to stay in the foreground.
# Everything in the lab is gone after each measurement. Where a peer leaves something outside, it defines down().
#
# Given by lab/bench: VPNLAB (program), LAB (its name), STATE (directory for files, kept for the whole run), PEERS (lab/peers).
# Set for each tunnel, before up(): I, TUN, PORT, CLIENT and SERVER (outer addresses), CLIENT_TUN, SERVER_TUN, PREFIX and ROUTE
# (inner ones), MTU. A peer that can `clients` is called once for each of CLIENTS tunnels, and has to use them all.
set -eu
: "${CLIENTS:=1}" "${INNER:=4}" "${OUTER:=4}"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
ABOUT='' KIND=user NEEDS='' CAN='' MISSING=''

# on HOST COMMAND...
on() {
    local host=$1
    shift
    "$VPNLAB" lab --lab "$LAB" -q exec "$host" -- "$@"
}

# spawn HOST NAME COMMAND...
spawn() {
    local host=$1 name=$2
    shift 2
    # Not by on(): $! has to be the `lab exec` itself, below which is nothing but the command.
    "$VPNLAB" lab --lab "$LAB" -q exec "$host" -- "$@" >"$STATE/$name.log" 2>&1 </dev/null &
    echo "$! $name" >>"$STATE/spawned"
}

# until_true COMMAND...: tries for five seconds
until_true() {
    local try
    for try in {1..100}; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "waited in vain for: $*" >&2
    return 1
}

wait_device() { # HOST DEVICE
    until_true on "$1" ip link show "$2"
}

configure() { # HOST DEVICE ADDRESS MTU
    wait_device "$1" "$2"
    on "$1" ip address replace "$3/$PREFIX" dev "$2"
    on "$1" ip link set "$2" mtu "$4" up
}

configure_server() { # DEVICE [MTU]
    configure server "$1" "$SERVER_TUN" "${2:-$MTU}"
}

configure_client() { # DEVICE [MTU]
    configure useru "$1" "$CLIENT_TUN" "${2:-$MTU}"
    on useru ip route replace "$ROUTE" dev "$1"
}

# vpnlab_option OPTION: says so where this vpnlab has none
vpnlab_option() {
    local help
    help=$("$VPNLAB" vpn --help 2>&1) || true
    [[ $help == *" $1"[\ =$'\n'[]* ]] || MISSING="vpnlab's option $1"
}

down() { :; }

info() {
    local need
    for need in $NEEDS; do
        command -v "${need%%:*}" >/dev/null || MISSING="${MISSING:+$MISSING, }${need%%:*} (package ${need#*:})"
    done
    printf '%s\n' "$KIND" "$CAN" "$MISSING" "$ABOUT"
}

number() { # I: the names and addresses of that tunnel
    I=$1 TUN=tun$1 PORT=$((9090 + $1)) PREFIX=24 CLIENT=10.1.2.2 SERVER=10.1.2.3 MTU=1472
    CLIENT_TUN=10.1.3.1 SERVER_TUN=10.1.3.2 ROUTE=10.1.1.0/24
    if [ "$CLIENTS" -gt 1 ]; then
        CLIENT_TUN=10.1.$((100 + I)).1 SERVER_TUN=10.1.$((100 + I)).2 ROUTE=10.1.1.$((100 + I))/32
    fi
    if [ "$OUTER" = 6 ]; then
        CLIENT=fd00:2::2 SERVER=fd00:2::3 MTU=1452
    fi
    if [ "$INNER" = 6 ]; then
        CLIENT_TUN=fd00:3::1 SERVER_TUN=fd00:3::2 ROUTE=fd00:1::/64 PREFIX=64
    fi
}

main() {
    local tunnel
    case ${1-} in
        info) info ;;
        up)
            : >"$STATE/spawned"
            for ((tunnel = 0; tunnel < CLIENTS; tunnel++)); do
                number "$tunnel"
                up
            done
            ;;
        down) down ;;
        *)
            echo "usage: $0 info|up|down (called by lab/bench)" >&2
            exit 2
            ;;
    esac
}
