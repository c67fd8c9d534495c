#!/bin/bash
. "${BENCH_LIB%/*}/vpnlab.sh"
ABOUT="vpnlab vpn, only with many packets a system call"
OPTIONS="--offload=batch"
vpnlab_option --offload
main "$@"
