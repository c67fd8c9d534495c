#!/bin/bash
. "${BENCH_LIB%/*}/vpnlab.sh"
ABOUT="vpnlab vpn, only with the UDP socket's offloads"
OPTIONS="--offload=udp"
vpnlab_option --offload
main "$@"
