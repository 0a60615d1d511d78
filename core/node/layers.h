/* From a command line to a configuration: where the application is, and the
 * layers option, environment, config.lua, default put together.
 *
 * The paths are made absolute once, at start; links in them are followed anew
 * by each snapshot. Layers are built in the probe (which has read config.lua)
 * and, without a config.lua, in the master. Nothing here runs long. */
#ifndef MOON_NODE_LAYERS_H
#define MOON_NODE_LAYERS_H

#include "base/archive.h"
#include "base/config.h"
#include "node/node.h"

struct moon_app_paths {
    char *dirz;    /* absolute, links not followed; owned */
    char *filez;   /* "app.lua"; owned */
    char *appz;    /* the two together; owned */
    char *configz; /* --config, absolute; NULL if not given; owned */
};

MOON_MUST_CHECK enum moon_err moon_app_paths_init(
    struct moon_app_paths *paths, const struct moon_node_options *options,
    struct moon_buf *error);
void moon_app_paths_deinit(struct moon_app_paths *paths);

/* `archive` may be NULL: then config.lua is left out. The text of config.lua
 * is run, so only a child gives an archive. */
MOON_MUST_CHECK enum moon_err moon_layers_build(
    const struct moon_node_options *options, const struct moon_archive *archive,
    struct moon_config **out, struct moon_buf *error);

/* log.* of a configuration takes effect in this process; a relative file is
 * one of `dirz`. One that cannot be opened is left for standard error: the
 * sentence about it goes into `error`, or into the log if that is NULL. */
enum moon_err moon_layers_apply_log(const struct moon_config *config,
                                    const char *dirz, bool dev,
                                    struct moon_buf *error);

/* Whether this process can make the temporary files that it may need. What
 * nobody has chosen (TMPDIR, /tmp) is only warned about. */
MOON_MUST_CHECK enum moon_err moon_layers_check_dirs(
    const struct moon_config *config, struct moon_buf *error,
    struct moon_buf *warnings);

#endif
