/* Which spec files a run of `moonshine test` has. Blocking. */
#ifndef MOON_NODE_TEST_FILES_H
#define MOON_NODE_TEST_FILES_H

#include "base/buf.h"
#include "base/errcode.h"

struct moon_test_paths {
    /* Sorted by name; owned. Relative to the application's directory if they
     * lie in it, else absolute: that is what the archive or the disk knows
     * them by, and what messages call them. */
    char **namez;
    size_t count, cap;
};

/* Adds all *_spec.lua below `wordz` (a directory), or `wordz` itself. It is
 * relative to the current directory or, if there is none there, to the
 * application's (`app_dirz`, absolute). Names that begin with a dot are passed
 * over. On failure `error` is a sentence for the user. */
MOON_MUST_CHECK enum moon_err moon_test_paths_add(struct moon_test_paths *paths,
                                                  const char *app_dirz,
                                                  const char *wordz,
                                                  struct moon_buf *error);
void moon_test_paths_deinit(struct moon_test_paths *paths);

#endif
