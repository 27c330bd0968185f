// One AMQP 1.0 client for every broker: phases of load over connections and queues, each message told apart.
//
//   load ADDRESS SASL MODE PATTERN CONNECTIONS QUEUES SECONDS RATE PHASE...
//
// PATTERN holds %d where the number of the queue goes. A phase is send (for SECONDS), receive (all that was sent),
// both (for SECONDS, then the rest) or latency (RATE messages a second for SECONDS, each timed from when it was due).
// Before each phase "ready" is said and a line awaited; after it one line of JSON tells what came of it.
//
// One thread does everything, so that the other processors are the broker's; only the moments at which messages
// are due are waited for by a second one. A message is done when the broker has said so: a sent one is accepted and
// settled, a received one is accepted by us and settled by the broker (MODE second: the receiver settles second). One
// that answers no settlements, or refuses to be asked (MODE first), is not waited for.
#include <inttypes.h>
#include <proton/condition.h>
#include <proton/connection.h>
#include <proton/delivery.h>
#include <proton/event.h>
#include <proton/link.h>
#include <proton/proactor.h>
#include <proton/sasl.h>
#include <proton/session.h>
#include <proton/transport.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "message.h"

enum {
    CONNECTIONS_MAX = 1024,
    // Messages under way of one link at most, and of all links of a connection together.
    LINK_WINDOW = 512,
    CONNECTION_WINDOW = 2048,
    // Messages that one sender sends at most.
    SEEN_MAX = 1 << 24,
    FRAME_BYTES = 64 << 10,
    // Mente takes 256 links of a session.
    SESSION_LINKS = 200,
    // Without any progress for so long a broker has failed.
    STALLED_S = 20,
    // How long nothing more may come once everything has.
    QUIET_MS = 300,
};

// In the place of when a message was due.
#define ANSWERED UINTPTR_MAX

typedef struct Peer Peer;

typedef struct {
    pn_link_t *link;
    Peer *peer;
    int queue;
    // Of a sender: what it has sent, and how much of that is not answered. Of a receiver: credit that is owed.
    uint32_t sent, open, owed;
    // Of a sender: which of its messages came back.
    uint8_t *seen;
    uint32_t room;
    // Of a receiver: the broker does not answer settlements (receiver-settle-mode first).
    bool is_first;
} Link;

struct Peer {
    pn_connection_t *connection;
    Link *senders, *receivers;
    int count, next, window;
    // The next message that is due, in the order of all.
    uint64_t due;
};

static pn_proactor_t *proactor;
static Peer peers[CONNECTIONS_MAX];
static int connections, queues, attached;
static uint32_t run;
static double rate;
static uint64_t began, due_count;
static bool sending, receiving, pacing, is_confirmed;
static uint64_t sent, acked, received, settled;
static uint64_t last_ack, last_settle;
static uint32_t *ack_us, *end_us;
static uint64_t acks, ends;

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void fail(const char *what, const char *why) {
    printf("{\"failed\": \"%s: %s\"}\n", what, why ? why : "no reason given");
    fflush(stdout);
    exit(1);
}

static void failed(const char *what, pn_condition_t *condition) {
    static char why[512];
    const char *name = pn_condition_get_name(condition), *more = pn_condition_get_description(condition);
    snprintf(why, sizeof why, "%s %s", name ? name : "", more ? more : "");
    for (char *at = why; *at; at++)
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ') *at = '\'';
    fail(what, why);
}

static uint64_t moment(uint64_t number) { return began + (uint64_t)((double)number * 1e9 / rate); }

