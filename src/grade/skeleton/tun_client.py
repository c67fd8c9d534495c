"""Steps 2 to 4: the client's end of the tunnel.

Step 2: each packet that comes out of the TUN device goes to the server, as the payload of a UDP datagram.
Step 4: and each packet that the server sends back goes into the TUN device.

Run it on useru:                            sudo python3 tun_client.py
"""
import socket

from tun import configure, create_tun

# TODO: the name or the address of the server as useru sees it, and its port.
SERVER = None
PORT = None


def main():
    tun, name = create_tun()
    configure(name, '10.1.3.1/24')
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Which packets come here is decided by useru's routes. The one to 10.1.1.0/24 you set by hand
    # in step 2, while this program runs; or here, each time it starts.
    while True:
        # TODO, step 2: read a packet from the TUN device, and send it to the server as it is. The
        # call waits for the packet.
        # TODO, step 4: packets come from two sides now, tun and sock. Wait for both at once with
        # select.select(), and do what is to be done for each that is ready.
        raise SystemExit('tun_client.py: there is nothing here yet')


if __name__ == '__main__':
    main()
