#!/bin/bash
. "${BENCH_LIB%/*}/wireguard.sh"
ABOUT="WireGuard in Go"
NEEDS="wireguard-go wg:wireguard-tools"
DAEMON="env WG_PROCESS_FOREGROUND=1 wireguard-go -f"
main "$@"
