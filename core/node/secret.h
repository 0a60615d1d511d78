/* The secret of a node whose configuration has none: STATE_DIR/secret, one line
 * of hexadecimal digits that only its owner can read.
 *
 * Whoever comes first makes it, of nodes that start together, too: it is
 * complete before it gets its name, and is never replaced. Remove the file and
 * reload for another one. Blocking, but short; runs in the probe while that is
 * still root, for the file is not the user's. */
#ifndef MOON_NODE_SECRET_H
#define MOON_NODE_SECRET_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"

enum { MOON_SECRET_SIZE = 513 }; /* with its NUL; 65 are made, more are read */

/* The one that is kept there, made if there is none. On failure `why` gets a
 * sentence; on success it may get a warning. */
MOON_MUST_CHECK enum moon_err moon_secret_get(const char *state_dirz,
                                              char out[MOON_SECRET_SIZE],
                                              struct moon_buf *why);
/* One that is kept nowhere. */
void moon_secret_make(char out[MOON_SECRET_SIZE]);

#endif
