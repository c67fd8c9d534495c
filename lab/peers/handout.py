"""A tunnel as one writes it with the handout: select, a packet at a time, parsed by scapy, a line for each.

Usage: handout.py server DEVICE PORT | handout.py client DEVICE PORT SERVER
"""

import fcntl
import os
import select
import socket
import struct
import sys

from scapy.all import IP

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 0x0001, 0x1000


def main():
    role, device, port = sys.argv[1:4]
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer = None
    if role == "client":
        peer = (sys.argv[4], int(port))
    else:
        sock.bind(("0.0.0.0", int(port)))
    while True:
        ready, _, _ = select.select([sock, tun], [], [])
        for fd in ready:
            if fd is sock:
                data, sender = sock.recvfrom(2048)
                if role == "server":
                    peer = sender
                pkt = IP(data)
                print("From socket <==: {} --> {}".format(pkt.src, pkt.dst))
                os.write(tun, bytes(pkt))
            if fd is tun:
                packet = os.read(tun, 2048)
                pkt = IP(packet)
                print("From tun ==>: {} --> {}".format(pkt.src, pkt.dst))
                if peer:
                    sock.sendto(packet, peer)


main()
