# The peers vpnlab-*.sh: `vpnlab vpn` at both ends, with the options in OPTIONS.
. "$BENCH_LIB"
KIND=vpnlab
CAN="clients 6in6 6in4"
up() {
    local server=$SERVER bind=0.0.0.0
    [ "$OUTER" = 4 ] || server="[$SERVER]" bind=::
    local both=(-q vpn $OPTIONS --tun "$TUN" --mtu "$MTU")
    spawn server "server$I" "$VPNLAB" "${both[@]}" --role server --bind "$bind" --port "$PORT" --address "$SERVER_TUN/$PREFIX"
    spawn useru "client$I" "$VPNLAB" "${both[@]}" --role client --server "$server:$PORT" --address "$CLIENT_TUN/$PREFIX" --route "$ROUTE"
    wait_device server "$TUN"
    wait_device useru "$TUN"
}
