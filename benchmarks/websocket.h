// The little of RFC 6455 that the C programs here need; enough for loopback and well-behaved peers only.
#pragma once

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum opcode { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

enum { LARGEST_HEADER = 14 }; // with its mask

#define LOGIN "{\"action\":\"auth\",\"key\":\"any\",\"secret\":\"any\"}"
#define AUTHENTICATED "[{\"T\":\"success\",\"msg\":\"authenticated\"}]"

struct frame {
    enum opcode opcode;
    size_t header; // its length, with the mask's
    uint64_t length; // of the payload
    bool masked;
    unsigned char mask[4];
};

// Read the header of the frame that begins here; false while it is not complete.
static inline bool read_frame(const unsigned char *bytes, size_t available, struct frame *frame) {
    if (available < 2)
        return false;
    size_t extended = (bytes[1] & 127) == 126 ? 2 : (bytes[1] & 127) == 127 ? 8 : 0;
    frame->masked = bytes[1] & 128;
    frame->header = 2 + extended + (frame->masked ? 4 : 0);
    if (available < frame->header)
        return false;
    frame->opcode = bytes[0] & 15;
    frame->length = extended ? 0 : bytes[1] & 127;
    for (size_t i = 0; i < extended; i++)
        frame->length = frame->length << 8 | bytes[2 + i];
    if (frame->masked)
        memcpy(frame->mask, bytes + frame->header - 4, 4);
    return true;
}

// Write a header without a mask, as servers do; returns its length.
static inline size_t write_header(unsigned char *to, enum opcode opcode, size_t length) {
    to[0] = 128 | opcode;
    if (length < 126) {
        to[1] = length;
        return 2;
    }
    size_t extended = length < 65536 ? 2 : 8;
    to[1] = extended == 2 ? 126 : 127;
    for (size_t i = 0; i < extended; i++)
        to[2 + i] = (uint64_t)length >> 8 * (extended - 1 - i);
    return 2 + extended;
}

// Write a whole frame with a mask, as clients must; returns its length, LARGEST_HEADER + `length` at most.
static inline size_t write_masked(unsigned char *to, enum opcode opcode, const void *payload, size_t length) {
    static const unsigned char mask[4] = {18, 52, 86, 120};
    size_t header = write_header(to, opcode, length);
    to[1] |= 128;
    memcpy(to + header, mask, 4);
    header += 4;
    for (size_t i = 0; i < length; i++)
        to[header + i] = ((const unsigned char *)payload)[i] ^ mask[i % 4];
    return header + length;
}

// Answer the opening handshake in `request`, which ends with a zero byte; returns the answer's length.
static inline size_t write_acceptance(char *to, size_t room, const char *request) {
    const char *name = strcasestr(request, "\r\nSec-WebSocket-Key:");
    if (!name)
        return 0;
    const char *key = name + strlen("\r\nSec-WebSocket-Key:");
    key += strspn(key, " ");
    char text[128];
    snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", (int)strcspn(key, "\r "), key);
    unsigned char digest[SHA_DIGEST_LENGTH], accept[32];
    SHA1((unsigned char *)text, strlen(text), digest);
    EVP_EncodeBlock(accept, digest, sizeof digest);
    return (size_t)snprintf(to, room,
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                            accept);
}

// CLOCK_MONOTONIC in nanoseconds.
static inline int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

_Noreturn static inline void fail(const char *what) {
    perror(what);
    exit(2);
}
