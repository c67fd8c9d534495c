#!/bin/bash
. "$BENCH_LIB"
ABOUT="tinc, without encryption and authentication"
NEEDS="tincd:tinc"
directory() { # NAME ADDRESS SUBNETS [CONNECT]
    mkdir -p "$STATE/tinc/$1/hosts"
    printf '%s\n' "Name = $1" "Interface = $TUN" "AddressFamily = ipv4" ${4:+"ConnectTo = $4"} >"$STATE/tinc/$1/tinc.conf"
    printf '%s\n' "Address = $2" "Cipher = none" "Digest = none" "Compression = 0" >"$STATE/tinc/$1/hosts/$1"
    printf 'Subnet = %s\n' $3 >>"$STATE/tinc/$1/hosts/$1"
    printf '#!/bin/sh\n' >"$STATE/tinc/$1/tinc-up"
    chmod +x "$STATE/tinc/$1/tinc-up"
    tincd -c "$STATE/tinc/$1" -K2048 </dev/null >/dev/null 2>&1
}
prepare() {
    directory server "$SERVER" "10.1.1.0/24 $SERVER_TUN/32"
    directory useru "$CLIENT" "$CLIENT_TUN/32" server
    cp "$STATE/tinc/useru/hosts/useru" "$STATE/tinc/server/hosts/"
    cp "$STATE/tinc/server/hosts/server" "$STATE/tinc/useru/hosts/"
}
up() {
    local host
    [ -e "$STATE/tinc/useru/hosts/server" ] || prepare
    for host in server useru; do
        spawn "$host" "$host" tincd -D -c "$STATE/tinc/$host" --pidfile="$STATE/tinc/$host.pid"
        until_true on "$host" ip link show "$TUN"
    done
    configure_server "$TUN" 1455
    configure_client "$TUN" 1455
    until_true on useru ping -c1 -W0.2 -q "$SERVER_TUN"
    sleep 3 # until it has found out that UDP works, and how large a packet may be
}
main "$@"
