/* Load for the benchmark, one thread: load SHAPE IP PORT CONNECTIONS ...
 *
 *   open-http1 IP PORT CONNECTIONS RATE SECONDS   GETs at a constant rate (open loop)
 *   open-http2 IP PORT CONNECTIONS RATE SECONDS   the same over HTTP/2
 *   stream     IP PORT CONNECTIONS STREAMS BYTES SECONDS   gRPC calls that never end; on each, message after message
 *   connect    IP PORT CONNECTIONS SECONDS   connect, 16 bytes there and back, both close, again
 *   flow       IP PORT CONNECTIONS SECONDS   say something, then read as fast as it comes
 *   hold       IP PORT CONNECTIONS           a GET on each, say "ready", keep all open until standard input ends
 *
 * In an open loop the n-th request is due at n/RATE, whatever became of those before it. Its latency counts from then: a
 * request that has to wait here because all connections are busy waits on the clock, so no stall is left out
 * (coordinated omission). Output is one line of JSON; what was not answered within five seconds is an error.
 */
#include "common.h"

enum { IN_BYTES = 65536, STREAMS = 128, BACKLOG = 1 << 16, GRACE_US = 5000000 };
enum { FLOW_BYTES = 1 << 20, OPENING_AT_ONCE = 64 };

struct conn {
    int fd, settled, in_flight;
    struct buffer out;
    uint8_t in[IN_BYTES];
    size_t in_count;
    uint32_t next_stream;
    uint64_t due_us[STREAMS]; /* HTTP/1 uses the first */
    uint32_t got_bytes[STREAMS];
    uint64_t credit_owed;
};

static const char *shape, *ip;
static int port, connection_count, stream_count = 1, message_bytes, poll_fd, timer_fd;
static double rate_per_s, duration_s;
static struct conn *conns;
static uint64_t begin_us, end_us, bytes_count, errors_count, answered_count, sent_count;
static uint32_t *samples;
static size_t samples_count, samples_size;
static uint64_t backlog[BACKLOG];
static uint16_t backlog_begin, backlog_end;

