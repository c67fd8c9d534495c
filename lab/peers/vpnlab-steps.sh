#!/bin/bash
. "$BENCH_LIB"
ABOUT="vpnlab's steps 2 and 3, client and server, one way"
KIND=vpnlab
CAN="oneway"
up() {
    spawn server server "$VPNLAB" -q server --tun "$TUN" --mtu "$MTU"
    spawn useru client "$VPNLAB" -q client --tun "$TUN" --mtu "$MTU" --server "$SERVER:$PORT" --route "$ROUTE"
    wait_device server "$TUN"
    wait_device useru "$TUN"
}
main "$@"
