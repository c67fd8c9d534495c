"""Many clients of one VPN server, each with a socket and an inner address of its own: pings the server through the tunnel,
and checks that each client gets its own replies and no other's.

Usage: many_clients.py SERVER PORT CLIENTS ROUNDS INSIDE [BYTES]

INSIDE is the server's inner address in an IPv4 subnet of 16 bits, as 10.20.0.1. In each round every client sends one echo
request of BYTES bytes (84); 32 are on their way at a time, of one client or of many. Prints what was answered, and how long
it took.
"""
import select
import socket
import struct
import sys
import time

WINDOW = 32
PATIENCE = 5.0  # seconds without any reply


def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(source, destination, number, size):
    body = b'\0' * (size - 28)
    icmp = struct.pack('!BBHHH', 8, 0, 0, number & 0xFFFF, number >> 16) + body
    icmp = icmp[:2] + struct.pack('!H', checksum(icmp)) + icmp[4:]
    header = struct.pack('!BBHHHBBH4s4s', 0x45, 0, size, 0, 0, 64, 1, 0, source, destination)
    return header[:10] + struct.pack('!H', checksum(header)) + header[12:] + icmp


class Client:
    """One client: its socket, its address, and what it sends."""

    def __init__(self, number, server, inside, size):
        first, second = inside[0], inside[1]
        # From .1.1 on, so that it is never the server's own address, nor the subnet's.
        self.address = bytes([first, second, 1 + number // 250, 1 + number % 250])
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(server)
        self.sock.setblocking(False)
        self.request = echo_request(self.address, inside, number, size)
        self.identity = self.request[24:28]

    def is_reply(self, packet):
        """Whether this is the reply to this client's own request."""
        return (packet[16:20] == self.address and packet[20:22] == b'\0\0' and packet[24:28] == self.identity
                and len(packet) == len(self.request))


def run(clients, rounds, poll, by_descriptor):
    answered, foreign, lost, waiting = 0, 0, 0, 0

    def hear():
        nonlocal answered, foreign, lost, waiting
        ready = poll.poll(PATIENCE)
        if not ready:
            lost, waiting = lost + waiting, 0
        for descriptor, _ in ready:
            client = by_descriptor[descriptor]
            try:
                packet = client.sock.recv(65535)
            except OSError:
                continue
            if client.is_reply(packet):
                answered, waiting = answered + 1, waiting - 1
            else:
                foreign += 1

    for _ in range(rounds):
        for client in clients:
            while waiting >= WINDOW:
                hear()
            waiting += 1
            client.sock.send(client.request)
    while waiting > 0:
        hear()
    return answered, foreign, lost


def main():
    server = sys.argv[1], int(sys.argv[2])
    count, rounds = int(sys.argv[3]), int(sys.argv[4])
    inside = socket.inet_aton(sys.argv[5])
    size = int(sys.argv[6]) if len(sys.argv) > 6 else 84
    clients = [Client(number, server, inside, size) for number in range(count)]
    by_descriptor = {client.sock.fileno(): client for client in clients}
    poll = select.epoll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    started = time.monotonic()
    answered, foreign, lost = run(clients, rounds, poll, by_descriptor)
    seconds = time.monotonic() - started
    print('%d clients: %d of %d answered, %d foreign, %d lost, %.3f s'
          % (count, answered, count * rounds, foreign, lost, seconds), flush=True)


if __name__ == '__main__':
    main()
