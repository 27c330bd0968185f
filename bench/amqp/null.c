// What the client can do at most: a server that accepts and settles at once, and passes on what comes on a
// connection to the receivers of the same connection and queue, out of memory. Nothing is stored.
//
//   null ADDRESS
#include <proton/connection.h>
#include <proton/delivery.h>
#include <proton/event.h>
#include <proton/link.h>
#include <proton/listener.h>
#include <proton/netaddr.h>
#include <proton/proactor.h>
#include <proton/session.h>
#include <proton/terminus.h>
#include <proton/transport.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CREDIT = 1000, ADDRESS_BYTES = 256, FRAME_BYTES = 64 << 10 };

// Of one connection: what came for an address and has not gone. `bytes` are messages one behind the other, each
// behind its size.
typedef struct Queue {
    struct Queue *next;
    char address[ADDRESS_BYTES];
    pn_link_t *receiver;
    uint8_t *bytes;
    size_t begin, end, room;
    uint64_t tag;
} Queue;

static void *sure(void *memory) {
    if (!memory) {
        fprintf(stderr, "null: no memory\n");
        exit(1);
    }
    return memory;
}

static Queue *queue_of(pn_connection_t *connection, const char *address) {
    Queue *first = pn_connection_get_context(connection);
    for (Queue *at = first; at; at = at->next)
        if (!strncmp(at->address, address, ADDRESS_BYTES - 1)) return at;
    Queue *queue = sure(calloc(1, sizeof *queue));
    strncpy(queue->address, address, ADDRESS_BYTES - 1);
    queue->next = first;
    pn_connection_set_context(connection, queue);
    return queue;
}

static void push(Queue *queue, const uint8_t *bytes, size_t size) {
    if (queue->begin == queue->end) queue->begin = queue->end = 0;
    size_t needed = queue->end + sizeof size + size;
    if (needed > queue->room) {
        queue->room = 2 * needed;
        queue->bytes = sure(realloc(queue->bytes, queue->room));
    }
    memcpy(queue->bytes + queue->end, &size, sizeof size);
    memcpy(queue->bytes + queue->end + sizeof size, bytes, size);
    queue->end = needed;
}

static void pass_on(Queue *queue) {
    while (queue->receiver && queue->begin < queue->end && pn_link_credit(queue->receiver) > 0) {
        size_t size;
        memcpy(&size, queue->bytes + queue->begin, sizeof size);
        uint64_t tag = queue->tag++;
        pn_delivery(queue->receiver, pn_dtag((char *)&tag, sizeof tag));
        pn_link_send(queue->receiver, (char *)queue->bytes + queue->begin + sizeof size, size);
        pn_link_advance(queue->receiver);
        queue->begin += sizeof size + size;
    }
}

static void delivered(pn_link_t *link, pn_delivery_t *delivery) {
    static uint8_t bytes[FRAME_BYTES];
    if (pn_link_is_sender(link)) {
        if (pn_delivery_updated(delivery) && pn_delivery_remote_state(delivery)) {
            pn_delivery_update(delivery, pn_delivery_remote_state(delivery));
            pn_delivery_settle(delivery);
        }
        return;
    }
    if (!pn_delivery_readable(delivery) || pn_delivery_partial(delivery)) return;
    size_t size = pn_delivery_pending(delivery);
    if (size > sizeof bytes || pn_link_recv(link, (char *)bytes, size) != (ssize_t)size) {
        fprintf(stderr, "null: a message that is too large\n");
        exit(1);
    }
    pn_link_advance(link);
    pn_delivery_update(delivery, PN_ACCEPTED);
    pn_delivery_settle(delivery);
    Queue *queue = pn_link_get_context(link);
    push(queue, bytes, size);
    pass_on(queue);
    if (pn_link_credit(link) < CREDIT / 2) pn_link_flow(link, CREDIT - pn_link_credit(link));
}

static void attached(pn_connection_t *connection, pn_link_t *link) {
    bool is_sender = pn_link_is_sender(link);
    pn_terminus_t *terminus = is_sender ? pn_link_remote_source(link) : pn_link_remote_target(link);
    Queue *queue = queue_of(connection, pn_terminus_get_address(terminus));
    pn_terminus_copy(pn_link_source(link), pn_link_remote_source(link));
    pn_terminus_copy(pn_link_target(link), pn_link_remote_target(link));
    pn_link_set_snd_settle_mode(link, pn_link_remote_snd_settle_mode(link));
    pn_link_set_rcv_settle_mode(link, pn_link_remote_rcv_settle_mode(link));
    pn_link_set_context(link, queue);
    pn_link_open(link);
    if (is_sender) queue->receiver = link;
    else pn_link_flow(link, CREDIT);
}

static void handle(pn_event_t *event) {
    pn_connection_t *connection = pn_event_connection(event);
    switch (pn_event_type(event)) {
    case PN_LISTENER_OPEN: {
        char port[PN_MAX_ADDR];
        pn_netaddr_str(pn_listener_addr(pn_event_listener(event)), port, sizeof port);
        printf("%s\n", port);
        fflush(stdout);
        break;
    }
    case PN_LISTENER_ACCEPT:
        pn_listener_accept2(pn_event_listener(event), NULL, NULL);
        break;
    case PN_LISTENER_CLOSE:
        fprintf(stderr, "null: cannot listen\n");
        exit(1);
    case PN_CONNECTION_REMOTE_OPEN:
        pn_connection_open(connection);
        break;
    case PN_SESSION_REMOTE_OPEN:
        pn_session_open(pn_event_session(event));
        break;
    case PN_LINK_REMOTE_OPEN:
        attached(connection, pn_event_link(event));
        break;
    case PN_LINK_FLOW:
        if (pn_link_is_sender(pn_event_link(event))) pass_on(pn_link_get_context(pn_event_link(event)));
        break;
    case PN_DELIVERY:
        delivered(pn_event_link(event), pn_event_delivery(event));
        break;
    case PN_TRANSPORT_CLOSED:
        for (Queue *at = pn_connection_get_context(connection), *next; at; at = next) {
            next = at->next;
            free(at->bytes);
            free(at);
        }
        pn_connection_set_context(connection, NULL);
        break;
    default:
        break;
    }
}

int main(int count, char **words) {
    if (count != 2) return fprintf(stderr, "null ADDRESS\n"), 2;
    pn_proactor_t *proactor = pn_proactor();
    pn_proactor_listen(proactor, pn_listener(), words[1], 128);
    while (true) {
        pn_event_batch_t *batch = pn_proactor_wait(proactor);
        for (pn_event_t *event; (event = pn_event_batch_next(batch));) handle(event);
        pn_proactor_done(proactor, batch);
    }
}