static const char *const HEADERS[][2] = {
    {"user-agent", "Mozilla/5.0 (X11; Linux x86_64)"},
    {"accept", "text/html,application/json"},
    {"accept-language", "en-US,en;q=0.9"},
    {"accept-encoding", "gzip, deflate"},
    {"x-request-id", "6b1c2f9e-5a0b-4f58-9b7e-1c2d3e4f5a6b"},
    {"authorization", "Bearer abcdefghijklmnopqrstuvwxyz"},
    {"cookie", "session=0123456789abcdef"},
    {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
};
enum { HEADERS_COUNT = sizeof HEADERS / sizeof HEADERS[0], FIRST_DYNAMIC = 62 };

static void record(uint64_t from_us) {
    if (samples_count == samples_size) {
        samples_size = samples_size ? samples_size * 2 : 1 << 16;
        samples = realloc(samples, samples_size * sizeof *samples);
        if (!samples)
            die("realloc");
    }
    uint64_t now = now_us();
    samples[samples_count++] = now > from_us ? now - from_us : 0;
    answered_count++;
}

/* ---- requests ---- */

static void put_get_http1(struct buffer *b) {
    char text[2048];
    int n = snprintf(text, sizeof text, "GET /api/vote?choice=1 HTTP/1.1\r\nhost: %s:%d\r\n", ip, port);
    for (int i = 0; i < HEADERS_COUNT; i++)
        n += snprintf(text + n, sizeof text - n, "%s: %s\r\n", HEADERS[i][0], HEADERS[i][1]);
    n += snprintf(text + n, sizeof text - n, "\r\n");
    put(b, text, n);
}

static uint8_t *literal(uint8_t *p, const char *text) {
    size_t n = strlen(text);
    *p++ = n;
    memcpy(p, text, n);
    return p + n;
}

/* HPACK (RFC 7541): the headers go into the peer's table with the first request and are indices from then on. */
static size_t get_block(uint8_t *block, int is_first) {
    char authority[64];
    snprintf(authority, sizeof authority, "%s:%d", ip, port);
    uint8_t *p = block;
    *p++ = 0x82; /* :method GET */
    *p++ = 0x86; /* :scheme http */
    *p++ = 0x04; /* :path, not indexed */
    p = literal(p, "/hello");
    *p++ = 0x01; /* :authority, not indexed */
    p = literal(p, authority);
    for (int i = 0; i < HEADERS_COUNT; i++) {
        if (is_first) {
            *p++ = 0x40;
            p = literal(literal(p, HEADERS[i][0]), HEADERS[i][1]);
        } else {
            *p++ = 0x80 | (FIRST_DYNAMIC + HEADERS_COUNT - 1 - i);
        }
    }
    return p - block;
}

static size_t call_block(uint8_t *block) {
    uint8_t *p = block;
    *p++ = 0x83; /* :method POST */
    *p++ = 0x86;
    *p++ = 0x04;
    p = literal(p, "/bench.Bench/Stream");
    *p++ = 0x01;
    p = literal(p, "bench");
    *p++ = 0x00;
    p = literal(literal(p, "content-type"), "application/grpc");
    *p++ = 0x00;
    p = literal(literal(p, "te"), "trailers");
    return p - block;
}

static void put_message(struct conn *c, uint32_t stream) {
    static uint8_t message[MAX_FRAME];
    message[1] = 0;
    message[3] = message_bytes >> 8;
    message[4] = message_bytes;
    c->due_us[stream / 2 % STREAMS] = now_us();
    c->got_bytes[stream / 2 % STREAMS] = 0;
    put_frame(&c->out, FRAME_DATA, 0, stream, message, 5 + message_bytes);
    sent_count++;
}

static void lose(struct conn *c) {
    errors_count += c->in_flight > 0 ? c->in_flight : 1;
    epoll_ctl(poll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->in_flight = 1 << 20; /* never chosen again */
}

static void flush(struct conn *c) {
    if (!buffer_flush(&c->out, c->fd)) {
        lose(c);
    } else if (c->out.begin < c->out.end) {
        die("the peer does not read what it is sent");
    }
}

static void send_get(struct conn *c, uint64_t due_us) {
    sent_count++;
    c->in_flight++;
    if (!strcmp(shape, "open-http2")) {
        uint8_t block[2048];
        uint32_t stream = c->next_stream;
        size_t n = get_block(block, stream == 1);
        c->next_stream += 2;
        c->due_us[stream / 2 % STREAMS] = due_us;
        put_frame(&c->out, FRAME_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, stream, block, n);
    } else {
        c->due_us[0] = due_us;
        put_get_http1(&c->out);
    }
    flush(c);
}

/* ---- responses ---- */

static void read_http1(struct conn *c) {
    uint8_t *end = memmem(c->in, c->in_count, "\r\n\r\n", 4);
    if (!end)
        return;
    *end = 0;
    char *length = strcasestr((char *)c->in, "\r\ncontent-length:");
    size_t whole = end + 4 - c->in + (length ? atoi(length + 17) : 0);
    *end = '\r';
    if (c->in_count < whole)
        return;
    errors_count += memcmp(c->in, "HTTP/1.1 2", 10) != 0 || !length;
    c->in_count -= whole;
    memmove(c->in, c->in + whole, c->in_count);
    c->in_flight--;
    record(c->due_us[0]);
}

/* :status 200 is index 8 of the static table; size updates of the dynamic table may stand before it. */
static int is_ok(const struct frame *f) {
    uint32_t at = f->flags & FLAG_PADDED ? 1 : 0;
    at += f->flags & 0x20 ? 5 : 0;
    while (at < f->length && (f->payload[at] & 0xe0) == 0x20) {
        int is_long = (f->payload[at++] & 0x1f) == 0x1f;
        while (is_long && at < f->length && f->payload[at++] & 0x80)
            ;
    }
    return at < f->length && f->payload[at] == 0x88;
}

static void on_frame(struct conn *c, const struct frame *f) {
    uint32_t slot = f->stream / 2 % STREAMS;
    if (housekeeping(&c->out, f)) {
        c->settled |= f->type == FRAME_SETTINGS;
        return;
    }
    if (f->type == FRAME_RST_STREAM || f->type == FRAME_GOAWAY) {
        errors_count++;
        return;
    }
    if (f->type == FRAME_DATA) {
        c->credit_owed += f->length;
        c->got_bytes[slot] += data_bytes(f);
    }
    if (!strcmp(shape, "stream")) {
        errors_count += f->type == FRAME_HEADERS && (!is_ok(f) || f->flags & FLAG_END_STREAM);
        if (f->type == FRAME_DATA && c->got_bytes[slot] >= (uint32_t)message_bytes + 5) {
            errors_count += c->got_bytes[slot] > (uint32_t)message_bytes + 5;
            record(c->due_us[slot]);
            if (now_us() < end_us)
                put_message(c, f->stream);
            else
                c->in_flight--;
        }
    } else if (f->type == FRAME_HEADERS || f->type == FRAME_DATA) {
        errors_count += f->type == FRAME_HEADERS && !(f->flags & FLAG_END_STREAM) && !is_ok(f);
        if (f->flags & FLAG_END_STREAM) {
            errors_count += c->got_bytes[slot] == 0;
            c->got_bytes[slot] = 0;
            c->in_flight--;
            record(c->due_us[slot]);
        }
    }
}

static void read_http2(struct conn *c) {
    size_t at = 0, size;
    struct frame f;
    while ((size = read_frame(c->in + at, c->in_count - at, &f))) {
        at += size;
        on_frame(c, &f);
    }
    c->in_count -= at;
    memmove(c->in, c->in + at, c->in_count);
    if (c->credit_owed > 1 << 29) {
        put_window_update(&c->out, 0, c->credit_owed);
        c->credit_owed = 0;
    }
    flush(c);
}

static void on_ready(struct conn *c) {
    ssize_t n = recv(c->fd, c->in + c->in_count, IN_BYTES - 1 - c->in_count, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        lose(c);
        return;
    }
    c->in_count += n;
    if (!strcmp(shape, "open-http1") || !strcmp(shape, "hold"))
        read_http1(c);
    else
        read_http2(c);
}

/* ---- connections ---- */

static void dial(struct conn *c) {
    struct sockaddr_in there = address_of(ip, port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket");
    no_delay(c->fd);
    if (connect(c->fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS)
        die("connect");
    c->in_count = 0;
    c->next_stream = 1;
}

static void watch(struct conn *c, uint32_t events, int how) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(poll_fd, how, c->fd, &e))
        die("epoll_ctl");
}

/* Serve what is ready within `wait_ms`. */
static void turn(int wait_ms) {
    struct epoll_event events[512];
    int ready = epoll_wait(poll_fd, events, 512, wait_ms);
    for (int i = 0; i < ready; i++) {
        uint64_t expirations;
        if (events[i].data.ptr == &timer_fd) {
            if (read(timer_fd, &expirations, sizeof expirations) < 0)
                continue;
        } else {
            on_ready(events[i].data.ptr);
        }
    }
}

/* Open all, a few at a time, each with one request answered: what is measured later meets no cold connection. */
static void open_all(void) {
    int is_http2 = !strcmp(shape, "open-http2") || !strcmp(shape, "stream");
    uint64_t limit_us = now_us() + 30000000;
    for (int first = 0; first < connection_count; first += OPENING_AT_ONCE) {
        int last = first + OPENING_AT_ONCE < connection_count ? first + OPENING_AT_ONCE : connection_count;
        for (int i = first; i < last; i++) {
            struct conn *c = &conns[i];
            dial(c);
            struct pollfd writable = {.fd = c->fd, .events = POLLOUT};
            if (poll(&writable, 1, 5000) < 1)
                die("no connection within 5 s");
            watch(c, EPOLLIN, EPOLL_CTL_ADD);
            if (is_http2) {
                put(&c->out, PREFACE, PREFACE_BYTES);
                put_settings(&c->out);
                flush(c);
            }
            if (strcmp(shape, "stream"))
                send_get(c, now_us());
        }
        for (int i = first; i < last; i++)
            while (strcmp(shape, "stream") ? conns[i].in_flight > 0 : !conns[i].settled) {
                turn(100);
                if (errors_count || now_us() > limit_us)
                    die("a connection did not answer");
            }
    }
    answered_count = samples_count = sent_count = 0;
}

/* ---- shapes ---- */

static struct conn *next_free(int limit) {
    static int last;
    for (int i = 0; i < connection_count; i++) {
        last = (last + 1) % connection_count;
        if (conns[last].in_flight < limit)
            return &conns[last];
    }
    return NULL;
}

static void run_open(void) {
    uint64_t total = rate_per_s * duration_s, number = 0;
    int limit = !strcmp(shape, "open-http2") ? 100 : 1;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &timer_fd};
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &e);
    end_us = begin_us + duration_s * 1e6;
    while (answered_count < total && now_us() < end_us + GRACE_US) {
        uint64_t now = now_us();
        struct conn *c;
        for (; number < total && begin_us + number * 1e6 / rate_per_s <= now; number++)
            backlog[backlog_end++] = begin_us + number * 1e6 / rate_per_s;
        while (backlog_begin != backlog_end && (c = next_free(limit)))
            send_get(c, backlog[backlog_begin++]);
        uint64_t due_us = number < total ? begin_us + number * 1e6 / rate_per_s : now + 100000;
        struct itimerspec t = {.it_value = {due_us / 1000000, due_us % 1000000 * 1000}};
        timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
        turn(-1);
    }
    errors_count += total - answered_count;
}