static void send_one(Link *sender, uint64_t scheduled) {
    static uint8_t bytes[MESSAGE_BYTES];
    Stamp stamp = {run, (uint32_t)sender->queue, sender->sent, scheduled};
    // Senders of one queue by different connections are told apart by the upper half.
    stamp.sender |= (uint32_t)(sender->peer - peers) << 16;
    size_t size = message_write(bytes, &stamp);
    uint64_t tag = sender->sent;
    pn_delivery_t *delivery = pn_delivery(sender->link, pn_dtag((char *)&tag, sizeof tag));
    pn_delivery_set_context(delivery, (void *)(uintptr_t)scheduled);
    if (pn_link_send(sender->link, (char *)bytes, size) != (ssize_t)size) fail("send", "the library took a part");
    pn_link_advance(sender->link);
    sender->sent++;
    sender->open++;
    sent++;
    if (sender->sent >= SEEN_MAX) fail("send", "more messages than are told apart");
    if (sender->sent > sender->room) {
        sender->room = sender->room ? 2 * sender->room : 1024;
        sender->seen = realloc(sender->seen, sender->room);
        if (!sender->seen) fail("send", "no memory");
        memset(sender->seen + sender->sent - 1, 0, sender->room - sender->sent + 1);
    }
}

// A closed loop: so many under way, one more for each answer.
static void pump(Link *sender) {
    while (sending && (int)sender->open < sender->peer->window && pn_link_credit(sender->link) > 0) send_one(sender, 0);
}

// An open loop: what is due goes, whatever became of what went before. Without credit it waits, and its time runs.
static void pump_due(Peer *peer) {
    while (peer->due < due_count && moment(peer->due) <= now_ns()) {
        Link *sender = NULL;
        for (int tries = 0; tries < peer->count && !sender; tries++) {
            Link *at = &peer->senders[peer->next++ % peer->count];
            if (pn_link_credit(at->link) > 0) sender = at;
        }
        if (!sender) return;
        send_one(sender, moment(peer->due));
        peer->due += (uint64_t)connections;
    }
}

static uint32_t us_since(uint64_t from) { return (uint32_t)((now_ns() - from) / 1000); }

static void answered(Link *sender, pn_delivery_t *delivery) {
    if (!pn_delivery_updated(delivery)) return;
    uint64_t state = pn_delivery_remote_state(delivery);
    if (state == PN_REJECTED) failed("a message was rejected", pn_disposition_condition(pn_delivery_remote(delivery)));
    if (state != PN_ACCEPTED) {
        if (!pn_delivery_settled(delivery)) return;
        fail("send", "an answer that is not accepted");
    }
    uint64_t scheduled = (uint64_t)(uintptr_t)pn_delivery_get_context(delivery);
    // RabbitMQ answers some a second time.
    if (scheduled == ANSWERED) return;
    pn_delivery_set_context(delivery, (void *)(uintptr_t)ANSWERED);
    if (scheduled && acks < due_count) ack_us[acks++] = us_since(scheduled);
    pn_delivery_settle(delivery);
    sender->open--;
    acked++;
    last_ack = now_ns();
    if (!pacing) pump(sender);
}

static void look_at(const uint8_t *bytes, size_t size) {
    Stamp stamp;
    if (!message_read(bytes, size, &stamp)) fail("receive", "what came is not what was sent");
    uint32_t of = stamp.sender >> 16, queue = stamp.sender & 0xffff;
    if (stamp.run != run || of >= (uint32_t)connections) fail("receive", "a message of another run");
    // As `open_links` made them.
    uint32_t at = queues > connections ? (queue - of) / (uint32_t)connections : 0;
    Link *sender = &peers[of].senders[at];
    if (at >= (uint32_t)peers[of].count || sender->queue != (int)queue) fail("receive", "a message of no sender");
    if (stamp.number >= sender->sent) fail("receive", "a message that was not sent");
    // At least once is what is promised; but nobody lost a lock here, so twice is not what was meant.
    if (sender->seen[stamp.number]++) fail("receive", "a message came twice");
    if (stamp.scheduled && ends < due_count) end_us[ends++] = us_since(stamp.scheduled);
}

