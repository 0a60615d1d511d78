/* A node: what `moonshine run` and `moonshine check` do once the command line
 * is read.
 *
 * Both block until they are done and return the exit code of the process: 0
 * fine, 1 failed. They say what went wrong on standard error themselves. */
#ifndef MOON_NODE_NODE_H
#define MOON_NODE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A configuration key given on the command line. */
struct moon_node_setting {
    const char *keyz, *valuez;
    const char *optionz; /* "--workers", "--set": for messages */
};

/* All borrowed for the call. */
struct moon_node_options {
    const char *appz;    /* APP as given: a directory or a .lua file */
    const char *configz; /* --config FILE; NULL: APP/config.lua if present */
    const struct moon_node_setting *settings;
    size_t setting_count;
    bool dev, dev_public;
    bool no_fallback;
};

/* Becomes the master; returns after the drain. `argv` is what the process was
 * started with, for executing a new binary; borrowed for good. */
int moon_node_run(const struct moon_node_options *options, char **argv);

/* Loads the app once, as a reload would, and says "ok: N routes" or the
 * error. */
int moon_node_check(const struct moon_node_options *options);
/* The same, and prints the routes. */
int moon_node_routes(const struct moon_node_options *options);
/* The same, and explains which route takes a request: 1 if none does. */
int moon_node_route(const struct moon_node_options *options,
                    const char *methodz, const char *pathz);

/* All borrowed for the call. */
struct moon_test_options {
    char *const *filesz; /* spec files and directories; none: APP/spec */
    size_t file_count;
    const char *filterz; /* of full names; NULL: all tests */
    const char *junitz;  /* a file to write; NULL */
    uint64_t limit_ms;   /* for each test and each hook */
    uint32_t jobs;       /* files side by side; 0: as many as processors */
    bool coverage;
};

/* Runs the spec files of the app and prints what came of them; 0 if all tests
 * passed. */
int moon_node_test(const struct moon_node_options *node,
                   const struct moon_test_options *options);

#endif
