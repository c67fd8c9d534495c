#!/bin/bash
. "$BENCH_LIB"
ABOUT="a minimal tunnel in C: select, one read, one sendto"
KIND=yardstick
CAN="clients"
up() {
    spawn server "server$I" "$STATE/cmin" "$TUN" 0.0.0.0 "$PORT"
    spawn useru "client$I" "$STATE/cmin" "$TUN" 0.0.0.0 0 "$SERVER" "$PORT"
    configure_server "$TUN"
    configure_client "$TUN"
}
main "$@"
