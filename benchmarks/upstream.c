// See upstream.h. One connection at a time holds the stream; what follows it takes its place.
#define _GNU_SOURCE
#include "upstream.h"
#include "tls.h"
#include "websocket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { LARGEST_REQUEST = 8192, LARGEST_EVENT = 65536, PATIENCE_MS = 20000, MOST_CONNECTIONS = 64 };

struct connection {
    int fd;
    SSL *ssl; // NULL without TLS
    bool upgraded;
    bool listening;
    size_t held;
    char input[LARGEST_REQUEST + 1]; // room for a zero byte
};

static int poll_fd, listening_fd;
static SSL_CTX *tls;
static struct connection *stream; // the one that listens, or NULL

static void hang_up(struct connection *connection) {
    if (stream == connection)
        stream = NULL;
    SSL_free(connection->ssl);
    close(connection->fd);
    free(connection);
}

static void accept_connection(void) {
    int fd = accept4(listening_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        fail("calloc");
    connection->fd = fd;
    if (tls && (connection->ssl = SSL_new(tls))) {
        SSL_set_fd(connection->ssl, fd);
        SSL_set_accept_state(connection->ssl);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

// Write all of it, waiting for a client that does not read.
static void write_all(struct connection *connection, const void *bytes, size_t length) {
    const char *at = bytes, *end = at + length;
    while (at < end) {
        ssize_t sent = transmit(connection->fd, connection->ssl, at, (size_t)(end - at));
        if (sent > 0) {
            at += sent;
        } else if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = connection->fd, .events = POLLOUT};
            if (poll(&wait, 1, PATIENCE_MS) <= 0)
                return;
        } else {
            return; // the connection is lost, which the next read tells
        }
    }
}

static void say(struct connection *connection, enum opcode opcode, const void *payload, size_t length) {
    unsigned char frame[LARGEST_REQUEST + LARGEST_HEADER];
    size_t header = write_header(frame, opcode, length);
    memcpy(frame + header, payload, length);
    write_all(connection, frame, header + length);
}

static void say_text(struct connection *connection, const char *text) {
    say(connection, BINARY, text, strlen(text)); // binary frames, as Alpaca's are
}

// Answer an HTTP request; returns whether the connection goes on as a WebSocket.
static bool answer(struct connection *connection) {
    char head[512];
    size_t length;
    if (strcasestr(connection->input, "\r\nUpgrade: websocket") &&
        (length = write_acceptance(head, sizeof head, connection->input))) {
        write_all(connection, head, length);
        return true;
    }
    bool account = !strncmp(connection->input, "GET /v2/account ", 16);
    bool events = !strncmp(connection->input, "GET /v2/events/trades", 21);
    const char *body = account ? "{\"id\":\"00000000-0000-4000-8000-000000000001\"}" : "";
    length = (size_t)snprintf(head, sizeof head,
                              "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                              "Connection: close\r\n\r\n%s",
                              account || events ? "200 OK" : "404 Not Found",
                              events ? "text/event-stream" : "application/json", strlen(body), body);
    write_all(connection, head, length);
    return false;
}

// React to one message of a client; returns whether the connection goes on.
static bool converse(struct connection *connection, struct frame *frame, unsigned char *payload) {
    for (size_t i = 0; i < frame->length && frame->masked; i++)
        payload[i] ^= frame->mask[i % 4];
    switch (frame->opcode) {
    case PING:
        say(connection, PONG, payload, frame->length);
        return true;
    case CLOSE:
        say(connection, CLOSE, payload, frame->length);
        return false;
    case TEXT:
    case BINARY:
        if (memmem(payload, frame->length, "\"listen\"", 8)) {
            say_text(connection, "{\"stream\":\"listening\",\"data\":{\"streams\":[\"trade_updates\"]}}");
            stream = connection;
        } else if (memmem(payload, frame->length, "\"auth", 5)) {
            say_text(connection, "{\"stream\":\"authorization\",\"data\":"
                                 "{\"status\":\"authorized\",\"action\":\"authenticate\"}}");
        }
        return true;
    default:
        return true;
    }
}

// Take what has come; returns whether the connection goes on.
static bool take(struct connection *connection) {
    size_t room = LARGEST_REQUEST - connection->held;
    char *free_input = connection->input + connection->held;
    ssize_t got = receive(connection->fd, connection->ssl, free_input, room);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    connection->held += (size_t)got;
    connection->input[connection->held] = 0;
    size_t used = 0;
    if (!connection->upgraded) {
        char *end = strstr(connection->input, "\r\n\r\n");
        if (!end)
            return connection->held < LARGEST_REQUEST;
        used = (size_t)(end + 4 - connection->input);
        if (!(connection->upgraded = answer(connection)))
            return false;
    }
    struct frame frame;
    for (;;) {
        unsigned char *at = (unsigned char *)connection->input + used;
        size_t available = connection->held - used;
        if (!read_frame(at, available, &frame) || frame.length > available - frame.header)
            break;
        if (!converse(connection, &frame, at + frame.header))
            return false;
        used += frame.header + frame.length;
    }
    connection->held -= used;
    memmove(connection->input, connection->input + used, connection->held);
    if (connection->ssl && connection->held < LARGEST_REQUEST && SSL_pending(connection->ssl))
        return take(connection); // of which epoll does not know
    return connection->held < LARGEST_REQUEST;
}

static SSL_CTX *open_tls(const char *prefix) {
    char key[4096], certificate[4096];
    snprintf(key, sizeof key, "%s.key", prefix);
    snprintf(certificate, sizeof certificate, "%s.crt", prefix);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        fail("upstream's certificate");
    return context;
}

int upstream_open(int listener, const char *prefix) {
    tls = prefix ? open_tls(prefix) : NULL;
    listening_fd = listener;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event))
        fail("upstream");
    return poll_fd;
}

