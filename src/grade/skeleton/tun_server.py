"""Steps 3 and 4: the server's end of the tunnel.

Step 3: the packet in each UDP datagram goes into the TUN device; from there the kernel forwards it.
Step 4: and each packet that comes out of the TUN device goes to the client.

Run it on server:                           sudo python3 tun_server.py
Before that, once:                          sudo sysctl -w net.ipv4.ip_forward=1
"""
import socket

from tun import configure, create_tun

PORT = 9090

# TODO: an address of the tunnel's network, 10.1.3.0/24, but not the client's: the kernel drops what
# comes from outside and says that it is from the host itself.
ADDRESS = None


def main():
    if ADDRESS is None:
        raise SystemExit('tun_server.py: its TUN device has no address yet')
    tun, name = create_tun()
    configure(name, ADDRESS)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(('0.0.0.0', PORT))
    while True:
        # TODO, step 3: receive a datagram, and write the packet in it to the TUN device.
        # TODO, step 4: wait for sock and tun at once, as the client does. Where is the client, that
        # is: which address and port does a packet go to? It may be another port tomorrow, and
        # before the first datagram nobody knows.
        raise SystemExit('tun_server.py: there is nothing here yet')


if __name__ == '__main__':
    main()
