#!/bin/bash
. "$BENCH_LIB"
ABOUT="vtun over UDP, neither encrypted nor compressed"
NEEDS="vtund:vtun ifconfig:net-tools"
# It keeps its locks in /var/lock: each end has a /run of its own, which /var/lock leads to.
RUN='mount -t tmpfs none /run && mkdir -p /run/lock/vtund && exec vtund -n "$@"'
up() {
    cat >"$STATE/vtun.conf" <<END
options { port 5000; timeout 60; ifconfig $(command -v ifconfig); }
lab { passwd lab; type tun; proto udp; encrypt no; compress no; keepalive no; stat no; device $TUN; up { }; down { }; }
END
    spawn server server sh -ec "$RUN" vtund -s -f "$STATE/vtun.conf" -P 5000
    until_true on server sh -c 'ss -Hltn "sport = 5000" | grep -q .'
    spawn useru client sh -ec "$RUN" vtund -f "$STATE/vtun.conf" lab "$SERVER"
    configure_server "$TUN"
    configure_client "$TUN"
}
main "$@"
