#!/bin/bash
. "${BENCH_LIB%/*}/vpnlab.sh"
ABOUT="vpnlab vpn, all but USO"
OPTIONS="--offload=tso,udp"
vpnlab_option --offload
main "$@"
