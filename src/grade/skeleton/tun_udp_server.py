"""Step 2: receives UDP datagrams on port 9090, and prints their addresses, outside and inside.

Run it on server:                           python3 tun_udp_server.py
"""
import socket

PORT = 9090
BUFFER = 2048


def main():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(('0.0.0.0', PORT))
    print('Start UDP server on port', PORT, flush=True)
    while True:
        data, (ip, port) = sock.recvfrom(BUFFER)
        # TODO: print where the datagram comes from, address and port, and between which two
        # addresses the packet inside of it is. The datagram's payload is the packet, from its first
        # byte on.


if __name__ == '__main__':
    main()
