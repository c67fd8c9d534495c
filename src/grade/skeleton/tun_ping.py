"""Step 1: answers the pings that come out of a TUN device, whatever address they are for.

Run it on useru:                            sudo python3 tun_ping.py
Then, in a second terminal on useru:        ping -c3 10.1.3.4
"""
import os

from tun import BUFFER, configure, create_tun


def is_echo_request(packet):
    """Whether these bytes are an IPv4 packet with an ICMP echo request in it."""
    # TODO: what tells IPv4 from IPv6, ICMP from UDP, and a request from a reply? All else must stay
    # unanswered, and must not end the program.
    return False


def echo_reply(packet):
    """The reply to an echo request, as bytes."""
    # TODO: whom is it from, and whom is it for? Which field makes a request a reply? What must stay
    # as it was, so that ping knows its own request again? And which checksum is no longer right
    # then?
    return packet


def main():
    tun, name = create_tun()
    configure(name, '10.1.3.1/24')
    while True:
        packet = os.read(tun, BUFFER)
        if is_echo_request(packet):
            os.write(tun, echo_reply(packet))


if __name__ == '__main__':
    main()
