/* Where sessions of "lmdb:" are kept: a folder of the state directory that
 * belongs to the user of the workers, who does not own the rest of it. */
#ifndef MOON_NODE_SESSION_DIR_H
#define MOON_NODE_SESSION_DIR_H

#include "base/buf.h"
#include "base/config.h"

/* Its path, which may be longer than the system allows. */
void moon_session_dir_path(const struct moon_config *fixed, char *to,
                           size_t size);
/* Makes it, while still root. What fails is told in `warnings`: requests that
 * need a session will fail, others will not. */
void moon_session_dir_make(const struct moon_config *fixed,
                           struct moon_buf *warnings);

#endif
