/* The minimal tunnel in C, as a yardstick: select, one read, one sendto. No header of its own: one datagram is one packet.
 *
 * cmin DEVICE ADDRESS PORT [SERVER PORT]    without a server it is one, and answers to where it last heard from
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <unistd.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

static struct sockaddr_in at(const char *address, const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    inet_pton(AF_INET, address, &to.sin_addr);
    return to;
}

int main(int count, char **words) {
    if (count != 4 && count != 6) {
        fprintf(stderr, "usage: cmin DEVICE ADDRESS PORT [SERVER PORT]\n");
        return 2;
    }
    int tun = open("/dev/net/tun", O_RDWR);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strncpy(request.ifr_name, words[1], IFNAMSIZ - 1);
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request)) return fail("TUN device");

    int net = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in own = at(words[2], words[3]), peer = {0};
    if (bind(net, (void *)&own, sizeof own)) return fail("bind");
    int is_server = count == 4, known = !is_server;
    if (known) peer = at(words[4], words[5]);

    char packet[2048];
    for (;;) {
        fd_set ready;
        FD_ZERO(&ready);
        FD_SET(tun, &ready);
        FD_SET(net, &ready);
        if (select((net > tun ? net : tun) + 1, &ready, NULL, NULL, NULL) < 0) return fail("select");
        if (FD_ISSET(tun, &ready)) {
            ssize_t length = read(tun, packet, sizeof packet);
            if (length > 0 && known) sendto(net, packet, length, 0, (void *)&peer, sizeof peer);
        }
        if (FD_ISSET(net, &ready)) {
            struct sockaddr_in from;
            socklen_t size = sizeof from;
            ssize_t length = recvfrom(net, packet, sizeof packet, 0, (void *)&from, &size);
            if (length <= 0) continue;
            if (is_server) peer = from, known = 1;
            if (write(tun, packet, length) < 0) { /* the device is down: the packet is lost, as a packet may be */ }
        }
    }
}
