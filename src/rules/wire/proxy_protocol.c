#include "rules/wire/proxy_protocol.h"

enum {
    SIGNATURE = 12,
    VERSION_2 = 2,
    COMMAND_LOCAL = 0,
    COMMAND_PROXY = 1,
    TCP_V4 = 0x11,
    TCP_V6 = 0x21,
    V4_ADDRESSES = 12, /* two addresses, two ports */
    V6_ADDRESSES = 36,
    TLV_HEAD = 3,
    TLV_CRC32C = 3,
    CRC_BYTES = 4,
};

static const uint8_t signature[SIGNATURE] = "\r\n\r\n\0\r\nQUIT\n";

static size_t read_16(const uint8_t *bytes) {
    return (size_t)bytes[0] << 8 | bytes[1];
}

size_t proxy_protocol_length(const uint8_t fixed[PROXY_PROTOCOL_FIXED]) {
    size_t length = PROXY_PROTOCOL_FIXED + read_16(fixed + 14);
    bool fine = memcmp(fixed, signature, SIGNATURE) == 0 && fixed[12] >> 4 == VERSION_2 &&
                (fixed[12] & 15) <= COMMAND_PROXY && length <= PROXY_PROTOCOL_MAX;
    return fine ? length : 0;
}

/* CRC-32C (RFC 3720 appendix B.4) of the header, the four bytes at `hole` taken as zero. */
static uint32_t checksum(struct span header, size_t hole) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < header.len; i++) {
        crc ^= i >= hole && i < hole + CRC_BYTES ? 0 : (uint8_t)header.ptr[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static bool checksum_is_right(struct span header, size_t at, size_t len) {
    if (len != CRC_BYTES)
        return false;
    const uint8_t *bytes = (const uint8_t *)header.ptr + at;
    uint32_t told = (uint32_t)read_16(bytes) << 16 | (uint32_t)read_16(bytes + 2);
    return told == checksum(header, at);
}

/* Do the TLVs fill the header from `at` to its end? */
static bool tlvs_are_fine(struct span header, size_t at) {
    while (at < header.len) {
        if (header.len - at < TLV_HEAD)
            return false;
        const uint8_t *tlv = (const uint8_t *)header.ptr + at;
        size_t len = read_16(tlv + 1);
        at += TLV_HEAD;
        if (header.len - at < len)
            return false;
        if (tlv[0] == TLV_CRC32C && !checksum_is_right(header, at, len))
            return false;
        at += len;
    }
    return true;
}

/* Returns how many bytes the addresses take, 0 for what we do not speak. */
static size_t read_addresses(struct span header, struct proxy_protocol *out) {
    const uint8_t *bytes = (const uint8_t *)header.ptr + PROXY_PROTOCOL_FIXED;
    size_t room = header.len - PROXY_PROTOCOL_FIXED;
    switch ((uint8_t)header.ptr[13]) {
    case TCP_V4:
        if (room < V4_ADDRESSES)
            return 0;
        address_of_v4(bytes, &out->source);
        out->port = (uint16_t)read_16(bytes + 8);
        return V4_ADDRESSES;
    case TCP_V6:
        if (room < V6_ADDRESSES)
            return 0;
        address_of_v6(bytes, &out->source);
        out->port = (uint16_t)read_16(bytes + 32);
        return V6_ADDRESSES;
    default:
        return 0;
    }
}

bool proxy_protocol_parse(struct span header, struct proxy_protocol *out) {
    const uint8_t *bytes = (const uint8_t *)header.ptr;
    if (header.len < PROXY_PROTOCOL_FIXED || proxy_protocol_length(bytes) != header.len)
        return false;
    *out = (struct proxy_protocol){.local = (bytes[12] & 15) == COMMAND_LOCAL};
    if (out->local) /* whatever follows is to be skipped */
        return true;
    size_t addresses = read_addresses(header, out);
    return addresses > 0 && tlvs_are_fine(header, PROXY_PROTOCOL_FIXED + addresses);
}
