// The limit: the same relay in C, with nothing around it. A loop of send() over the clients for each event, or,
// as `joined`, for each read from upstream, however many events that brought.
//
//     limit PORT UPSTREAM_PORT send|joined
//
// It speaks just enough of WebSocket for this; a client that does not read is waited for. With TLS_KEY and
// TLS_CERTIFICATE, two PEM files, the clients have TLS.
#define _GNU_SOURCE
#include "../tls.h"
#include "../websocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_CLIENTS = 16384, INPUT = 1024 * 1024 };

static struct {
    SSL *ssl;
    bool upgraded;
    size_t place; // in `clients`, from 1 on; 0 before the login
} connections[MOST_CLIENTS + 64]; // by file descriptor

static int clients[MOST_CLIENTS];
static size_t client_count;
static int poll_fd;
static bool joined;
static SSL_CTX *tls;

static void send_all(int fd, const void *bytes, size_t length) {
    const char *at = bytes, *end = at + length;
    while (at < end) {
        ssize_t sent = transmit(fd, connections[fd].ssl, at, (size_t)(end - at));
        if (sent > 0) {
            at += sent;
        } else if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, 1000);
        } else {
            return; // its end is read later
        }
    }
}

static void broadcast(const unsigned char *frames, size_t length) {
    for (size_t i = 0; i < client_count; i++)
        send_all(clients[i], frames, length);
}

static void say(int fd, const char *text) {
    unsigned char frame[512];
    size_t header = write_header(frame, TEXT, strlen(text));
    memcpy(frame + header, text, strlen(text));
    send_all(fd, frame, header + strlen(text));
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

static void accept_clients(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MOST_CLIENTS) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        memset(&connections[fd], 0, sizeof connections[fd]);
        if (tls) {
            connections[fd].ssl = SSL_new(tls);
            SSL_set_fd(connections[fd].ssl, fd);
            SSL_set_accept_state(connections[fd].ssl);
        }
        watch(fd);
    }
}

static void hang_up(int fd) {
    size_t place = connections[fd].place;
    if (place) {
        clients[place - 1] = clients[--client_count];
        connections[clients[place - 1]].place = place;
    }
    SSL_free(connections[fd].ssl);
    close(fd);
}

// A request, the login and a close frame each come in one read here, which over loopback they do.
static void serve(int fd) {
    char input[4096], answer[512];
    ssize_t got = receive(fd, connections[fd].ssl, input, sizeof input - 1);
    struct frame frame;
    if (got < 0 && errno == EAGAIN)
        return; // TLS's handshake goes on
    if (got <= 0) {
        hang_up(fd);
    } else if (!connections[fd].upgraded) {
        input[got] = 0;
        connections[fd].upgraded = true;
        send_all(fd, answer, write_acceptance(answer, sizeof answer, input));
    } else if (read_frame((unsigned char *)input, (size_t)got, &frame) && frame.opcode == CLOSE) {
        hang_up(fd);
    } else if (!connections[fd].place && client_count < MOST_CLIENTS) {
        say(fd, AUTHENTICATED);
        clients[client_count++] = fd;
        connections[fd].place = client_count;
    }
}

// Log in to the upstream as the proxy does, waiting for each answer.
static int connect_upstream(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("upstream");
    static const char request[] = "GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                  "Sec-WebSocket-Version: 13\r\n\r\n";
    static const char listen_request[] = "{\"action\":\"listen\",\"data\":{\"streams\":[\"trade_updates\"]}}";
    unsigned char frame[512], answer[2048];
    send_all(fd, request, strlen(request));
    if (recv(fd, answer, sizeof answer, 0) <= 0)
        fail("upgrade");
    send_all(fd, frame, write_masked(frame, TEXT, LOGIN, strlen(LOGIN)));
    if (recv(fd, answer, sizeof answer, 0) <= 0)
        fail("login");
    send_all(fd, frame, write_masked(frame, TEXT, listen_request, strlen(listen_request)));
    if (recv(fd, answer, sizeof answer, 0) <= 0)
        fail("listen");
    return fd;
}

// Read what the upstream sends, and pass on the frames that are complete; exits at the upstream's end.
static void relay(int fd) {
    static unsigned char input[INPUT];
    static size_t held;
    ssize_t got = recv(fd, input + held, sizeof input - held, 0);
    if (got <= 0)
        exit(0);
    held += (size_t)got;
    size_t used = 0;
    struct frame frame;
    while (read_frame(input + used, held - used, &frame) && frame.length <= held - used - frame.header) {
        size_t length = frame.header + frame.length;
        input[used] = 128 | TEXT; // it came as a binary frame
        if (!joined)
            broadcast(input + used, length);
        used += length;
    }
    if (joined && used)
        broadcast(input, used);
    held -= used;
    memmove(input, input + used, held);
}

static void open_tls(const char *key, const char *certificate) {
    if (!key || !certificate)
        return;
    tls = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(tls, 0);
    if (SSL_CTX_use_certificate_file(tls, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        fail("TLS");
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: limit PORT UPSTREAM_PORT send|joined\n");
        return 1;
    }
    joined = !strcmp(arguments[3], "joined");
    open_tls(getenv("TLS_KEY"), getenv("TLS_CERTIFICATE"));
    struct rlimit files = {MOST_CLIENTS, MOST_CLIENTS};
    setrlimit(RLIMIT_NOFILE, &files);
    poll_fd = epoll_create1(0);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(arguments[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        fail("listen");
    watch(listener);
    int upstream = connect_upstream(atoi(arguments[2]));
    watch(upstream);
    for (;;) {
        struct epoll_event ready[256];
        int events = epoll_wait(poll_fd, ready, 256, -1);
        for (int i = 0; i < events; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener)
                accept_clients(listener);
            else if (fd == upstream)
                relay(upstream);
            else
                serve(fd);
        }
    }
}
