// The connections of the load generator: many WebSocket clients of one server.
#define _GNU_SOURCE
#include "load.h"
#include "tls.h"
#include "upstream.h"
#include "websocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEEK = 200, HELD = 2048 };
static const uint32_t UPSTREAM = UINT32_MAX; // in the place of a client's number

enum state { CONNECTING, SECURING, UPGRADING, AUTHENTICATING, OPEN, GONE };

struct client {
    int fd;
    SSL *ssl;
    enum state state;
    size_t held_length;
    unsigned char held[HELD]; // the beginning of what is not complete: the answer's head, or a frame's
    struct frame frame;       // the one under way
    uint64_t rest;            // bytes of its payload still to come
    int64_t stamp;            // its "_t", 0 if it has none
    uint32_t events;          // the number of the next one for this client
    uint64_t digest;          // of their payloads
};

struct event *events;
size_t emitted, completed;
int opened, gone, disordered;

static struct client *clients;
static int poll_fd;
static SSL_CTX *tls;

static void watch(struct client *client, int operation, uint32_t what) {
    struct epoll_event event = {.events = what, .data.u32 = (uint32_t)(client - clients)};
    if (epoll_ctl(poll_fd, operation, client->fd, &event))
        fail("epoll_ctl");
}

// The last ones are.
static bool is_stalled(const struct client *client) { return client - clients >= options.clients - options.stalled; }

static void lose(struct client *client, const char *why) {
    if (client->state == GONE)
        return;
    if (gone++ == 0)
        fprintf(stderr, "client %td was lost in state %d after %u events: %s\n", client - clients, client->state,
                client->events, why);
    client->state = GONE;
    close(client->fd);
}

// Send a little: it always fits into the socket's buffer.
static void send_little(struct client *client, const void *bytes, size_t length) {
    if (transmit(client->fd, client->ssl, bytes, length) != (ssize_t)length)
        lose(client, "it could not send");
}

static void say(struct client *client, enum opcode opcode, const void *payload, size_t length) {
    unsigned char frame[LARGEST_HEADER + 256];
    send_little(client, frame, write_masked(frame, opcode, payload, length < 256 ? length : 256));
}

void clients_connect(int number) {
    struct client *client = &clients[number];
    client->events = (uint32_t)emitted; // it gets only those that follow
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        fail("socket");
    int on = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (is_stalled(client) && options.receive_buffer)
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer, sizeof(int));
    struct sockaddr_in server = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)options.port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(client->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        fail("connect");
    watch(client, EPOLL_CTL_ADD, EPOLLOUT);
}

static void ask_for_upgrade(struct client *client) {
    char request[512];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n",
                          options.path, options.port);
    client->state = UPGRADING;
    watch(client, EPOLL_CTL_MOD, EPOLLIN);
    send_little(client, request, (size_t)length);
}

// Go on with TCP's handshake or TLS's.
static void connect_further(struct client *client) {
    if (client->state == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            lose(client, strerror(error));
            return;
        }
        if (!options.tls) {
            ask_for_upgrade(client);
            return;
        }
        client->ssl = SSL_new(tls);
        SSL_set_fd(client->ssl, client->fd);
        SSL_set_connect_state(client->ssl);
        client->state = SECURING;
    }
    int done = SSL_do_handshake(client->ssl);
    if (done == 1) {
        ask_for_upgrade(client);
        return;
    }
    switch (SSL_get_error(client->ssl, done)) {
    case SSL_ERROR_WANT_READ:
        watch(client, EPOLL_CTL_MOD, EPOLLIN);
        break;
    case SSL_ERROR_WANT_WRITE:
        watch(client, EPOLL_CTL_MOD, EPOLLOUT);
        break;
    default:
        lose(client, "TLS failed");
    }
}