static void delivered(Link *receiver, pn_delivery_t *delivery) {
    static uint8_t bytes[FRAME_BYTES];
    if (pn_delivery_readable(delivery) && !pn_delivery_partial(delivery)) {
        size_t size = pn_delivery_pending(delivery);
        if (size > sizeof bytes || pn_link_recv(receiver->link, (char *)bytes, size) != (ssize_t)size)
            fail("receive", "a message that is too large");
        look_at(bytes, size);
        pn_delivery_update(delivery, PN_ACCEPTED);
        pn_link_advance(receiver->link);
        received++;
    }
    if (receiver->is_first || pn_delivery_settled(delivery)) {
        if (pn_delivery_remote_state(delivery) == PN_REJECTED)
            failed("settle", pn_disposition_condition(pn_delivery_remote(delivery)));
        pn_delivery_settle(delivery);
        settled++;
        last_settle = now_ns();
        // In halves, since each is a frame.
        if ((int)++receiver->owed * 2 > receiver->peer->window) {
            pn_link_flow(receiver->link, (int)receiver->owed);
            receiver->owed = 0;
        }
    }
}

static const char *pattern, *address, *mechanism;
static pn_rcv_settle_mode_t receiver_mode;

static void open_link(Peer *peer, pn_session_t *session, Link *link, int queue, bool is_sender) {
    char name[64], place[256];
    snprintf(name, sizeof name, "%s-%d-%d", is_sender ? "to" : "from", (int)(peer - peers), queue);
    snprintf(place, sizeof place, pattern, queue);
    link->queue = queue;
    link->link = is_sender ? pn_sender(session, name) : pn_receiver(session, name);
    link->peer = peer;
    pn_link_set_context(link->link, link);
    pn_terminus_set_address(pn_link_source(link->link), place);
    pn_terminus_set_address(pn_link_target(link->link), place);
    pn_link_set_snd_settle_mode(link->link, PN_SND_UNSETTLED);
    pn_link_set_rcv_settle_mode(link->link, is_sender ? PN_RCV_FIRST : receiver_mode);
    pn_link_open(link->link);
}

// Queues go round over connections; where there are fewer queues than connections, several share one.
static void open_links(Peer *peer) {
    int first = (int)(peer - peers);
    int share = queues > connections ? (queues - first + connections - 1) / connections : 1;
    peer->senders = calloc((size_t)share, sizeof(Link));
    peer->receivers = calloc((size_t)share, sizeof(Link));
    if (!peer->senders || !peer->receivers) fail("attach", "no memory");
    peer->count = share;
    peer->window = CONNECTION_WINDOW / share;
    if (peer->window > LINK_WINDOW) peer->window = LINK_WINDOW;
    if (peer->window < 2) peer->window = 2;
    // All connections together have no more under way than eight of them alone.
    if (connections > 8) peer->window = peer->window * 8 / connections > 2 ? peer->window * 8 / connections : 2;
    for (int at = 0; at < share; at++) {
        static pn_session_t *out, *in;
        if (at % SESSION_LINKS == 0) {
            pn_session_open(out = pn_session(peer->connection));
            pn_session_open(in = pn_session(peer->connection));
        }
        int queue = (first + at * connections) % queues;
        open_link(peer, out, &peer->senders[at], queue, true);
        open_link(peer, in, &peer->receivers[at], queue, false);
    }
}

static void wake(Peer *peer) {
    if (pacing) {
        pump_due(peer);
    } else {
        for (int at = 0; at < peer->count; at++) pump(&peer->senders[at]);
    }
    if (!receiving) return;
    for (int at = 0; at < peer->count; at++) {
        Link *receiver = &peer->receivers[at];
        int missing = peer->window - pn_link_credit(receiver->link) - (int)receiver->owed;
        if (missing == peer->window) pn_link_flow(receiver->link, missing);
    }
}

