#!/bin/bash
. "${BENCH_LIB%/*}/vpnlab.sh"
ABOUT="vpnlab vpn, one packet a system call, as in the handout"
OPTIONS="--no-offload"
vpnlab_option --no-offload
main "$@"
