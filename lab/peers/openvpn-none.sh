#!/bin/bash
. "$BENCH_LIB"
ABOUT="OpenVPN, neither encrypted nor authenticated"
NEEDS="openvpn"
end() { # HOST OWN OTHER INNER
    spawn "$1" "$1" openvpn --dev "$TUN" --dev-type tun --proto udp --lport 1194 --rport 1194 --local "$2" --remote "$3" \
        --ifconfig "$4" 255.255.255.0 --topology subnet --cipher none --auth none --verb 1
}
up() {
    end server "$SERVER" "$CLIENT" "$SERVER_TUN"
    end useru "$CLIENT" "$SERVER" "$CLIENT_TUN"
    configure_server "$TUN"
    configure_client "$TUN"
}
main "$@"