static void handle(pn_event_t *event) {
    pn_connection_t *connection = pn_event_connection(event);
    Peer *peer = connection ? pn_connection_get_context(connection) : NULL;
    pn_link_t *link = pn_event_link(event);
    switch (pn_event_type(event)) {
    case PN_CONNECTION_INIT:
        pn_connection_open(connection);
        open_links(peer);
        break;
    case PN_LINK_REMOTE_OPEN:
        attached++;
        if (pn_link_is_receiver(link)) {
            Link *receiver = pn_link_get_context(link);
            receiver->is_first = receiver_mode == PN_RCV_FIRST || pn_link_remote_rcv_settle_mode(link) == PN_RCV_FIRST;
            is_confirmed = !receiver->is_first;
        }
        break;
    case PN_LINK_FLOW:
        if (!pn_link_is_sender(link)) break;
        if (pacing) pump_due(peer);
        else pump(pn_link_get_context(link));
        break;
    case PN_DELIVERY:
        if (pn_link_is_sender(link)) answered(pn_link_get_context(link), pn_event_delivery(event));
        else delivered(pn_link_get_context(link), pn_event_delivery(event));
        break;
    case PN_CONNECTION_WAKE:
        wake(peer);
        break;
    case PN_LINK_REMOTE_CLOSE:
    case PN_LINK_REMOTE_DETACH:
        failed("a link was ended", pn_link_remote_condition(link));
        break;
    case PN_SESSION_REMOTE_CLOSE:
        failed("a session was ended", pn_session_remote_condition(pn_event_session(event)));
        break;
    case PN_CONNECTION_REMOTE_CLOSE:
        failed("a connection was ended", pn_connection_remote_condition(connection));
        break;
    case PN_TRANSPORT_CLOSED:
        failed("a connection broke", pn_transport_condition(pn_event_transport(event)));
        break;
    default:
        break;
    }
}

// Goes on until `done` or, if `until` is not 0, until then; stops the program if nothing moves.
static void go_on(bool (*done)(void), uint64_t until) {
    uint64_t moved = now_ns(), before = 0;
    while (!done() && (!until || now_ns() < until)) {
        pn_proactor_set_timeout(proactor, until ? 1 : 100);
        pn_event_batch_t *batch = pn_proactor_wait(proactor);
        for (pn_event_t *event; (event = pn_event_batch_next(batch));) handle(event);
        pn_proactor_done(proactor, batch);
        uint64_t progress = sent + acked + received + settled + (uint64_t)attached;
        if (progress != before) moved = now_ns(), before = progress;
        static char why[160];
        if (!until && now_ns() - moved > STALLED_S * 1000000000ull) {
            snprintf(why, sizeof why,
                     "%d attached, %" PRIu64 " sent, %" PRIu64 " accepted, %" PRIu64 " received, %" PRIu64 " settled",
                     attached, sent, acked, received, settled);
            fail("nothing moves any more", why);
        }
    }
}

static bool is_attached(void) {
    int links = 0;
    for (int at = 0; at < connections; at++) links += 2 * peers[at].count;
    return links && attached >= links;
}
static bool is_acked(void) { return acked == sent; }
static bool is_settled(void) { return acked == sent && settled == sent; }
static bool is_paced(void) {
    return acked == sent && settled == sent && ends >= due_count;
}
static uint64_t sent_before;
static bool has_begun(void) { return sent > sent_before; }
static bool never(void) { return false; }

static void wake_all(void) {
    for (int at = 0; at < connections; at++) pn_connection_wake(peers[at].connection);
}

static void *pace(void *nothing) {
    (void)nothing;
    for (uint64_t number = 0; number < due_count; number++) {
        uint64_t at = moment(number);
        struct timespec until = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {
        }
        pn_connection_wake(peers[number % (uint64_t)connections].connection);
    }
    return NULL;
}

static int by_size(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return a < b ? -1 : a > b;
}

