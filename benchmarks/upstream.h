// Plays Alpaca for one proxy: the stream over WebSocket, and just enough of HTTP for its recovery to end.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Take over a listening socket. Unless `prefix` is NULL, its connections have TLS with the key and the
// certificate in PREFIX.key and PREFIX.crt. Returns an epoll instance that is readable whenever
// `upstream_serve` has something to do.
int upstream_open(int listener, const char *prefix);

// Do what there is to do, without waiting.
void upstream_serve(void);

// Whether a client has logged in and listens.
bool upstream_is_listened_to(void);

// Send `count` events of `size` bytes each to the client, in one write, each with the time at which it was made
// in its "_t"; write these times to `stamps`. No two are the same, and they rise.
void upstream_emit(size_t count, size_t size, int64_t *stamps);