static void run_stream(void) {
    uint8_t block[512];
    size_t n = call_block(block);
    end_us = begin_us + duration_s * 1e6;
    for (int i = 0; i < connection_count; i++) {
        for (int s = 0; s < stream_count; s++) {
            uint32_t stream = conns[i].next_stream;
            conns[i].next_stream += 2;
            put_frame(&conns[i].out, FRAME_HEADERS, FLAG_END_HEADERS, stream, block, n);
            put_message(&conns[i], stream);
            conns[i].in_flight++;
        }
        flush(&conns[i]);
    }
    while (answered_count < sent_count && now_us() < end_us + GRACE_US)
        turn(100);
    errors_count += sent_count - answered_count;
}

static void run_connect(void) {
    static const uint8_t ping[PING_BYTES] = {1, 2, 3};
    end_us = begin_us + duration_s * 1e6;
    int open_count = connection_count;
    for (int i = 0; i < connection_count; i++) {
        conns[i].due_us[0] = now_us();
        dial(&conns[i]);
        watch(&conns[i], EPOLLOUT, EPOLL_CTL_ADD);
    }
    while (open_count && now_us() < end_us + GRACE_US) {
        struct epoll_event events[512];
        int ready = epoll_wait(poll_fd, events, 512, 100);
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                if (send(c->fd, ping, sizeof ping, MSG_NOSIGNAL) != sizeof ping)
                    die("send");
                watch(c, EPOLLIN, EPOLL_CTL_MOD);
                continue;
            }
            ssize_t n = recv(c->fd, c->in + c->in_count, IN_BYTES - c->in_count, 0);
            c->in_count += n > 0 ? n : 0;
            if (n > 0)
                continue;
            if (n < 0 || c->in_count != PING_BYTES)
                errors_count++;
            else
                record(c->due_us[0]);
            close(c->fd);
            if (now_us() >= end_us) {
                open_count--;
                continue;
            }
            c->due_us[0] = now_us();
            dial(c);
            watch(c, EPOLLOUT, EPOLL_CTL_ADD);
        }
    }
    errors_count += open_count;
}

