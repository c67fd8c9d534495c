#!/bin/bash
. "$BENCH_LIB"
ABOUT="OpenVPN with TLS, point to point, AES-256-GCM"
NEEDS="openvpn openssl"
KEYS=$STATE/openvpn
prepare() {
    local host
    mkdir -p "$KEYS"
    for host in server useru; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=$host" \
            -keyout "$KEYS/$host.key" -out "$KEYS/$host.crt" 2>/dev/null
    done
}
fingerprint() {
    openssl x509 -in "$KEYS/$1.crt" -noout -fingerprint -sha256 | cut -d= -f2
}
end() { # HOST OTHER-HOST OWN OTHER INNER OPTION...
    local host=$1 other=$2 own=$3 remote=$4 inner=$5
    shift 5
    spawn "$host" "$host" openvpn --dev "$TUN" --dev-type tun --proto udp --lport 1194 --rport 1194 --local "$own" --remote "$remote" \
        --ifconfig "$inner" 255.255.255.0 --topology subnet --data-ciphers AES-256-GCM --cipher AES-256-GCM --disable-dco --verb 1 \
        --cert "$KEYS/$host.crt" --key "$KEYS/$host.key" --peer-fingerprint "$(fingerprint "$other")" "$@"
}
up() {
    [ -e "$KEYS/useru.crt" ] || prepare
    end server useru "$SERVER" "$CLIENT" "$SERVER_TUN" --tls-server --dh none
    end useru server "$CLIENT" "$SERVER" "$CLIENT_TUN" --tls-client
    configure_server "$TUN" 1420
    configure_client "$TUN" 1420
    until_true on useru ping -c1 -W0.2 -q "$SERVER_TUN"
}
main "$@"
