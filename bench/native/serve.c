/* Servers for the benchmark, one thread each: serve PORT http DELAY_US | grpc | echo | source
 *
 *   http    HTTP/1.1; answers each GET with a small body after DELAY_US
 *   grpc    HTTP/2 by prior knowledge; echoes every message of every call, unary or streaming, with status 0
 *   echo    TCP; sends back what it reads, and closes after the first sixteen bytes: so the one whose ports are used up
 *           for a minute is this server, which has but one, and not the client or the proxy
 *   source  TCP; sends for as long as it can once the client has said something
 *
 * On SIGTERM it prints how many requests (messages, connections) it has served.
 */
#include "common.h"

enum { IN_BYTES = 65536, SOURCE_BYTES = 262144, STREAMS = 4096 };

struct conn {
    int fd, opened, wants_write;
    struct buffer out;
    uint8_t in[IN_BYTES];
    size_t in_count;
    uint64_t credit_owed, echoed;
    uint32_t answered[STREAMS]; /* stream numbers whose response has begun, by number modulo STREAMS */
};

struct delayed {
    uint64_t due_us;
    struct conn *conn;
    int fd;
};

static int poll_fd, timer_fd;
static uint64_t delay_us;
static volatile sig_atomic_t ended;
static uint64_t served;
static int (*on_data)(struct conn *);

static struct delayed queue[65536];
static uint16_t queue_begin, queue_end;

static const char ANSWER[] = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n"
                             "x-request-id: abc123\r\ncache-control: no-store\r\nvary: accept\r\n\r\nhello world\n";

static void on_signal(int number) {
    (void)number;
    ended = 1;
}

static int flush(struct conn *c) {
    if (!buffer_flush(&c->out, c->fd))
        return 0;
    int wants = c->out.begin < c->out.end;
    if (wants != c->wants_write) {
        struct epoll_event e = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e);
        c->wants_write = wants;
    }
    return 1;
}

