// A read from a connection with or without TLS.
#pragma once

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

// recv(), or with `ssl` SSL_read(), which also does the handshake. If nothing has come yet, it
// returns -1 and errno is EAGAIN.
static inline ssize_t receive(int fd, SSL *ssl, void *to, size_t room) {
    if (!ssl)
        return recv(fd, to, room, 0);
    int got = SSL_read(ssl, to, (int)room);
    if (got > 0)
        return got;
    int error = SSL_get_error(ssl, got);
    ERR_clear_error();
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

// send(), or with `ssl` SSL_write(). If nothing can be sent now, it returns -1 and errno is EAGAIN.
static inline ssize_t transmit(int fd, SSL *ssl, const void *bytes, size_t length) {
    if (!ssl)
        return send(fd, bytes, length, MSG_NOSIGNAL);
    int sent = SSL_write(ssl, bytes, (int)length);
    if (sent > 0)
        return sent;
    int error = SSL_get_error(ssl, sent);
    ERR_clear_error();
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}
