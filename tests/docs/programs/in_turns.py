"""Step 4's client without select: it reads its TUN device and its socket in turns, and each waits for the other."""
import os
import socket

import tun

device, name = tun.create()
tun.configure(name, tun.CLIENT_ADDRESS)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    sock.sendto(os.read(device, tun.BUFFER), (tun.SERVER, tun.PORT))
    os.write(device, sock.recv(tun.BUFFER))
