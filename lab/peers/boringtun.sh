#!/bin/bash
# cargo install boringtun-cli; BORINGTUN is the program, where it is not on the path.
. "${BENCH_LIB%/*}/wireguard.sh"
ABOUT="WireGuard in Rust, Cloudflare's"
PROGRAM=${BORINGTUN:-boringtun-cli}
NEEDS="wg:wireguard-tools"
command -v "$PROGRAM" >/dev/null || MISSING="$PROGRAM (cargo install boringtun-cli)"
DAEMON="env WG_THREADS=2 $PROGRAM -f --disable-drop-privileges"
main "$@"