// Read the head of the answer to the upgrade; returns its length, 0 while it is not complete.
static size_t take_answer(struct client *client, unsigned char *bytes, size_t available) {
    unsigned char *end = memmem(bytes, available, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (memcmp(bytes, "HTTP/1.1 101 ", 13)) {
        fprintf(stderr, "%.*s\n", (int)(end - bytes), bytes);
        lose(client, "the upgrade was refused");
        return 0;
    }
    client->state = AUTHENTICATING;
    say(client, TEXT, LOGIN, strlen(LOGIN));
    return (size_t)(end + 4 - bytes);
}

static int64_t read_stamp(const unsigned char *payload, size_t length) {
    static const char name[] = "\"_t\":\"";
    const unsigned char *at = memmem(payload, length, name, sizeof name - 1), *end = payload + length;
    int64_t stamp = 0;
    for (at = at ? at + sizeof name - 1 : end; at < end && *at >= '0' && *at <= '9'; at++)
        stamp = stamp * 10 + (*at - '0');
    return stamp;
}

static void count_event(struct client *client, int64_t time) {
    size_t number = client->events++;
    if (number >= emitted || events[number].stamp != client->stamp) {
        if (disordered++ == 0)
            fprintf(stderr, "client %td got another event than number %zu\n", client - clients, number);
        return;
    }
    if (is_stalled(client))
        return;
    struct event *event = &events[number];
    int64_t taken = time - event->stamp;
    if (event->clients++ == 0)
        event->first = taken;
    event->last = taken;
    while (completed < emitted && events[completed].clients == (uint32_t)(options.clients - options.stalled))
        completed++;
}

static void end_frame(struct client *client, int64_t time) {
    if (client->frame.opcode != TEXT && client->frame.opcode != BINARY)
        return;
    if (client->stamp) {
        count_event(client, time);
    } else if (client->state == AUTHENTICATING) { // the first message is the reply to the login
        client->state = OPEN;
        opened++;
    }
}

// Begin with the frame that starts here; returns the length of its header, 0 while too little of it is there.
static size_t begin_frame(struct client *client, unsigned char *bytes, size_t available) {
    struct frame frame;
    if (!read_frame(bytes, available, &frame))
        return 0;
    size_t peek = frame.length < PEEK ? frame.length : PEEK;
    if (available < frame.header + peek)
        return 0;
    client->frame = frame;
    client->rest = frame.length;
    bool is_message = frame.opcode == TEXT || frame.opcode == BINARY;
    client->stamp = is_message ? read_stamp(bytes + frame.header, peek) : 0;
    if (frame.opcode == PING)
        say(client, PONG, bytes + frame.header, peek);
    if (frame.opcode == CLOSE)
        lose(client, "the server closed");
    return frame.header;
}

// FNV-1a, 64 bits.
static uint64_t digest(uint64_t digest, const unsigned char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        digest = (digest ^ bytes[i]) * 0x100000001b3;
    return digest;
}

static void take(struct client *client, unsigned char *bytes, size_t length) {
    unsigned char *end = bytes + length;
    int64_t time = now();
    if (client->state == UPGRADING)
        bytes += take_answer(client, bytes, length);
    while (client->state != UPGRADING && client->state != GONE && bytes < end) {
        if (!client->rest) {
            size_t header = begin_frame(client, bytes, (size_t)(end - bytes));
            if (!header)
                break;
            bytes += header;
        }
        uint64_t part = (uint64_t)(end - bytes) < client->rest ? (uint64_t)(end - bytes) : client->rest;
        if (options.digest && client->stamp)
            client->digest = digest(client->digest, bytes, part);
        bytes += part;
        client->rest -= part;
        if (!client->rest)
            end_frame(client, time);
    }
    client->held_length = (size_t)(end - bytes);
    if (client->held_length > HELD)
        lose(client, "its server's answer is too long");
    else
        memcpy(client->held, bytes, client->held_length);
}

static void read_client(struct client *client) {
    static unsigned char buffer[256 * 1024];
    memcpy(buffer, client->held, client->held_length);
    size_t room = sizeof buffer - client->held_length;
    ssize_t got = receive(client->fd, client->ssl, buffer + client->held_length, room);
    if (got > 0)
        take(client, buffer, client->held_length + (size_t)got);
    else if (got == 0 || errno != EAGAIN)
        lose(client, got ? strerror(errno) : "end of file");
    if (got > 0 && client->ssl && client->state != GONE && SSL_pending(client->ssl))
        read_client(client); // of which epoll does not know
}

void turn(int timeout) {
    struct epoll_event ready[512];
    int count = epoll_wait(poll_fd, ready, 512, timeout);
    for (int i = 0; i < count; i++) {
        if (ready[i].data.u32 == UPSTREAM) {
            upstream_serve();
            continue;
        }
        struct client *client = &clients[ready[i].data.u32];
        if (client->state == CONNECTING || client->state == SECURING)
            connect_further(client);
        else if (client->state != GONE)
            read_client(client);
    }
}

void clients_open(int upstream, int most) {
    clients = calloc((size_t)most, sizeof *clients);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UPSTREAM};
    if (!clients || poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, upstream, &event))
        fail("clients");
    if (options.tls && (tls = SSL_CTX_new(TLS_client_method())))
        SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
}

void clients_stall(bool stalled) {
    for (int i = options.clients - options.stalled; i < options.clients; i++)
        watch(&clients[i], stalled ? EPOLL_CTL_DEL : EPOLL_CTL_ADD, EPOLLIN);
}

bool clients_have_all(void) {
    for (int i = 0; i < options.clients; i++)
        if (clients[i].events != emitted || clients[i].digest != clients[0].digest)
            return false;
    return true;
}

uint64_t clients_digest(void) { return clients[0].digest; }

void clients_close(void) {
    struct linger reset = {1, 0};
    for (int i = 0; i < options.clients; i++) {
        if (!clients[i].fd || clients[i].state == GONE)
            continue;
        setsockopt(clients[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(clients[i].fd);
    }
}
