/* All servers that a store's client may connect to, played by the bytes of an
 * input; the network is not touched: connect(2) and name lookups are replaced
 * by the linker (see CMakeLists.txt).
 *
 * Each command that comes is answered with the next chunk of the input, which
 * end in NUL, whoever asks; if it is honest, those of a handshake are answered
 * as a server would. When there are no chunks left it falls silent. One at a
 * time. */
#ifndef MOON_TESTS_FUZZ_FAKE_SERVER_H
#define MOON_TESTS_FUZZ_FAKE_SERVER_H

#include "fuzz.h"

/* `bytes` must outlive it. */
void fake_server_start(struct fuzz_bytes *bytes, bool honest);
/* Takes what was sent and answers it. */
void fake_server_turn(void);
/* Closes all connections; later ones are refused. */
void fake_server_stop(void);

#endif
