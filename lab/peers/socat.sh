#!/bin/bash
. "$BENCH_LIB"
ABOUT="socat, a UDP socket and a TUN device joined"
NEEDS="socat"
up() {
    spawn server server socat -b 65536 "UDP:$CLIENT:$PORT,bind=$SERVER:$PORT" "TUN:$SERVER_TUN/24,tun-name=$TUN,iff-no-pi,iff-up"
    spawn useru client socat -b 65536 "UDP:$SERVER:$PORT,bind=$CLIENT:$PORT" "TUN:$CLIENT_TUN/24,tun-name=$TUN,iff-no-pi,iff-up"
    configure_server "$TUN"
    configure_client "$TUN"
}
main "$@"
