/* Load on a cluster of three servers of the C library libraft, for comparison.
 *
 * For every number K of outstanding entries this program forks three processes, one server each, with libraft's own
 * libuv I/O: TCP on loopback, and a log on disk in a fresh folder each. The server that is elected waits until both
 * others hold its whole log, then keeps K entries outstanding: an entry is proposed as soon as one is applied. It
 * counts the entries that its state machine applies within the measured time, prints one line of JSON, and ends; the
 * parent then ends the other two.
 *
 * The servers do not take snapshots during a run, which spares libraft that work; the log stays in memory as well.
 */

#define _GNU_SOURCE /* -std=c11 hides clock_gettime, fork and kill without it. */

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <raft.h>
#include <raft/uv.h>

enum {
    SERVERS = 3,
    RUNS_MAX = 16,
    OUTSTANDING_MAX = 1 << 16,
    ENTRY_BYTES_MAX = 1 << 20,
    PATH_BYTES = 512,
    ADDRESS_BYTES = 32,
    LOOK_AGAIN_MS = 20,
    CONNECT_RETRY_MS = 50,
    ELECTION_SECONDS_MAX = 30,
    ANSWER_SECONDS_MAX = 30,
};

#define NS_PER_SECOND UINT64_C(1000000000)

struct options {
    const char *dir;
    unsigned ports[SERVERS];
    unsigned outstanding[RUNS_MAX];
    unsigned runs;
    unsigned entry_bytes;
    unsigned seconds;
    unsigned warm_up;
    bool each; /* One raft_apply for each entry instead of one for all that are ready. */
};

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "libraft-bench: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    /* Without atexit handlers: half of the library may still be at work. */
    _exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* Latencies, in buckets of 1/128 of their power of two: exact to better than 1 %. */
enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = (64 - STEP_BITS + 1) * STEPS };

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total;
};

static void histogram_record(struct histogram *h, uint64_t value, uint64_t times)
{
    unsigned shift = 0;
    if (value >= STEPS) {
        /* The highest bit becomes implicit: the step holds the STEP_BITS bits below it. */
        shift = 63u - (unsigned)__builtin_clzll(value) - STEP_BITS + 1;
        value >>= shift - 1;
    }
    size_t bucket = (size_t)shift * STEPS + (size_t)(value % STEPS);
    h->counts[bucket] += times;
    h->total += times;
}

/* The middle of the bucket in which the given share of all values is reached. */
static double histogram_quantile(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->total);
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += h->counts[bucket];
        if (h->counts[bucket] > 0 && seen > wanted) {
            size_t shift = bucket / STEPS;
            double step = (double)(bucket % STEPS);
            if (shift == 0) {
                return step;
            }
            double width = (double)(UINT64_C(1) << (shift - 1));
            return (STEPS + step + 0.5) * width;
        }
    }
    return 0;
}

/* One server, and the load if it leads. */
struct server {
    const struct options *options;
    unsigned outstanding;
    uv_loop_t loop;
    struct raft_uv_transport transport;
    struct raft_io io;
    struct raft_fsm fsm;
    struct raft raft;
    uv_timer_t watch;  /* Until elected: looks whether this server leads. Then: whether answers still come. */
    uv_check_t submit; /* After the events of one turn of the loop: proposes what has become free. */
    unsigned free;     /* Entries that may be proposed now. */
    uint64_t elected_by;
    uint64_t begin;
    uint64_t end;
    uint64_t applied; /* Entries that the state machine has taken. */
    uint64_t applied_at_begin;
    bool loading;
    uint8_t *value;
    struct histogram latencies;
};

/* One call of raft_apply: entries proposed together. */
struct batch {
    struct raft_apply request;
    struct server *server;
    unsigned entries;
    uint64_t started;
};

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct server *server = fsm->data;
    (void)buf;
    server->applied++;
    *result = NULL;
    return 0;
}

/* The threshold keeps libraft from ever asking. */
static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    (void)fsm;
    (void)bufs;
    (void)n_bufs;
    return RAFT_BUSY;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    (void)fsm;
    (void)buf;
    return RAFT_INVALID;
}

static void finish(const struct server *server, uint64_t now)
{
    double seconds = (double)(now - server->begin) / (double)NS_PER_SECOND;
    const struct histogram *h = &server->latencies;
    printf("{\"outstanding\":%u,\"commits_per_second\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f}\n",
           server->outstanding, (double)(server->applied - server->applied_at_begin) / seconds,
           histogram_quantile(h, 0.5) / 1e3, histogram_quantile(h, 0.99) / 1e3, histogram_quantile(h, 0.999) / 1e3);
    fflush(stdout);
    _exit(0);
}

static void propose(struct server *server, unsigned entries);

static void applied_cb(struct raft_apply *request, int status, void *result)
{
    struct batch *batch = request->data;
    struct server *server = batch->server;
    uint64_t now = now_ns();
    (void)result;
    if (status != 0) {
        fail("an entry was not committed: %s", raft_strerror(status));
    }
    if (now >= server->end) {
        finish(server, now);
    }
    if (server->applied_at_begin == 0 && now >= server->begin) {
        server->begin = now;
        server->applied_at_begin = server->applied;
    } else if (now >= server->begin) {
        histogram_record(&server->latencies, now - batch->started, batch->entries);
    }
    unsigned entries = batch->entries;
    free(batch);
    if (server->options->each) {
        propose(server, entries);
    } else {
        server->free += entries;
    }
}

