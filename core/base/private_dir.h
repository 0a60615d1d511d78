/* Directories that nobody else may put things into: what is executed, obeyed
 * or told secrets is found there. */
#ifndef MOON_BASE_PRIVATE_DIR_H
#define MOON_BASE_PRIVATE_DIR_H

#include "base/buf.h"
#include "base/errcode.h"

/* False, and says in `why`, if the directory (as far as it is there), or one on
 * the way to it, or a link that stands for one, belongs to another user who is
 * not root; or if everybody may write to one that is not as /tmp, where each
 * may remove only what is their own. Root trusts what others own, since
 * somebody has named it. Who may write to a group's directories is for their
 * owner to know. `pathz` is absolute. */
bool moon_private_dir_check(const char *pathz, struct moon_buf *why);

/* Makes it and what is missing on the way, for this user alone, and checks it.
 * False, and says in `why` (its name comes first). */
MOON_MUST_CHECK bool moon_private_dir_make(const char *pathz,
                                           struct moon_buf *why);

#endif
