/* Talking to a running node: where its admin endpoint is, and one request to
 * it. Blocking; used by the commands that control nodes. */
#ifndef MOON_CLI_ADMIN_H
#define MOON_CLI_ADMIN_H

#include "cli/command.h"
#include "fleet/target.h"

/* The options all these commands share; a command's own ids start behind. */
enum {
    MOON_ADMIN_NAME = 1,
    MOON_ADMIN_ADMIN,
    MOON_ADMIN_RUN_DIR,
    MOON_ADMIN_NODES,
    MOON_ADMIN_SETTLE,
    MOON_ADMIN_JSON,
    MOON_ADMIN_REQUESTS,
};

#define MOON_ADMIN_OPTIONS                                                    \
    {MOON_ADMIN_NAME, "--name", "NODE",                                       \
     "the node of that name (default: the one that runs, if it is the only "  \
     "one)"},                                                                 \
        {MOON_ADMIN_ADMIN, "--admin", "ADDR",                                 \
         "the node with that admin address; over TCP, MOONSHINE_ADMIN_TOKEN " \
         "or MOONSHINE_ADMIN_TOKEN_FILE holds its token"},                    \
        {MOON_ADMIN_NODES, "--nodes", "NAME,...",                             \
         "several nodes, by name or admin address, one after the other; "     \
         "stops at the first failure; or all: those on the list that nodes "  \
         "keep in Redis at MOONSHINE_CLUSTER_URL (or MOONSHINE_REDIS_URL)"},  \
        {MOON_ADMIN_RUN_DIR, "--run-dir", "DIR",                              \
         "where nodes keep their admin sockets (default: as for run)"},       \
    {                                                                         \
        MOON_ADMIN_JSON, "--json", NULL, "print the answer as JSON"           \
    }

struct moon_admin_args {
    const char *namez, *adminz, *run_dirz, *nodesz;
    uint64_t settle_ms;
    bool json, requests;
};

/* -1: go on; else the exit code to leave with. */
int moon_admin_args_parse(struct moon_admin_args *to,
                          const struct moon_command *command, int argc,
                          char **argv);

/* The nodes that the arguments mean: -1, or the exit code to leave with, and
 * what is wrong was said. The array is static. */
int moon_admin_resolve(const struct moon_command *command,
                       const struct moon_admin_args *args,
                       const struct moon_targets **targets);

/* Does `act` for each of them, until one fails. Says which node it is about if
 * there are several. Returns the exit code. */
typedef int moon_admin_act(const struct moon_command *command,
                           const struct moon_admin_args *args,
                           const struct moon_target *target);
int moon_admin_for_each(const struct moon_command *command,
                        const struct moon_admin_args *args,
                        moon_admin_act *act);

/* The names of the nodes of the run directory that answer, one a line. */
int moon_admin_print_names(const struct moon_command *command,
                           const struct moon_admin_args *args);

/* One request. Prints a good answer to standard output, a bad one to standard
 * error; returns the exit code. */
int moon_admin_request(const struct moon_command *command,
                       const struct moon_admin_args *args,
                       const struct moon_target *target, const char *methodz,
                       const char *pathz);

#endif