static void run_flow(void) {
    for (int i = 0; i < connection_count; i++) {
        dial(&conns[i]);
        watch(&conns[i], EPOLLOUT, EPOLL_CTL_ADD);
    }
    end_us = begin_us + duration_s * 1e6;
    while (now_us() < end_us) {
        struct epoll_event events[512];
        int ready = epoll_wait(poll_fd, events, 512, 100);
        for (int i = 0; i < ready; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                if (send(c->fd, "begin, please", 13, MSG_NOSIGNAL) != 13)
                    die("send");
                watch(c, EPOLLIN, EPOLL_CTL_MOD);
                continue;
            }
            ssize_t n = recv(c->fd, NULL, FLOW_BYTES, MSG_TRUNC); /* read and thrown away within the kernel */
            if (n <= 0) {
                errors_count++;
                epoll_ctl(poll_fd, EPOLL_CTL_DEL, c->fd, NULL);
            } else {
                bytes_count += n;
            }
        }
    }
    end_us = now_us();
    answered_count = connection_count;
}

static void run_hold(void) {
    printf("ready\n");
    fflush(stdout);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, 0, &e);
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll_fd, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            if (!events[i].data.ptr)
                return;
            on_ready(events[i].data.ptr);
        }
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_ms(double share) {
    return samples_count ? samples[(size_t)(share * (samples_count - 1) + 0.5)] / 1000.0 : 0;
}