void upstream_serve(void) {
    struct epoll_event ready[MOST_CONNECTIONS];
    int count = epoll_wait(poll_fd, ready, MOST_CONNECTIONS, 0);
    for (int i = 0; i < count; i++) {
        struct connection *connection = ready[i].data.ptr;
        if (!connection)
            accept_connection();
        else if (!take(connection))
            hang_up(connection);
    }
}

bool upstream_is_listened_to(void) { return stream; }

// Write the payload of the next event, of exactly `size` bytes, or more where they are needed. Orders are opened
// and filled in turn, so that a proxy that keeps orders and positions has its usual work with them.
static size_t write_event(char *to, size_t size, int64_t stamp) {
    static uint64_t made;
    static int64_t latest; // microseconds of the wall clock
    uint64_t order = made / 2;
    bool filled = made++ % 2;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    int64_t time = wall.tv_sec * 1000000LL + wall.tv_nsec / 1000;
    latest = time > latest ? time : latest + 1;
    time_t seconds = latest / 1000000;
    struct tm utc;
    char date[32];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &utc));
    int length = sprintf(to,
                         "{\"stream\":\"trade_updates\",\"data\":{\"_t\":\"%lld\",\"at\":\"%s.%06dZ\","
                         "\"event_id\":\"01%024lld\",\"event\":\"%s\",%s\"order\":{"
                         "\"id\":\"%08llx-0000-4000-8000-%012llx\",\"status\":\"%s\",\"symbol\":\"AAPL\","
                         "\"qty\":\"1\",\"filled_qty\":\"%d\",\"side\":\"%s\",\"client_order_id\":\"bench-%llu\","
                         "\"padding\":\"",
                         (long long)stamp, date, (int)(latest % 1000000), (long long)latest,
                         filled ? "fill" : "new", filled ? "\"qty\":\"1\",\"price\":\"100.5\"," : "",
                         (unsigned long long)getpid(), (unsigned long long)order, filled ? "filled" : "new", filled,
                         order % 2 ? "sell" : "buy", (unsigned long long)order);
    size_t end = strlen("\"}}}");
    size_t padding = (size_t)length + end < size ? size - (size_t)length - end : 0;
    memset(to + length, 'x', padding);
    memcpy(to + length + padding, "\"}}}", end);
    return (size_t)length + padding + end;
}

void upstream_emit(size_t count, size_t size, int64_t *stamps) {
    static unsigned char *frames;
    static size_t room;
    static int64_t latest;
    if (size > LARGEST_EVENT)
        size = LARGEST_EVENT;
    if (room < count * (size + 1024)) {
        room = count * (size + 1024);
        if (!(frames = realloc(frames, room)))
            fail("realloc");
    }
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t time = now();
        latest = stamps[i] = time > latest ? time : latest + 1;
        char payload[LARGEST_EVENT + 1024];
        size_t length = write_event(payload, size, latest);
        used += write_header(frames + used, BINARY, length);
        memcpy(frames + used, payload, length);
        used += length;
    }
    if (stream)
        write_all(stream, frames, used);
}
