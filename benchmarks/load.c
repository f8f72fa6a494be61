// The load generator: many WebSocket clients of one server on this machine, and the Alpaca that feeds it.
//
//     load --port PORT --upstream FD --pid SERVER [--clients N …] PHASE…
//
// Both are one process, so that it knows when every client has an event, and reads one clock for both ends. It
// waits until the server listens to its upstream, connects the clients, goes through the phases, and prints one
// line of JSON. A phase is one of
//
//     single:EVENTS            the next event once all clients have the one before
//     burst:EVENTS             16 in one write, the next 16 once all clients have them
//     rate:EVENTS:PER_SECOND   by the clock, whoever has what
//     hold:SECONDS             no event at all
//     clients:N                more clients connect, until there are N
//
// With --poll it does not sleep in a phase with a rate either, so that no server has to wake it.
//
// Every client must get every event once, in order, and stay connected; else the exit status is not 0.
#define _GNU_SOURCE
#include "load.h"
#include "upstream.h"
#include "usage.h"
#include "websocket.h"

#include <getopt.h>
#include <sys/resource.h>

enum { BURST = 16 };
static const int64_t MILLISECOND = 1000000, SECOND = 1000000000;

struct options options = {
    .clients = 1000, .pending = 64, .upstream = -1, .size = 1000, .path = "/", .spin = true, .timeout = 120};

static struct usage usage(void) { return server_usage(options.pids, options.pid_count); }

static void wait_for(double seconds) {
    for (int64_t end = now() + (int64_t)(seconds * 1e9); now() < end;)
        turn(5);
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

// Print the median and the 99th percentile of `count` times, which are sorted by it, in milliseconds.
static void print_times(FILE *report, const char *name, int64_t *times, size_t count) {
    qsort(times, count, sizeof *times, compare);
    double median = count ? (double)times[(count - 1) / 2] : 0;
    double high = count ? (double)times[(size_t)((double)(count - 1) * 0.99 + 0.5)] : 0;
    fprintf(report, ",\"%s_p50_ms\":%.4f,\"%s_p99_ms\":%.4f", name, median / 1e6, name, high / 1e6);
}

static void hold(FILE *report, double seconds) {
    struct usage before = usage();
    int64_t began = now();
    wait_for(seconds);
    double cpu = usage().cpu - before.cpu;
    double elapsed = (double)(now() - began) / 1e9;
    fprintf(report, "{\"phase\":\"hold\",\"seconds\":%.1f,\"cpu_percent\":%.2f}", elapsed, 100 * cpu / elapsed);
}

static void emit(size_t count) {
    int64_t stamps[BURST];
    upstream_emit(count, options.size, stamps);
    for (size_t i = 0; i < count; i++)
        events[emitted + i].stamp = stamps[i];
    emitted += count;
}

// Let `count` events pass, `group` at once; by the clock if there is a rate, else when all have those before.
static void stream(FILE *report, const char *name, size_t count, size_t group, double rate) {
    size_t first = emitted, end = emitted + count;
    struct usage before = usage();
    int64_t began = now(), limit = began + (int64_t)((options.timeout + (rate ? (double)count / rate : 0)) * 1e9);
    int64_t next = began;
    while (completed < end && gone == 0 && disordered == 0 && now() < limit) {
        bool due = rate ? now() >= next : completed == emitted;
        if (due && emitted < end) {
            emit(end - emitted < group ? end - emitted : group);
            next += rate ? (int64_t)(1e9 / rate) : 0;
        }
        int64_t ahead = rate && emitted < end ? (next - now()) / MILLISECOND + 1 : 20;
        bool sleeps = rate ? !options.poll : !options.spin;
        turn(sleeps ? (int)(ahead < 0 ? 0 : ahead) : 0);
    }
    double elapsed = (double)(now() - began) / 1e9, cpu = usage().cpu - before.cpu;
    size_t done = completed - first, deliveries = done * (size_t)(options.clients - options.stalled);
    int64_t *times = calloc(count, sizeof *times);
    fprintf(report, "{\"phase\":\"%s\",\"events\":%zu,\"complete\":%s,\"seconds\":%.3f", name, count,
            done == count ? "true" : "false", elapsed);
    fprintf(report, ",\"deliveries_per_second\":%.0f,\"cpu_us\":%.3f", (double)deliveries / elapsed,
            deliveries ? cpu * 1e6 / (double)deliveries : 0);
    for (size_t i = 0; i < done; i++)
        times[i] = events[first + i].first;
    print_times(report, "first", times, done);
    for (size_t i = 0; i < done; i++)
        times[i] = events[first + i].last;
    print_times(report, "last", times, done);
    fprintf(report, "}");
    free(times);
}

static void connect_clients(FILE *report) {
    struct usage before = usage();
    int64_t began = now(), limit = began + (int64_t)(options.timeout * 1e9);
    int connected = opened;
    for (int started = opened; opened < options.clients && gone == 0 && now() < limit;) {
        while (started < options.clients && started - opened < options.pending)
            clients_connect(started++);
        turn(options.spin ? 0 : 10);
    }
    double elapsed = (double)(now() - began) / 1e9, cpu = usage().cpu - before.cpu;
    int added = opened - connected;
    fprintf(report, "\"handshakes\":{\"per_second\":%.0f,\"cpu_us\":%.1f}", added / elapsed,
            added ? cpu * 1e6 / added : 0);
    if (opened == options.clients)
        clients_stall(true);
}

// Let the stalled clients read to the end.
static void wake(FILE *report) {
    int64_t began = now(), limit = began + (int64_t)(options.timeout * 1e9);
    clients_stall(false);
    while (!clients_have_all() && gone == 0 && now() < limit)
        turn(20);
    fprintf(report, ",\"woken\":{\"seconds\":%.3f,\"server_kb\":%.0f}", (double)(now() - began) / 1e9,
            usage().rss);
}

static void run_phase(FILE *report, const char *phase) {
    double amount = 0, rate = 0;
    if (sscanf(phase, "clients:%d", &options.clients) == 1) {
        fprintf(report, "{\"phase\":\"clients\",");
        connect_clients(report);
        fprintf(report, "}");
    }
    if (sscanf(phase, "hold:%lf", &amount) == 1)
        hold(report, amount);
    else if (sscanf(phase, "single:%lf", &amount) == 1)
        stream(report, "single", (size_t)amount, 1, 0);
    else if (sscanf(phase, "burst:%lf", &amount) == 1)
        stream(report, "burst", (size_t)amount, BURST, 0);
    else if (sscanf(phase, "rate:%lf:%lf", &amount, &rate) == 2)
        stream(report, "rate", (size_t)amount, 1, rate);
}

static size_t events_of(char **phases, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) {
        char name[8];
        double amount = 0;
        if (sscanf(phases[i], "%7[a-z]:%lf", name, &amount) == 2 && strcmp(name, "hold") &&
            strcmp(name, "clients"))
            sum += (size_t)amount;
    }
    return sum;
}