static void percentiles(const char *name, uint32_t *us, uint64_t count) {
    qsort(us, count, sizeof *us, by_size);
    printf(", \"%s_p50\": %u, \"%s_p99\": %u, \"%s_max\": %u", name, us[count / 2], name, us[count * 99 / 100], name,
           us[count - 1]);
}

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void phase(const char *name, double seconds) {
    bool is_latency = !strcmp(name, "latency");
    uint64_t acked_before = acked, settled_before = settled;
    pthread_t pacer;
    printf("ready\n");
    fflush(stdout);
    char line[16];
    if (!fgets(line, sizeof line, stdin)) exit(1);
    double cpu = cpu_s();
    began = last_ack = last_settle = now_ns();
    uint64_t until = began + (uint64_t)(seconds * 1e9);
    if (!strcmp(name, "send") || !strcmp(name, "both")) sending = true;
    if (strcmp(name, "send")) receiving = true;
    if (is_latency) {
        acks = ends = 0;
        due_count = (uint64_t)(rate * seconds);
        ack_us = calloc(due_count, sizeof *ack_us);
        end_us = calloc(due_count, sizeof *end_us);
        if (!ack_us || !end_us) fail("latency", "no memory");
        for (int at = 0; at < connections; at++) peers[at].due = (uint64_t)at;
        pacing = true;
        wake_all();
        if (pthread_create(&pacer, NULL, pace, NULL)) fail("latency", "no thread");
        go_on(is_paced, 0);
        pthread_join(pacer, NULL);
    } else {
        wake_all();
        sent_before = sent;
        // One message at least, however slow the broker is.
        if (sending) {
            go_on(never, until);
            go_on(has_begun, 0);
        }
        sending = false;
        go_on(receiving ? is_settled : is_acked, 0);
    }
    uint64_t ended = receiving ? last_settle : last_ack;
    uint64_t count = receiving ? settled - settled_before : acked - acked_before;
    printf("{\"phase\": \"%s\", \"messages\": %" PRIu64 ", \"seconds\": %.6f, \"client_cpu\": %.6f, \"is_confirmed\": %s", name, count,
           (double)(ended - began) / 1e9, cpu_s() - cpu, is_confirmed ? "true" : "false");
    if (is_latency) {
        percentiles("ack", ack_us, acks);
        percentiles("end", end_us, ends);
        pacing = false;
        due_count = 0;
    }
    printf("}\n");
    fflush(stdout);
}

// Everything that was accepted came back once, and nothing more comes.
static void check(void) {
    go_on(never, now_ns() + QUIET_MS * 1000000ull);
    uint64_t missing = 0;
    for (int at = 0; at < connections; at++)
        for (int of = 0; of < peers[at].count; of++)
            for (uint32_t number = 0; number < peers[at].senders[of].sent; number++)
                missing += peers[at].senders[of].seen[number] != 1;
    if (missing || received != sent) fail("check", "what was accepted did not come back once each");
    printf("{\"checked\": %" PRIu64 "}\n", received);
    fflush(stdout);
}

int main(int count, char **words) {
    if (count < 10) return fprintf(stderr, "load ADDRESS SASL MODE PATTERN CONNECTIONS QUEUES SECONDS RATE PHASE...\n"), 2;
    address = words[1];
    mechanism = words[2];
    receiver_mode = strcmp(words[3], "first") ? PN_RCV_SECOND : PN_RCV_FIRST;
    pattern = words[4];
    connections = atoi(words[5]);
    queues = atoi(words[6]);
    double seconds = atof(words[7]);
    rate = atof(words[8]);
    if (connections < 1 || connections > CONNECTIONS_MAX || queues < 1 || queues > 65535 || seconds <= 0 || rate <= 0)
        return fprintf(stderr, "load: a number is out of range\n"), 2;
    run = (uint32_t)now_ns();
    proactor = pn_proactor();
    for (int at = 0; at < connections; at++) {
        pn_transport_t *transport = pn_transport();
        if (strcmp(mechanism, "none")) pn_sasl_allowed_mechs(pn_sasl(transport), mechanism);
        peers[at].connection = pn_connection();
        pn_connection_set_container(peers[at].connection, "bench");
        pn_connection_set_context(peers[at].connection, &peers[at]);
        pn_proactor_connect2(proactor, peers[at].connection, transport, address);
    }
    go_on(is_attached, 0);
    bool was_received = false;
    for (int at = 9; at < count; at++) {
        phase(words[at], seconds);
        was_received = strcmp(words[at], "send");
    }
    if (was_received) check();
    return 0;
}
