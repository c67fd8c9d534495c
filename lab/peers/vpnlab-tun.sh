#!/bin/bash
. "${BENCH_LIB%/*}/vpnlab.sh"
ABOUT="vpnlab vpn, only with the TUN device's offloads"
OPTIONS="--offload=tun"
vpnlab_option --offload
main "$@"