static void propose(struct server *server, unsigned entries)
{
    struct raft_buffer *buffers = malloc(entries * sizeof *buffers);
    struct batch *batch = malloc(sizeof *batch);
    if (buffers == NULL || batch == NULL) {
        fail("out of memory");
    }
    for (unsigned i = 0; i < entries; i++) {
        buffers[i].len = server->options->entry_bytes;
        buffers[i].base = raft_malloc(buffers[i].len);
        if (buffers[i].base == NULL) {
            fail("out of memory");
        }
        memcpy(buffers[i].base, server->value, buffers[i].len);
    }
    batch->request.data = batch;
    batch->server = server;
    batch->entries = entries;
    batch->started = now_ns();
    int rv = raft_apply(&server->raft, &batch->request, buffers, entries, applied_cb);
    if (rv != 0) {
        fail("raft_apply: %s", raft_errmsg(&server->raft));
    }
    free(buffers);
}

static void submit_cb(uv_check_t *check)
{
    struct server *server = check->data;
    unsigned entries = server->free;
    if (entries > 0) {
        server->free = 0;
        propose(server, entries);
    }
}

static bool leads_all(const struct server *server)
{
    const struct raft *raft = &server->raft;
    if (raft->state != RAFT_LEADER) {
        return false;
    }
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        if (raft->leader_state.progress[i].match_index < raft->last_stored) {
            return false;
        }
    }
    return true;
}

static bool follows(struct server *server)
{
    raft_id leader;
    const char *address;
    raft_leader(&server->raft, &leader, &address);
    return server->raft.state == RAFT_FOLLOWER && leader != 0;
}

static void start_load(struct server *server)
{
    server->loading = true;
    server->begin = now_ns() + server->options->warm_up * NS_PER_SECOND;
    server->end = server->begin + server->options->seconds * NS_PER_SECOND;
    if (server->options->each) {
        for (unsigned i = 0; i < server->outstanding; i++) {
            propose(server, 1);
        }
        return;
    }
    server->free = server->outstanding;
    uv_check_init(&server->loop, &server->submit);
    server->submit.data = server;
    uv_check_start(&server->submit, submit_cb);
}

static void watch_cb(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t now = now_ns();
    if (server->loading) {
        if (now > server->end + ANSWER_SECONDS_MAX * NS_PER_SECOND) {
            fail("entries were still not committed %d s after the measured time", ANSWER_SECONDS_MAX);
        }
    } else if (leads_all(server)) {
        start_load(server);
    } else if (now > server->elected_by && !follows(server)) {
        fail("no leader with both followers caught up within %d s, or it was lost", ELECTION_SECONDS_MAX);
    }
}

static void check(const struct server *server, int rv, const char *what)
{
    if (rv != 0) {
        const char *why = server->raft.errmsg[0] != '\0' ? server->raft.errmsg : raft_strerror(rv);
        fail("%s: %s", what, why);
    }
}

static void address_of(const struct options *options, unsigned position, char *address)
{
    snprintf(address, ADDRESS_BYTES, "127.0.0.1:%u", options->ports[position]);
}

static void bootstrap(struct server *server)
{
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    for (unsigned i = 0; i < SERVERS; i++) {
        char address[ADDRESS_BYTES];
        address_of(server->options, i, address);
        check(server, raft_configuration_add(&configuration, i + 1, address, RAFT_VOTER), "raft_configuration_add");
    }
    check(server, raft_bootstrap(&server->raft, &configuration), "raft_bootstrap");
    raft_configuration_close(&configuration);
}

static void serve(const struct options *options, unsigned outstanding, unsigned position, const char *dir)
    __attribute__((noreturn));