static void arm(uint64_t at_us) {
    struct itimerspec t = {.it_value = {at_us / 1000000, at_us % 1000000 * 1000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

/* ---- the four services; each returns 0 when the connection is over ---- */

static int http(struct conn *c) {
    uint8_t *end;
    while ((end = memmem(c->in, c->in_count, "\r\n\r\n", 4))) {
        c->in_count -= end + 4 - c->in;
        memmove(c->in, end + 4, c->in_count);
        served++;
        if (!delay_us) {
            put(&c->out, ANSWER, sizeof ANSWER - 1);
            continue;
        }
        uint64_t due_us = now_us() + delay_us;
        if (queue_begin == queue_end)
            arm(due_us);
        queue[queue_end++] = (struct delayed){due_us, c, c->fd};
    }
    return c->in_count < IN_BYTES && flush(c);
}

static void answer_delayed(void) {
    uint64_t now = now_us();
    while (queue_begin != queue_end && queue[queue_begin].due_us <= now) {
        struct delayed d = queue[queue_begin++];
        if (d.conn->fd == d.fd) {
            put(&d.conn->out, ANSWER, sizeof ANSWER - 1);
            flush(d.conn);
        }
    }
    if (queue_begin != queue_end)
        arm(queue[queue_begin].due_us);
}

static void answer_grpc(struct conn *c, const struct frame *f) {
    static const uint8_t head[] = "\x88\x0f\x10\x10" "application/grpc";
    static const uint8_t trailers[] = "\x00\x0bgrpc-status\x01" "0";
    uint32_t *slot = &c->answered[f->stream / 2 % STREAMS];
    if (f->type == FRAME_DATA) {
        uint32_t count = data_bytes(f);
        c->credit_owed += f->length;
        if (*slot != f->stream)
            put_frame(&c->out, FRAME_HEADERS, FLAG_END_HEADERS, f->stream, head, sizeof head - 1);
        *slot = f->stream;
        if (count)
            put_frame(&c->out, FRAME_DATA, 0, f->stream, f->payload + (f->flags & FLAG_PADDED ? 1 : 0), count);
        served += count > 0;
    }
    if (f->flags & FLAG_END_STREAM)
        put_frame(&c->out, FRAME_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, f->stream, trailers, sizeof trailers - 1);
}

static int grpc(struct conn *c) {
    size_t at = 0, size;
    struct frame f;
    if (!c->opened) {
        if (c->in_count < PREFACE_BYTES)
            return 1;
        if (memcmp(c->in, PREFACE, PREFACE_BYTES))
            return 0;
        c->opened = 1;
        at = PREFACE_BYTES;
        put_settings(&c->out);
    }
    while ((size = read_frame(c->in + at, c->in_count - at, &f))) {
        at += size;
        if (!housekeeping(&c->out, &f) && (f.type == FRAME_DATA || f.type == FRAME_HEADERS))
            answer_grpc(c, &f);
    }
    if (c->credit_owed > 1 << 29) {
        put_window_update(&c->out, 0, c->credit_owed);
        c->credit_owed = 0;
    }
    c->in_count -= at;
    memmove(c->in, c->in + at, c->in_count);
    return flush(c);
}

static int echo(struct conn *c) {
    put(&c->out, c->in, c->in_count);
    c->echoed += c->in_count;
    c->in_count = 0;
    if (!flush(c))
        return 0;
    if (c->echoed >= PING_BYTES)
        shutdown(c->fd, SHUT_WR);
    return 1;
}

static int source(struct conn *c) {
    static uint8_t zeros[SOURCE_BYTES];
    c->in_count = 0;
    for (int turns = 0; turns < 8; turns++) {
        ssize_t n = send(c->fd, zeros, sizeof zeros, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return 0;
        if (n < (ssize_t)sizeof zeros)
            break;
    }
    if (!c->wants_write) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e);
        c->wants_write = 1;
    }
    return 1;
}

/* ---- the loop ---- */

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        no_delay(fd);
        served += on_data == echo || on_data == source;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

static void close_conn(struct conn *c) {
    close(c->fd);
    c->fd = -1;
    free(c->out.data);
    c->out = (struct buffer){0};
    if (!delay_us) /* a delayed answer may still point to it */
        free(c);
}

static void serve_conn(struct conn *c, uint32_t events) {
    int lives = 1;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n = recv(c->fd, c->in + c->in_count, IN_BYTES - c->in_count, 0);
        if (n > 0) {
            c->in_count += n;
            lives = on_data(c);
        } else if (n == 0 || errno != EAGAIN) {
            lives = 0;
        }
    } else if (events & EPOLLOUT) {
        lives = on_data == source ? source(c) : flush(c);
    }
    if (!lives)
        close_conn(c);
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "usage: serve PORT http DELAY_US | grpc | echo | source\n");
        return 2;
    }
    const char *mode = arguments[2];
    delay_us = count > 3 ? strtoull(arguments[3], NULL, 10) : 0;
    on_data = !strcmp(mode, "http") ? http : !strcmp(mode, "grpc") ? grpc : !strcmp(mode, "echo") ? echo : source;
    signal(SIGTERM, on_signal);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in any = address_of("0.0.0.0", atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 4096))
        die("listen");
    poll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event accepts = {.events = EPOLLIN, .data.ptr = &listener}, ticks = {.events = EPOLLIN, .data.ptr = &timer_fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &accepts);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &ticks);
    while (!ended) {
        struct epoll_event events[256];
        int ready = epoll_wait(poll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            uint64_t expirations;
            if (events[i].data.ptr == &listener)
                accept_all(listener);
            else if (events[i].data.ptr == &timer_fd) {
                if (read(timer_fd, &expirations, sizeof expirations) > 0)
                    answer_delayed();
            } else
                serve_conn(events[i].data.ptr, events[i].events);
        }
    }
    printf("%llu\n", (unsigned long long)served);
    return 0;
}
