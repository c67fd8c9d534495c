#!/bin/bash
# cargo install gotatun-cli; GOTATUN is the program, where it is not on the path.
. "${BENCH_LIB%/*}/wireguard.sh"
ABOUT="WireGuard in Rust, Mullvad's"
PROGRAM=${GOTATUN:-gotatun}
NEEDS="wg:wireguard-tools"
command -v "$PROGRAM" >/dev/null || MISSING="$PROGRAM (cargo install gotatun-cli)"
DAEMON="$PROGRAM -f --disable-drop-privileges"
main "$@"