static void serve(const struct options *options, unsigned outstanding, unsigned position, const char *dir)
{
    struct server *server = calloc(1, sizeof *server);
    char address[ADDRESS_BYTES];
    if (server == NULL || (server->value = malloc(options->entry_bytes)) == NULL) {
        fail("out of memory");
    }
    for (unsigned i = 0; i < options->entry_bytes; i++) {
        server->value[i] = (uint8_t)(i * 167u + 13u);
    }
    server->options = options;
    server->outstanding = outstanding;
    server->elected_by = now_ns() + ELECTION_SECONDS_MAX * NS_PER_SECOND;
    server->fsm = (struct raft_fsm){
        .version = 1, .data = server, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
    address_of(options, position, address);

    check(server, uv_loop_init(&server->loop), "uv_loop_init");
    check(server, raft_uv_tcp_init(&server->transport, &server->loop), "raft_uv_tcp_init");
    check(server, raft_uv_init(&server->io, &server->loop, dir, &server->transport), "raft_uv_init");
    raft_uv_set_connect_retry_delay(&server->io, CONNECT_RETRY_MS);
    check(server, raft_init(&server->raft, &server->io, &server->fsm, position + 1, address), "raft_init");
    raft_set_snapshot_threshold(&server->raft, UINT_MAX);
    raft_set_pre_vote(&server->raft, true);
    bootstrap(server);
    check(server, raft_start(&server->raft), "raft_start");

    check(server, uv_timer_init(&server->loop, &server->watch), "uv_timer_init");
    server->watch.data = server;
    check(server, uv_timer_start(&server->watch, watch_cb, LOOK_AGAIN_MS, LOOK_AGAIN_MS), "uv_timer_start");
    uv_run(&server->loop, UV_RUN_DEFAULT);
    fail("the server's event loop ended by itself");
}

static pid_t start_server(const struct options *options, unsigned outstanding, unsigned position)
{
    char dir[PATH_BYTES];
    int len = snprintf(dir, sizeof dir, "%s/k%u.n%u", options->dir, outstanding, position + 1);
    if (len < 0 || (size_t)len >= sizeof dir) {
        fail("the path %s is too long", options->dir);
    }
    if (mkdir(dir, 0700) != 0) {
        fail("cannot make %s: %s; give an empty folder", dir, strerror(errno));
    }
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        fail("fork: %s", strerror(errno));
    }
    if (child == 0) {
        /* No server outlives the parent, however the parent ends. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
        serve(options, outstanding, position, dir);
    }
    return child;
}

/* Whoever ends first is the leader with its result, or a server that failed: either way the run is over. */
static bool run(const struct options *options, unsigned outstanding)
{
    pid_t servers[SERVERS];
    int status = 0;
    for (unsigned i = 0; i < SERVERS; i++) {
        servers[i] = start_server(options, outstanding, i);
    }
    pid_t first = waitpid(-1, &status, 0);
    for (unsigned i = 0; i < SERVERS; i++) {
        if (servers[i] != first) {
            kill(servers[i], SIGKILL);
            waitpid(servers[i], NULL, 0);
        }
    }
    return first > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void usage(void) __attribute__((noreturn));

static void usage(void)
{
    fprintf(stderr, "usage: libraft-bench --dir DIR --ports P,P,P [--outstanding K,K,...] [--entry-size BYTES]\n"
                    "                     [--seconds S] [--warm-up S] [--each]\n"
                    "DIR is an empty folder on the disk to measure. --each calls raft_apply once for each entry\n"
                    "instead of once for all that are free in one turn of the event loop.\n");
    exit(2);
}

static unsigned number(const char *text, char **end, unsigned least, unsigned most)
{
    errno = 0;
    unsigned long value = strtoul(text, end, 10);
    if (errno != 0 || *end == text || value < least || value > most) {
        fprintf(stderr, "libraft-bench: %s is not between %u and %u\n", text, least, most);
        usage();
    }
    return (unsigned)value;
}

static unsigned whole_number(const char *text, unsigned least, unsigned most)
{
    char *end;
    unsigned value = number(text, &end, least, most);
    if (*end != '\0') {
        usage();
    }
    return value;
}

/* A list with commas; returns its length. */
static unsigned numbers(const char *text, unsigned *values, unsigned count_max, unsigned least, unsigned most)
{
    unsigned count = 0;
    for (;;) {
        char *end;
        if (count == count_max) {
            usage();
        }
        values[count++] = number(text, &end, least, most);
        if (*end == '\0') {
            return count;
        }
        if (*end != ',') {
            usage();
        }
        text = end + 1;
    }
}

static struct options parse(int argc, char **argv)
{
    struct options options = {
        .outstanding = {1, 64, 256, 1024}, .runs = 4, .entry_bytes = 256, .seconds = 5, .warm_up = 1};
    unsigned ports = 0;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--each") == 0) {
            options.each = true;
            continue;
        }
        if (++i == argc) {
            usage();
        }
        if (strcmp(name, "--dir") == 0) {
            options.dir = argv[i];
        } else if (strcmp(name, "--ports") == 0) {
            ports = numbers(argv[i], options.ports, SERVERS, 1, 65535);
        } else if (strcmp(name, "--outstanding") == 0) {
            options.runs = numbers(argv[i], options.outstanding, RUNS_MAX, 1, OUTSTANDING_MAX);
        } else if (strcmp(name, "--entry-size") == 0) {
            /* libraft wants lengths that are multiples of 8. */
            options.entry_bytes = (whole_number(argv[i], 1, ENTRY_BYTES_MAX) + 7u) / 8u * 8u;
        } else if (strcmp(name, "--seconds") == 0) {
            options.seconds = whole_number(argv[i], 1, 3600);
        } else if (strcmp(name, "--warm-up") == 0) {
            options.warm_up = whole_number(argv[i], 0, 3600);
        } else {
            usage();
        }
    }
    if (options.dir == NULL || ports != SERVERS) {
        usage();
    }
    return options;
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    for (unsigned i = 0; i < options.runs; i++) {
        if (!run(&options, options.outstanding[i])) {
            fprintf(stderr, "libraft-bench: the run with %u outstanding failed\n", options.outstanding[i]);
            return 1;
        }
    }
    return 0;
}
