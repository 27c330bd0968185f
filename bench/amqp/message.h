// The message of the benchmark, byte for byte: durable, with an id, 1 KiB of data that begins with its stamp.
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { DATA_BYTES = 1024, ID_BYTES = 32, MESSAGE_BYTES = 9 + 9 + ID_BYTES + 8 + DATA_BYTES };

typedef struct {
    uint32_t run, sender, number;
    // In ns of the clock of who sends, if it was due at a moment.
    uint64_t scheduled;
} Stamp;

static size_t message_write(uint8_t *to, const Stamp *stamp) {
    // header: [durable = true]
    static const uint8_t header[] = {0x00, 0x53, 0x70, 0xc0, 0x02, 0x01, 0x41};
    // properties: [message-id, a string]
    static const uint8_t properties[] = {0x00, 0x53, 0x73, 0xc0, ID_BYTES + 3, 0x01, 0xa1, ID_BYTES};
    // data, a binary of 1,024 bytes
    static const uint8_t data[] = {0x00, 0x53, 0x75, 0xb0, 0x00, 0x00, DATA_BYTES >> 8, DATA_BYTES & 0xff};
    char id[ID_BYTES + 1];
    uint8_t *at = to;
    memcpy(at, header, sizeof header);
    at += sizeof header;
    memcpy(at, properties, sizeof properties);
    at += sizeof properties;
    snprintf(id, sizeof id, "%08x-%08x-%014x", stamp->run, stamp->sender, stamp->number);
    memcpy(at, id, ID_BYTES);
    at += ID_BYTES;
    memcpy(at, data, sizeof data);
    at += sizeof data;
    memset(at, 'x', DATA_BYTES);
    memcpy(at, stamp, sizeof *stamp);
    return (size_t)(at + DATA_BYTES - to);
}

// Brokers change what stands before the data, and put nothing behind it.
static bool message_read(const uint8_t *bytes, size_t size, Stamp *stamp) {
    static const uint8_t data[] = {0x00, 0x53, 0x75, 0xb0, 0x00, 0x00, DATA_BYTES >> 8, DATA_BYTES & 0xff};
    if (size < sizeof data + DATA_BYTES) return false;
    const uint8_t *at = bytes + size - DATA_BYTES;
    if (memcmp(at - sizeof data, data, sizeof data) || at[DATA_BYTES - 1] != 'x') return false;
    memcpy(stamp, at, sizeof *stamp);
    return true;
}

#endif
