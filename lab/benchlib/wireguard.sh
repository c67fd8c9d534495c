# The peers that are WireGuard in user space: DAEMON is the program with its options, without the interface's name.
. "$BENCH_LIB"
KEYS=$STATE/wireguard
MTU_INSIDE=1420
# Its control socket is in /var/run/wireguard: each end has a /run of its own, so that both can be wg0. What sets it up is
# gone before anything is measured.
RUN='mount -t tmpfs none /run
mkdir /run/wireguard
(
    until [ -S /run/wireguard/wg0.sock ]; do sleep 0.05; done
    wg set wg0 private-key "$1" listen-port 51820 peer "$2" allowed-ips "$3" endpoint "$4"
) &
shift 4
exec "$@" wg0'
up() {
    local host
    mkdir -p "$KEYS"
    for host in server useru; do
        [ -e "$KEYS/$host" ] || (umask 077 && wg genkey >"$KEYS/$host")
    done
    spawn server server sh -ec "$RUN" sh "$KEYS/server" "$(wg pubkey <"$KEYS/useru")" "$CLIENT_TUN/32" "$CLIENT:51820" $DAEMON
    spawn useru client sh -ec "$RUN" sh "$KEYS/useru" "$(wg pubkey <"$KEYS/server")" "$SERVER_TUN/32,$ROUTE" "$SERVER:51820" $DAEMON
    configure_server wg0 "$MTU_INSIDE"
    configure_client wg0 "$MTU_INSIDE"
}