static int most_clients(char **phases, int count) {
    int most = options.clients;
    for (int i = 0, clients; i < count; i++)
        if (sscanf(phases[i], "clients:%d", &clients) == 1 && clients > most)
            most = clients;
    return most;
}

static void read_options(int count, char **arguments) {
    static const struct option known[] = {
        {"port", required_argument, 0, 'p'},    {"path", required_argument, 0, 'P'},
        {"clients", required_argument, 0, 'c'}, {"pending", required_argument, 0, 'n'},
        {"upstream", required_argument, 0, 'u'}, {"pid", required_argument, 0, 'i'},
        {"size", required_argument, 0, 's'},    {"timeout", required_argument, 0, 't'},
        {"stalled", required_argument, 0, 'S'}, {"receive-buffer", required_argument, 0, 'b'},
        {"tls", no_argument, 0, 'T'},           {"digest", no_argument, 0, 'd'},
        {"sleep", no_argument, 0, 'z'},         {"poll", no_argument, 0, 'y'},
        {"upstream-tls", required_argument, 0, 'U'}, {0}};
    for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;)
        switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.path = optarg; break;
        case 'c': options.clients = atoi(optarg); break;
        case 'n': options.pending = atoi(optarg); break;
        case 'u': options.upstream = atoi(optarg); break;
        case 's': options.size = (size_t)atoi(optarg); break;
        case 't': options.timeout = atof(optarg); break;
        case 'S': options.stalled = atoi(optarg); break;
        case 'b': options.receive_buffer = atoi(optarg); break;
        case 'T': options.tls = true; break;
        case 'd': options.digest = true; break;
        case 'z': options.spin = false; break;
        case 'y': options.poll = true; break;
        case 'U': options.upstream_tls = optarg; break;
        case 'i':
            if (options.pid_count < MOST_PIDS)
                options.pids[options.pid_count++] = atoi(optarg);
            break;
        default: exit(1);
        }
    if (!options.port || options.upstream < 0 || options.clients <= options.stalled) {
        fprintf(stderr, "usage: load --port PORT --upstream FD --pid PID [--clients N] … PHASE…\n");
        exit(1);
    }
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    int most = most_clients(arguments + optind, count - optind);
    struct rlimit files = {(rlim_t)most + 100, (rlim_t)most + 100};
    struct rlimit allowed;
    getrlimit(RLIMIT_NOFILE, &allowed);
    if (allowed.rlim_cur < files.rlim_cur && setrlimit(RLIMIT_NOFILE, &files))
        fail("setrlimit");
    events = calloc(events_of(arguments + optind, count - optind) + 1, sizeof *events);
    if (!events)
        fail("events");
    clients_open(upstream_open(options.upstream, options.upstream_tls), most);
    for (int64_t limit = now() + 30 * SECOND; !upstream_is_listened_to();) {
        turn(20);
        if (now() > limit) {
            fprintf(stderr, "the server does not listen to its upstream\n");
            return 3;
        }
    }
    wait_for(0.5);

    char *text;
    size_t length;
    FILE *report = open_memstream(&text, &length);
    double idle = usage().rss;
    fprintf(report, "{\"clients\":%d,\"size\":%zu,", options.clients, options.size);
    connect_clients(report);
    wait_for(1); // for the server to come to rest
    double connected = usage().rss;
    fprintf(report, ",\"memory\":{\"idle_kb\":%.0f,\"client_kb\":%.2f},\"phases\":[", idle,
            (connected - idle) / options.clients);
    for (int i = optind; i < count && opened == options.clients && gone == 0; i++) {
        fprintf(report, i > optind ? "," : "");
        run_phase(report, arguments[i]);
    }
    fprintf(report, "],\"end_kb\":%.0f", usage().rss);
    if (options.stalled && gone == 0)
        wake(report);
    bool good = opened == options.clients && gone == 0 && disordered == 0 && clients_have_all();
    fprintf(report, ",\"opened\":%d,\"closed\":%d,\"out_of_order\":%d,\"complete\":%s", opened, gone, disordered,
            good ? "true" : "false");
    if (options.digest)
        fprintf(report, ",\"digest\":\"%016llx\"", (unsigned long long)clients_digest());
    fprintf(report, "}\n");
    fclose(report);
    fputs(text, stdout);
    clients_close();
    return good ? 0 : 4;
}
