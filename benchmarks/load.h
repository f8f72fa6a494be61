// What the load generator's two halves share: load.c (the phases) and clients.c (the connections).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_PIDS = 16 };

struct options {
    int port, clients, pending, upstream, stalled, receive_buffer;
    size_t size; // of an event, in bytes
    const char *path, *upstream_tls;
    bool tls, digest, spin, poll;
    double timeout; // seconds for a phase
    int pids[MOST_PIDS], pid_count;
};
extern struct options options;

struct event {
    int64_t stamp;
    int64_t first, last; // nanoseconds until the first client had it, and until the last one had
    uint32_t clients;    // how many have it; those that are stalled don't count
};
extern struct event *events;
extern size_t emitted, completed; // how many events: sent, and had by all that read

extern int opened, gone, disordered; // clients: that are logged in, that were lost; events out of order

// Make room for `most` clients; `upstream` is what upstream_open returned.
void clients_open(int upstream, int most);

// Begin to connect the next client.
void clients_connect(int number);

// Stop reading for the stalled ones, or begin again.
void clients_stall(bool stalled);

// Whether each has every event that was sent, and all the same bytes.
bool clients_have_all(void);

// Of the first client's events.
uint64_t clients_digest(void);

// Do what there is to do, after `timeout` milliseconds at the latest.
void turn(int timeout);

// End all connections at once, with RST, which leaves no port behind in TIME_WAIT.
void clients_close(void);
