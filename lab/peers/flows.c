/* Many TCP connections at once, each as fast as it goes, and the count of what each of them brought.
 *
 * flows recv PORT NUMBER SECONDS           waits for NUMBER connections; prints a line when it begins to count, and after that
 *                                          what each connection received, in bit/s
 * flows send PORT NUMBER ADDRESS...        makes NUMBER connections to each address, and sends until it is ended
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 64, PIECE = 128 << 10 };

static const double WARM_UP = 0.5; /* seconds in which the flows find their rates */
static char piece[PIECE];

static int fail(const char *what) {
    perror(what);
    return 1;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static int tcp(void) {
    int net = socket(AF_INET, SOCK_STREAM, 0);
    /* Whatever the system's default is: others may pace. */
    if (setsockopt(net, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5)) perror("cubic");
    return net;
}

static void watch(int epoll, int net, unsigned events, unsigned number) {
    struct epoll_event event = {.events = events, .data.u64 = (unsigned long)number << 32 | net};
    epoll_ctl(epoll, EPOLL_CTL_ADD, net, &event);
}

static int receive(const char *port, int number, double seconds) {
    int listener = tcp(), epoll = epoll_create1(0);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (void *)&own, sizeof own) || listen(listener, 4096)) return fail("listen");
    for (int i = 0; i < number; i++) {
        int net = accept(listener, NULL, NULL);
        if (net < 0) return fail("accept");
        watch(epoll, net, EPOLLIN, i);
    }
    unsigned long *bytes = calloc(number, sizeof *bytes);
    double start = 0, begin = now(), time;
    while ((time = now()) < begin + WARM_UP + seconds) {
        if (!start && time >= begin + WARM_UP) {
            start = time;
            memset(bytes, 0, number * sizeof *bytes);
            puts("counting");
            fflush(stdout);
        }
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            int net = events[i].data.u64 & 0xffffffff;
            ssize_t got = recv(net, piece, PIECE, MSG_DONTWAIT);
            if (got > 0) bytes[events[i].data.u64 >> 32] += got;
            if (got == 0) return fail("a connection ended");
        }
    }
    for (int i = 0; i < number; i++) printf("%.0f\n", bytes[i] * 8 / (time - start));
    return 0;
}

static int send_to(const char *port, int number, int addresses, char **words) {
    int epoll = epoll_create1(0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    for (int i = 0; i < number * addresses; i++) {
        int net = tcp();
        if (inet_pton(AF_INET, words[i % addresses], &to.sin_addr) != 1) return fail("address");
        if (connect(net, (void *)&to, sizeof to)) return fail("connect");
        watch(epoll, net, EPOLLOUT, i);
    }
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int net = events[i].data.u64 & 0xffffffff;
            if (send(net, piece, PIECE, MSG_DONTWAIT) < 0 && errno != EAGAIN) return fail("send");
        }
    }
}

int main(int count, char **words) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (count == 5 && !strcmp(words[1], "recv")) return receive(words[2], atoi(words[3]), atof(words[4]));
    if (count >= 5 && !strcmp(words[1], "send")) return send_to(words[2], atoi(words[3]), count - 4, words + 4);
    fprintf(stderr, "usage: flows recv PORT NUMBER SECONDS | flows send PORT NUMBER ADDRESS...\n");
    return 2;
}
