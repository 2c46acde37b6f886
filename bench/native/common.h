/* What the load maker and the servers of the benchmark share: time, sockets, an output buffer, HTTP/2 frames.
 *
 * HTTP/2 is spoken at the level of frames (RFC 9113) with fixed header blocks, so that neither end costs much beside
 * the proxy between them. Senders here rely on messages being small: what is in flight on one connection stays far
 * below 65535 bytes, the smallest window a peer may begin with, and so no sender ever has to wait for credit.
 */
#ifndef COMMON_H
#define COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RST_STREAM, FRAME_SETTINGS, FRAME_PUSH, FRAME_PING,
       FRAME_GOAWAY, FRAME_WINDOW_UPDATE, FRAME_CONTINUATION };
enum { FLAG_END_STREAM = 1, FLAG_ACK = 1, FLAG_END_HEADERS = 4, FLAG_PADDED = 8 };
enum { FRAME_HEAD = 9, MAX_FRAME = 16384, PING_BYTES = 16 };

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_BYTES 24

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- bytes that wait to be written ---- */

struct buffer {
    uint8_t *data;
    size_t begin, end, size;
};

static inline uint8_t *buffer_room(struct buffer *b, size_t more) {
    if (b->begin == b->end)
        b->begin = b->end = 0;
    if (b->end + more > b->size) {
        b->size = (b->end + more) * 2;
        b->data = realloc(b->data, b->size);
        if (!b->data)
            die("realloc");
    }
    return b->data + b->end;
}

static inline void put(struct buffer *b, const void *data, size_t count) {
    memcpy(buffer_room(b, count), data, count);
    b->end += count;
}

/* Write what can be written; 0 when the peer is gone, else 1. */
static inline int buffer_flush(struct buffer *b, int fd) {
    while (b->begin < b->end) {
        ssize_t n = send(fd, b->data + b->begin, b->end - b->begin, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        b->begin += n;
    }
    return 1;
}

/* ---- sockets ---- */

static inline struct sockaddr_in address_of(const char *ip, int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, ip, &a.sin_addr) != 1)
        die(ip);
    return a;
}

static inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* ---- HTTP/2 frames ---- */

static inline void put_frame_head(struct buffer *b, size_t length, int type, int flags, uint32_t stream) {
    uint8_t head[FRAME_HEAD] = {length >> 16, length >> 8, length, type, flags, stream >> 24, stream >> 16, stream >> 8, stream};
    put(b, head, sizeof head);
}

static inline void put_frame(struct buffer *b, int type, int flags, uint32_t stream, const void *data, size_t length) {
    put_frame_head(b, length, type, flags, stream);
    put(b, data, length);
}

static inline void put_window_update(struct buffer *b, uint32_t stream, uint32_t more) {
    uint8_t credit[4] = {more >> 24, more >> 16, more >> 8, more};
    put_frame(b, FRAME_WINDOW_UPDATE, 0, stream, credit, sizeof credit);
}

/* Our SETTINGS: 100 streams as most servers allow, and windows that never run dry. */
static inline void put_settings(struct buffer *b) {
    static const uint8_t settings[] = {0, 3, 0, 0, 0, 100, 0, 4, 0x7f, 0xff, 0xff, 0xff};
    put_frame(b, FRAME_SETTINGS, 0, 0, settings, sizeof settings);
    put_window_update(b, 0, 0x7fffffff - 65535);
}

static inline uint32_t number32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

struct frame {
    uint32_t length, stream;
    int type, flags;
    const uint8_t *payload;
};

/* Read one frame from `count` bytes; 0 when it is not whole yet, else its size with its head. */
static inline size_t read_frame(const uint8_t *data, size_t count, struct frame *f) {
    if (count < FRAME_HEAD)
        return 0;
    f->length = data[0] << 16 | data[1] << 8 | data[2];
    f->type = data[3];
    f->flags = data[4];
    f->stream = number32(data + 5) & 0x7fffffff;
    f->payload = data + FRAME_HEAD;
    return count < FRAME_HEAD + f->length ? 0 : FRAME_HEAD + f->length;
}

/* Bytes of a DATA frame without its padding. */
static inline uint32_t data_bytes(const struct frame *f) {
    return f->flags & FLAG_PADDED ? f->length - 1 - f->payload[0] : f->length;
}

/* What every connection must answer at once; 1 when the frame was of that kind. */
static inline int housekeeping(struct buffer *out, const struct frame *f) {
    if (f->type == FRAME_SETTINGS && !(f->flags & FLAG_ACK))
        put_frame_head(out, 0, FRAME_SETTINGS, FLAG_ACK, 0);
    else if (f->type == FRAME_PING && !(f->flags & FLAG_ACK))
        put_frame(out, FRAME_PING, FLAG_ACK, 0, f->payload, 8);
    return f->type == FRAME_SETTINGS || f->type == FRAME_PING || f->type == FRAME_WINDOW_UPDATE ||
           f->type == FRAME_PRIORITY;
}

#endif
