#!/bin/bash
. "$BENCH_LIB"
ABOUT="the kernel's own tunnel in UDP"
KIND=kernel
CAN="clients 6in6 6in4"
up() {
    local mtu=1450 # another Ethernet header and the VXLAN header
    [ "$OUTER" = 4 ] || mtu=1430
    on useru ip link add "vx$I" type vxlan id "$((42 + I))" local "$CLIENT" remote "$SERVER" dstport 4789 dev eth0
    on server ip link add "vx$I" type vxlan id "$((42 + I))" local "$SERVER" remote "$CLIENT" dstport 4789 dev eth0
    configure_server "vx$I" "$mtu"
    configure_client "vx$I" "$mtu"
    on useru ip route replace "$ROUTE" via "$SERVER_TUN" dev "vx$I"
}
main "$@"
