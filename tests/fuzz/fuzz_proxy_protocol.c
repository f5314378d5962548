/* PROXY protocol headers as the data port reads them: first the fixed part, then exactly as many
 * bytes as it says. Whatever is accepted has an address that survives being written and read. */
#include "rules/wire/proxy_protocol.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool condition) {
    if (!condition)
        abort();
}

static void check_source(const struct address *source) {
    char text[ADDRESS_TEXT];
    struct address again;
    address_text(source, text);
    must(address_parse(span_of(text), &again) &&
         memcmp(source->bytes, again.bytes, ADDRESS_BYTES) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < PROXY_PROTOCOL_FIXED)
        return 0;
    size_t length = proxy_protocol_length(bytes);
    must(length == 0 || (length >= PROXY_PROTOCOL_FIXED && length <= PROXY_PROTOCOL_MAX));
    if (length == 0 || length > size)
        return 0;
    char *header = malloc(length); /* so that ASan sees its end */
    must(header != NULL);
    memcpy(header, bytes, length);
    struct proxy_protocol p;
    if (proxy_protocol_parse((struct span){header, length}, &p) && !p.local)
        check_source(&p.source);
    free(header);
    return 0;
}
