#!/bin/bash
. "$BENCH_LIB"
ABOUT="no tunnel: the server routes between the two networks"
KIND=kernel
CAN="clients 6in6"
up() {
    local gateway=10.1.2.3
    [ "$INNER" = 4 ] || gateway=fd00:2::3
    on useru ip route replace "$ROUTE" via "$gateway"
}
main "$@"