static void report(uint64_t finished_us) {
    qsort(samples, samples_count, sizeof *samples, ascending);
    printf("{\"requests\": %llu, \"errors\": %llu, \"bytes\": %llu, \"seconds\": %.3f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"p999_ms\": %.3f, \"max_ms\": %.3f}\n",
           (unsigned long long)answered_count, (unsigned long long)errors_count, (unsigned long long)bytes_count,
           (finished_us - begin_us) / 1e6, percentile_ms(0.5), percentile_ms(0.99), percentile_ms(0.999), percentile_ms(1));
}

static double argument(int count, char **arguments, int index) {
    return index < count ? atof(arguments[index]) : 0;
}

int main(int count, char **arguments) {
    if (count < 5) {
        fprintf(stderr, "usage: load SHAPE IP PORT CONNECTIONS ... (see the head of load.c)\n");
        return 2;
    }
    shape = arguments[1];
    ip = arguments[2];
    port = atoi(arguments[3]);
    connection_count = atoi(arguments[4]);
    conns = calloc(connection_count, sizeof *conns);
    poll_fd = epoll_create1(0);
    if (!conns)
        die("calloc");
    int is_open_loop = !strncmp(shape, "open-", 5), is_stream = !strcmp(shape, "stream"), is_hold = !strcmp(shape, "hold");
    rate_per_s = argument(count, arguments, 5);
    stream_count = is_stream ? rate_per_s : 1;
    message_bytes = argument(count, arguments, 6);
    duration_s = argument(count, arguments, is_stream ? 7 : is_open_loop ? 6 : 5);
    if (is_stream && (stream_count > STREAMS || message_bytes > MAX_FRAME - 5))
        stream_count = 0;
    if (!is_hold && (duration_s <= 0 || (is_open_loop && rate_per_s <= 0) || (is_stream && (stream_count < 1 || message_bytes < 1)))) {
        fprintf(stderr, "a number is missing or too large\n");
        return 2;
    }
    if (is_open_loop || is_stream || is_hold)
        open_all();
    begin_us = now_us();
    if (is_open_loop)
        run_open();
    else if (is_stream)
        run_stream();
    else if (is_hold)
        run_hold();
    else if (!strcmp(shape, "connect"))
        run_connect();
    else
        run_flow();
    report(now_us());
    return 0;
}
