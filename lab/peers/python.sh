#!/bin/bash
. "$BENCH_LIB"
ABOUT="the handout's style: Python, select, scapy, a line per packet; MTU 1500"
KIND=yardstick
NEEDS="/usr/bin/python3:python3"
[ -e /usr/lib/python3/dist-packages/scapy/__init__.py ] || MISSING="scapy (package python3-scapy)"
up() {
    spawn server server /usr/bin/python3 "$PEERS/handout.py" server "$TUN" "$PORT"
    spawn useru client /usr/bin/python3 "$PEERS/handout.py" client "$TUN" "$PORT" "$SERVER"
    configure_server "$TUN" 1500
    configure_client "$TUN" 1500
}
main "$@"
