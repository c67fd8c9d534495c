#!/bin/bash
. "${BENCH_LIB%/*}/vpnlab.sh"
ABOUT="vpnlab vpn, only with UDP_SEGMENT"
OPTIONS="--offload=gso"
vpnlab_option --offload
main "$@"
