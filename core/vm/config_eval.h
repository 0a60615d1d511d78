/* Evaluates config.lua into a configuration.
 *
 * Runs in the probe, a child of the master, so it may block: a fresh
 * lua_State with neither io, os, require, debug nor ffi, one second of time,
 * 64 MiB of memory. The file either assigns globals (`workers = 4`) or returns
 * a table; `env(name)` reads the environment. Errors name file and line. */
#ifndef MOON_VM_CONFIG_EVAL_H
#define MOON_VM_CONFIG_EVAL_H

#include "base/config.h"

/* `namez` is the file's name for messages ("config.lua"). Values are set at
 * MOON_CONFIG_FILE. MOON_ELUA or what moon_config_set returned; `error` then
 * says why. */
MOON_MUST_CHECK enum moon_err moon_config_eval(struct moon_config *config,
                                               struct moon_str text,
                                               const char *namez, char *error,
                                               size_t error_size);

#endif
