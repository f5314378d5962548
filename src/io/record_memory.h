/* OpenSSL's memory. A connection holds no record buffers while it is idle
 * (SSL_MODE_RELEASE_BUFFERS), so each request takes and gives back two of 16 KB and a bit, a size
 * for which malloc searches and splits and merges. Each thread keeps the last ones for the next
 * request. */
#pragma once

/* Before anything else of OpenSSL is called; later calls have no effect. */
void record_memory_use(void);
