/* `moonshine test`: what is asked, the run, and the verdict. */
#include "node/node.h"

#include "node/process.h"
#include "node/test_files.h"
#include "node/test_junit.h"
#include "node/test_run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

/* ---- what is asked ---- */

/* What the configuration of a test process has on top of all others: its log
 * comes to us, whatever file it says. */
static struct moon_node_setting *own_settings(
    const struct moon_node_options *node)
{
    struct moon_node_setting *settings =
        calloc(node->setting_count + 1, sizeof(*settings));
    if (settings == NULL)
        moon_test_no_memory();
    for (size_t i = 0; i < node->setting_count; i++)
        settings[i] = node->settings[i];
    settings[node->setting_count] =
        (struct moon_node_setting){"log.file", "stderr", "moonshine test"};
    return settings;
}

/* Configuration without config.lua, which only a child evaluates: how long
 * loading may take. */
static enum moon_err read_settings(struct moon_test_run *run,
                                   struct moon_buf *error)
{
    struct moon_config *config = NULL;
    enum moon_err err = moon_layers_build(run->node, NULL, &config, error);
    if (err != MOON_OK)
        return err;
    run->load_timeout_ms = config->load_timeout_ms;
    moon_config_destroy(config);
    return MOON_OK;
}

static enum moon_err find_specs(const struct moon_test_options *options,
                                const char *app_dirz,
                                struct moon_test_paths *specs,
                                struct moon_buf *error)
{
    enum moon_err err = MOON_OK;
    struct moon_buf dir = {0};
    moon_buf_printf(&dir, "%s/spec", app_dirz);
    moon_buf_add_char(&dir, '\0');
    if (dir.failed)
        err = MOON_ENOMEM;
    for (size_t i = 0; i < options->file_count && err == MOON_OK; i++)
        err = moon_test_paths_add(specs, app_dirz, options->filesz[i], error);
    if (options->file_count == 0 && err == MOON_OK &&
        access(dir.ptr, F_OK) == 0)
        err = moon_test_paths_add(specs, app_dirz, dir.ptr, error);
    if (err == MOON_OK && specs->count == 0) {
        moon_buf_printf(error, "no spec found: looked for *_spec.lua below %s",
                        options->file_count == 0 ? dir.ptr
                                                 : options->filesz[0]);
        err = MOON_ENOT_FOUND;
    }
    moon_buf_deinit(&dir);
    return err;
}

static enum moon_err open_junit(const struct moon_test_options *options,
                                FILE **out, struct moon_buf *error)
{
    if (options->junitz == NULL)
        return MOON_OK;
    *out = fopen(options->junitz, "we");
    if (*out != NULL)
        return MOON_OK;
    moon_buf_printf(error, "cannot write %s: %s", options->junitz,
                    strerror(errno));
    return MOON_ESYS;
}

/* ---- the verdict ---- */

static int write_junit(const struct moon_test_run *run, FILE *out,
                       double seconds)
{
    struct moon_buf text = {0};
    moon_test_junit(&text, run->files, run->file_count, seconds);
    bool good = !text.failed && fwrite(text.ptr, 1, text.len, out) == text.len;
    moon_buf_deinit(&text);
    if (fclose(out) == 0 && good)
        return 0;
    (void)fprintf(stderr, "moonshine test: cannot write %s\n",
                  run->options->junitz);
    return 1;
}

static int judge(const struct moon_test_run *run)
{
    struct moon_test_sums sums = {0};
    for (size_t i = 0; i < run->file_count; i++)
        moon_test_file_sum(&run->files[i], &sums);
    (void)fflush(stdout);
    if (run->not_run > 0)
        (void)fprintf(stderr, "moonshine test: %zu spec file%s did not run\n",
                      run->not_run, run->not_run == 1 ? "" : "s");
    if (sums.tests == 0 && run->options->filterz != NULL)
        (void)fprintf(stderr,
                      "moonshine test: no test has \"%s\" in its name\n",
                      run->options->filterz);
    else if (sums.tests == 0)
        (void)fprintf(stderr, "moonshine test: the spec files have no test\n");
    bool good = sums.tests > 0 && !run->interrupted && run->not_run == 0 &&
                sums.by_outcome[MOON_TEST_FAILED] == 0 &&
                sums.by_outcome[MOON_TEST_ERROR] == 0;
    return good ? 0 : 1;
}

static int run_all(struct moon_test_run *run, FILE *junit)
{
    uint64_t began = uv_hrtime();
    if (!moon_test_run(run)) {
        (void)fprintf(stderr, "moonshine test: cannot start\n");
        return 1;
    }
    double seconds = (double)(uv_hrtime() - began) / 1e9;
    moon_test_print_summary(&run->print, seconds);
    if (run->options->coverage)
        moon_test_coverage_print(&run->coverage, stdout);
    int exit_code = judge(run);
    if (junit != NULL && write_junit(run, junit, seconds) != 0)
        exit_code = 1;
    return exit_code;
}

/* ---- both ---- */

static void make_files(struct moon_test_run *run,
                       const struct moon_test_paths *specs)
{
    run->files = calloc(specs->count, sizeof(*run->files));
    if (run->files == NULL)
        moon_test_no_memory();
    run->file_count = specs->count;
    for (size_t i = 0; i < specs->count; i++)
        run->files[i].namez = specs->namez[i];
    moon_test_print_init(&run->print, stdout, run->files, run->file_count);
}

static void free_files(struct moon_test_run *run)
{
    for (size_t i = 0; i < run->file_count; i++)
        moon_test_file_deinit(&run->files[i]);
    free(run->files);
    moon_test_coverage_deinit(&run->coverage);
}

static int fail(struct moon_buf *error, enum moon_err err)
{
    if (error->len == 0)
        moon_buf_addz(error, moon_err_text(err));
    (void)fprintf(stderr, "moonshine test: %.*s\n",
                  MOON_STR_ARG(moon_buf_str(error)));
    return 1;
}

int moon_node_test(const struct moon_node_options *node,
                   const struct moon_test_options *options)
{
    moon_process_block_signals();
    struct moon_node_setting *settings = own_settings(node);
    struct moon_node_options own = *node;
    own.settings = settings;
    own.setting_count++;
    struct moon_app_paths paths;
    struct moon_test_paths specs = {0};
    struct moon_test_run run = {
        .node = &own, .options = options, .paths = &paths};
    struct moon_buf error = {0};
    FILE *junit = NULL;
    enum moon_err err = moon_app_paths_init(&paths, node, &error);
    if (err == MOON_OK)
        err = find_specs(options, paths.dirz, &specs, &error);
    if (err == MOON_OK)
        err = read_settings(&run, &error);
    if (err == MOON_OK)
        err = open_junit(options, &junit, &error);
    if (err == MOON_OK)
        make_files(&run, &specs);
    int exit_code = err == MOON_OK ? run_all(&run, junit) : fail(&error, err);
    free_files(&run);
    moon_buf_deinit(&error);
    moon_test_paths_deinit(&specs);
    moon_app_paths_deinit(&paths);
    free(settings);
    return exit_code;
}
