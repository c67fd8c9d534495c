/* UDP datagrams of one size at one rate, and a sink that counts them. The counts do not travel through the tunnel.
 *
 * pps send ADDRESS PORT SIZE RATE SECONDS    RATE 0 is as fast as possible; prints how many were sent in how many seconds
 * pps recv PORT                              for each line on stdin: prints how many came since the last
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, LARGEST = 65536 };

static char buffers[BATCH][LARGEST];
static struct iovec pieces[BATCH];
static struct mmsghdr messages[BATCH];
static atomic_ulong received;

static int fail(const char *what) {
    perror(what);
    return 1;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void prepare(size_t size) {
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){buffers[i], size};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static void *count(void *net) {
    for (;;) {
        int got = recvmmsg(*(int *)net, messages, BATCH, MSG_WAITFORONE, NULL);
        if (got > 0) atomic_fetch_add_explicit(&received, got, memory_order_relaxed);
    }
    return NULL;
}

static int receive(const char *port) {
    int net = socket(AF_INET, SOCK_DGRAM, 0), room = 8 << 20;
    /* What the system allows everybody, and more where we may. */
    setsockopt(net, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(net, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (bind(net, (void *)&own, sizeof own)) return fail("bind");
    prepare(LARGEST);
    pthread_t thread;
    if (pthread_create(&thread, NULL, count, &net)) return fail("thread");
    for (int c; (c = getchar()) != EOF;)
        if (c == '\n') {
            printf("%lu\n", atomic_exchange(&received, 0));
            fflush(stdout);
        }
    return 0;
}

static int send_to(char **words) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    size_t size = atoi(words[2]);
    double rate = atof(words[3]), seconds = atof(words[4]);
    int net = socket(AF_INET, SOCK_DGRAM, 0), room = 1 << 20;
    setsockopt(net, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (inet_pton(AF_INET, words[0], &to.sin_addr) != 1 || size > LARGEST) return fail("address or size");
    if (connect(net, (void *)&to, sizeof to)) return fail("connect");
    prepare(size);
    unsigned long sent = 0;
    double start = now(), passed;
    while ((passed = now() - start) < seconds) {
        long due = rate > 0 ? (long)(rate * passed) - (long)sent : BATCH;
        if (due <= 0) {
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
            continue;
        }
        int done = sendmmsg(net, messages, due < BATCH ? due : BATCH, 0);
        if (done > 0)
            sent += done;
        else if (errno != ENOBUFS && errno != ECONNREFUSED)
            return fail("send");
    }
    printf("%lu %.4f\n", sent, now() - start);
    return 0;
}

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "recv")) return receive(words[2]);
    if (count == 7 && !strcmp(words[1], "send")) return send_to(words + 2);
    fprintf(stderr, "usage: pps send ADDRESS PORT SIZE RATE SECONDS | pps recv PORT\n");
    return 2;
}
