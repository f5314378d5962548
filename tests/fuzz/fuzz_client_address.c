/* X-Forwarded-For: the first line lists the trusted networks, the rest is a request's fields. The
 * client is the peer, or was named in a list; and it is untrusted unless everybody before it is
 * trusted, too. */
#include "rules/wire/client_address.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void must(bool condition) {
    if (!condition)
        abort();
}

/* Do the fields speak of forwarding at all? */
static bool any_forwarded(const struct http_fields *fields) {
    return http_field(fields, SPAN("x-forwarded-for")).ptr != NULL;
}

static void check(const struct networks *trusted, const struct http_fields *fields) {
    struct address peer;
    char text[ADDRESS_TEXT];
    must(address_parse(SPAN("10.0.0.1"), &peer));
    struct address client = client_address(&peer, trusted, fields);
    if (!networks_contain(trusted, &peer) || !any_forwarded(fields))
        must(memcmp(client.bytes, peer.bytes, ADDRESS_BYTES) == 0);
    address_text(&client, text);
    must(text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static struct http_request request;
    static struct networks trusted;
    static const char start[] = "GET / HTTP/1.1\r\nHost: h\r\n";
    const uint8_t *line = size > 0 ? memchr(bytes, '\n', size) : NULL;
    if (!line ||
        !networks_parse((struct span){(const char *)bytes, (size_t)(line - bytes)}, &trusted))
        return 0;
    size_t rest = size - (size_t)(line + 1 - bytes), at = sizeof start - 1;
    char *head = malloc(at + rest); /* so that ASan sees its end */
    must(head != NULL);
    memcpy(head, start, at);
    memcpy(head + at, line + 1, rest);
    if (http_request_parse((struct span){head, at + rest}, &request) == ERR_OK)
        check(&trusted, &request.fields);
    free(head);
    return 0;
}
