#include "fleet/cluster_internal.h"

#include "base/clock.h"
#include "fleet/ask.h"

#include <stdarg.h>
#include <stdio.h>

enum { SHOW_MS = 1000, ASK_MS = 300 };

/* ---- what the nodes count ---- */

static void look(struct moon_cluster_member *member)
{
    static const struct moon_ask ask = {"GET", "/-/metrics", "text/plain",
                                        ASK_MS};
    struct moon_buf body = {0}, error = {0};
    struct moon_sample now, between;
    int status = 0;
    if (moon_ask_node(&member->admin, &ask, &status, &body, &error) ==
            MOON_OK &&
        status == 200) {
        uint64_t now_ms = moon_clock_ms();
        double seconds = (double)(now_ms - member->sampled_ms) / 1000;
        moon_sample_read(&now, moon_buf_str(&body));
        moon_sample_since(&now, &member->sample, &between);
        member->requests_s = (double)between.requests / seconds;
        member->failed_s = (double)between.failures / seconds;
        member->slow_s = moon_sample_quantile(&between, 0.95);
        member->sample = now;
        member->sampled_ms = now_ms;
    }
    moon_buf_deinit(&body);
    moon_buf_deinit(&error);
}

/* ---- the screen ---- */

/* Back to the first line of the table, which is then written over. */
static void rewind_table(struct moon_cluster *cluster)
{
    if (cluster->lines > 0)
        (void)printf("\033[%uA\r\033[J", cluster->lines);
    cluster->lines = 0;
}

static const char *state_of(const struct moon_cluster_member *member)
{
    if (member->child.pid == 0)
        return "down";
    if (member->child.told)
        return "ending";
    return member->ready ? "ready" : "starting";
}

static void print_member(const struct moon_cluster_member *member)
{
    char slow[16] = "-";
    if (member->slow_s >= 0)
        (void)snprintf(slow, sizeof(slow), "%.1f", member->slow_s * 1000);
    (void)printf("%-12s %-9s %8d %5llu %8llu %7llu %9.0f %8.1f %8s %9u\n",
                 member->child.namez, state_of(member), (int)member->child.pid,
                 (unsigned long long)member->sample.generation,
                 (unsigned long long)member->sample.workers,
                 (unsigned long long)member->sample.connections,
                 member->requests_s, member->failed_s, slow, member->restarts);
}

static void print_table(struct moon_cluster *cluster)
{
    (void)printf("%-12s %-9s %8s %5s %8s %7s %9s %8s %8s %9s\n", "NODE",
                 "STATE", "PID", "GEN", "WORKERS", "CONNS", "REQ/S", "5XX/S",
                 "P95-MS", "RESTARTS");
    for (uint32_t i = 0; i < cluster->o->size; i++)
        print_member(&cluster->members[i]);
    cluster->lines = cluster->o->size + 1;
    (void)fflush(stdout);
}

void moon_cluster_say(struct moon_cluster *cluster, const char *fmt, ...)
{
    va_list args;
    bool drawn = cluster->lines > 0;
    rewind_table(cluster);
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
    (void)fflush(stdout);
    if (drawn)
        print_table(cluster);
}

void moon_cluster_show(struct moon_cluster *cluster)
{
    uint64_t now = moon_clock_ms();
    if (!cluster->terminal || now - cluster->shown_ms < SHOW_MS)
        return;
    cluster->shown_ms = now;
    for (uint32_t i = 0; i < cluster->o->size; i++)
        if (cluster->members[i].child.pid != 0)
            look(&cluster->members[i]);
    rewind_table(cluster);
    print_table(cluster);
}
