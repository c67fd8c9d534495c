"""Step 1: creates a TUN device on useru, gives it an address, and prints the packets that come out of it.

Run it on useru, and leave it running:      sudo python3 tun.py
Then, in a second terminal on useru:        ip -c address; ping -c1 10.1.3.4

The other programs import create_tun() from this file.
"""
import fcntl
import os
import struct

# From linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001  # IP packets; IFF_TAP (0x0002) would be Ethernet frames
IFF_NO_PI = 0x1000  # nothing in front of the packet

BUFFER = 2048  # more bytes than any packet here has


def create_tun():
    """Creates a TUN device. Returns its descriptor, for os.read() and os.write(), and its name.

    The device goes when the program ends, and with it its address and its routes.
    """
    tun = os.open('/dev/net/tun', os.O_RDWR)
    # The kernel puts the first free number in place of %d, and tells the name that it has chosen.
    request = struct.pack('16sH14x', b'tun%d', IFF_TUN | IFF_NO_PI)
    answer = fcntl.ioctl(tun, TUNSETIFF, request)
    name = answer[:16].rstrip(b'\0').decode()
    print('Interface name:', name, flush=True)
    return tun, name


def configure(name, address):
    """Gives the device an address, such as 10.1.3.1/24, and sets it up."""
    # TODO: run the two `ip` commands of the handout, with os.system() or subprocess.run(). Without
    # the second, the kernel sends nothing to the device; without the /24, it does not know which
    # other addresses are reached through it.


def main():
    tun, name = create_tun()
    configure(name, '10.1.3.1/24')
    while True:
        packet = os.read(tun, BUFFER)
        # TODO: print from whom the packet is, and for whom: with scapy's IP(packet).summary(), or
        # from the bytes themselves (the source is packet[12:16], the destination packet[16:20];
        # socket.inet_ntoa() makes text of four bytes). The first half of packet[0] is the IP
        # version: the kernel sends some IPv6 packets of its own accord, and they look like nonsense
        # when read as IPv4.


if __name__ == '__main__':
    main()
