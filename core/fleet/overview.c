#include "fleet/overview.h"

#include "fleet/ask.h"
#include "fleet/json_pick.h"
#include "fleet/sample.h"

#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 5000, TEXT = 64 };

struct row {
    char error[300]; /* it does not answer */
    char state[TEXT], code[TEXT], version[TEXT], pid[TEXT], generation[TEXT];
    bool differs; /* its disk */
    struct moon_sample sample;
};

static enum moon_err get(const struct moon_target *target, const char *pathz,
                         const char *acceptz, struct moon_buf *body, char *why,
                         size_t why_size)
{
    const struct moon_ask ask = {"GET", pathz, acceptz, TIMEOUT_MS};
    struct moon_buf error = {0};
    int status = 0;
    enum moon_err err = moon_ask_node(target, &ask, &status, body, &error);
    if (err != MOON_OK)
        (void)snprintf(why, why_size, "%.*s",
                       MOON_STR_ARG(moon_buf_str(&error)));
    else if (status != 200)
        (void)snprintf(why, why_size, "it answers %d%s", status,
                       status == 401 ? "; is MOONSHINE_ADMIN_TOKEN its token?"
                                     : "");
    moon_buf_deinit(&error);
    return err == MOON_OK && status != 200 ? MOON_EDENIED : err;
}

static void pick(struct moon_str json, const char *keyz, char to[TEXT])
{
    struct moon_str value = MOON_STR("-");
    (void)moon_json_pick(json, keyz, &value);
    (void)snprintf(to, TEXT, "%.*s", MOON_STR_ARG(value));
}

static void fill(struct row *row, const struct moon_target *target)
{
    struct moon_buf status = {0}, metrics = {0};
    struct moon_str value, json;
    *row = (struct row){0};
    if (get(target, "/-/status", "application/json", &status, row->error,
            sizeof(row->error)) == MOON_OK &&
        get(target, "/-/metrics", "text/plain", &metrics, row->error,
            sizeof(row->error)) == MOON_OK) {
        json = moon_buf_str(&status);
        pick(json, "state", row->state);
        pick(json, "code", row->code);
        pick(json, "version", row->version);
        pick(json, "pid", row->pid);
        pick(json, "generation", row->generation);
        row->differs = moon_json_pick(json, "disk_differs", &value) &&
                       moon_str_eq(value, MOON_STR("true"));
        moon_sample_read(&row->sample, moon_buf_str(&metrics));
    }
    moon_buf_deinit(&status);
    moon_buf_deinit(&metrics);
}

static void print_row(const struct moon_target *target, const struct row *row,
                      int width, FILE *out)
{
    if (row->error[0] != '\0') {
        (void)fprintf(out, "%-*s  does not answer: %s\n", width, target->namez,
                      row->error);
        return;
    }
    double slow = moon_sample_quantile(&row->sample, 0.95);
    (void)fprintf(out,
                  "%-*s  %-9s %8s  %5s  %-12.12s  %7llu  %6llu  %10llu  "
                  "%7.2f  ",
                  width, target->namez, row->state, row->pid, row->generation,
                  row->code, (unsigned long long)row->sample.workers,
                  (unsigned long long)row->sample.connections,
                  (unsigned long long)row->sample.requests,
                  moon_sample_failed(&row->sample) * 100);
    if (slow < 0)
        (void)fprintf(out, "%6s\n", "-");
    else
        (void)fprintf(out, "%6.1f\n", slow * 1000);
}

/* Names of the nodes for which `what` is the same, with what it is. */
static void print_groups(const struct moon_targets *targets,
                         const struct row *rows, const char *whatz,
                         size_t offset, FILE *out)
{
    bool told[MOON_TARGETS_MAX] = {0};
    uint32_t kinds = 0;
    for (int print = 0; print < 2; print++) {
        if (print && kinds < 2)
            return;
        if (print)
            (void)fprintf(out, "\nnodes differ in %s:\n", whatz);
        memset(told, 0, sizeof(told));
        for (uint32_t i = 0; i < targets->count; i++) {
            const char *kindz = (const char *)&rows[i] + offset;
            if (rows[i].error[0] != '\0' || told[i])
                continue;
            kinds += !print;
            if (print)
                (void)fprintf(out, "  %s:", kindz);
            for (uint32_t k = i; k < targets->count; k++) {
                if (rows[k].error[0] != '\0' ||
                    strcmp((const char *)&rows[k] + offset, kindz) != 0)
                    continue;
                told[k] = true;
                if (print)
                    (void)fprintf(out, " %s", targets->items[k].namez);
            }
            if (print)
                (void)fputc('\n', out);
        }
    }
}

bool moon_overview_print(const struct moon_targets *targets, FILE *out)
{
    struct row *rows = calloc(targets->count + 1, sizeof(*rows));
    bool all = true;
    int width = 4;
    if (rows == NULL)
        return false;
    for (uint32_t i = 0; i < targets->count; i++) {
        int len = (int)strlen(targets->items[i].namez);
        width = len > width ? len : width;
        fill(&rows[i], &targets->items[i]);
        all = all && rows[i].error[0] == '\0';
    }
    (void)fprintf(out, "%-*s  %-9s %8s  %5s  %-12s  %7s  %6s  %10s  %7s  %6s\n",
                  width, "NODE", "STATE", "PID", "GEN", "CODE", "WORKERS",
                  "CONNS", "REQUESTS", "FAILED%", "P95-MS");
    for (uint32_t i = 0; i < targets->count; i++)
        print_row(&targets->items[i], &rows[i], width, out);
    print_groups(targets, rows, "the code they serve",
                 offsetof(struct row, code), out);
    print_groups(targets, rows, "their version", offsetof(struct row, version),
                 out);
    for (uint32_t i = 0; i < targets->count; i++)
        if (rows[i].differs)
            (void)fprintf(out, "\n%s: what is on disk is not what it serves\n",
                          targets->items[i].namez);
    free(rows);
    return all;
}

bool moon_overview_print_json(const struct moon_targets *targets, FILE *out)
{
    bool all = true;
    (void)fputs("{\"nodes\":[", out);
    for (uint32_t i = 0; i < targets->count; i++) {
        struct moon_buf body = {0}, text = {0};
        char why[300] = "";
        bool good = get(&targets->items[i], "/-/status", "application/json",
                        &body, why, sizeof(why)) == MOON_OK;
        if (!good) {
            moon_buf_addz(&text, "{\"node\":");
            moon_buf_add_json(&text, moon_strz(targets->items[i].namez));
            moon_buf_addz(&text, ",\"error\":");
            moon_buf_add_json(&text, moon_strz(why));
            moon_buf_add_char(&text, '}');
        }
        (void)fprintf(out, "%s%.*s", i > 0 ? "," : "",
                      MOON_STR_ARG(moon_buf_str(good ? &body : &text)));
        all = all && good;
        moon_buf_deinit(&body);
        moon_buf_deinit(&text);
    }
    (void)fputs("]}\n", out);
    return all;
}
