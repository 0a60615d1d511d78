#include "node/layers.h"

#include "base/address.h"
#include "base/log.h"
#include "vm/config_eval.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ERROR_MAX = 1024 };

/* Without empty and "." segments, so that one place has one name; links stay,
 * for they are looked at anew with each reload. */
static char *absolute(const char *pathz)
{
    struct moon_buf buf = {0};
    if (pathz[0] != '/') {
        char *cwd = getcwd(NULL, 0);
        if (cwd == NULL)
            return NULL;
        if (strcmp(cwd, "/") != 0)
            moon_buf_addz(&buf, cwd);
        free(cwd);
    }
    struct moon_str rest = moon_strz(pathz);
    while (rest.len > 0) {
        struct moon_str segment = moon_str_cut(rest, '/', &rest);
        if (segment.len > 0 && !moon_str_eq(segment, MOON_STR(".")))
            moon_buf_printf(&buf, "/%.*s", MOON_STR_ARG(segment));
    }
    if (buf.len == 0)
        moon_buf_add_char(&buf, '/');
    moon_buf_add_char(&buf, '\0');
    if (buf.failed) {
        moon_buf_deinit(&buf);
        return NULL;
    }
    return buf.ptr;
}

/* "dir/file.lua" is cut in two; a directory means its app.lua. */
static enum moon_err split_app(struct moon_app_paths *paths, char *pathz,
                               struct moon_buf *error)
{
    struct stat st;
    if (stat(pathz, &st) < 0) {
        moon_buf_printf(error, "no application there: %s: %s", pathz,
                        strerror(errno));
        free(pathz);
        return MOON_ENOT_FOUND;
    }
    if (S_ISDIR(st.st_mode)) {
        paths->dirz = pathz;
        paths->filez = strdup("app.lua");
        return paths->filez == NULL ? MOON_ENOMEM : MOON_OK;
    }
    char *slash = strrchr(pathz, '/');
    paths->filez = strdup(slash + 1);
    slash[slash == pathz ? 1 : 0] = '\0';
    paths->dirz = pathz;
    if (paths->filez == NULL)
        return MOON_ENOMEM;
    size_t len = strlen(paths->filez);
    if (len > 4 && strcmp(paths->filez + len - 4, ".lua") == 0)
        return MOON_OK;
    moon_buf_printf(error,
                    "%s: an application is a directory with an app.lua, "
                    "or a .lua file",
                    paths->filez);
    return MOON_EINVAL;
}

enum moon_err moon_app_paths_init(struct moon_app_paths *paths,
                                  const struct moon_node_options *options,
                                  struct moon_buf *error)
{
    *paths = (struct moon_app_paths){0};
    char *appz = absolute(options->appz);
    if (appz == NULL)
        return MOON_ENOMEM;
    enum moon_err err = split_app(paths, appz, error);
    if (err == MOON_OK) {
        char *textz;
        if (asprintf(&textz, "%s/%s", paths->dirz, paths->filez) < 0)
            err = MOON_ENOMEM;
        else
            paths->appz = textz;
    }
    if (err == MOON_OK && options->configz != NULL) {
        paths->configz = absolute(options->configz);
        if (paths->configz == NULL)
            err = MOON_ENOMEM;
    }
    if (err != MOON_OK)
        moon_app_paths_deinit(paths);
    return err;
}

void moon_app_paths_deinit(struct moon_app_paths *paths)
{
    free(paths->dirz);
    free(paths->filez);
    free(paths->appz);
    free(paths->configz);
    *paths = (struct moon_app_paths){0};
}

static enum moon_err apply_options(struct moon_config *config,
                                   const struct moon_node_options *options,
                                   char *text)
{
    enum moon_err err = MOON_OK;
    for (size_t i = 0; err == MOON_OK && i < options->setting_count; i++) {
        const struct moon_node_setting *s = &options->settings[i];
        err = moon_config_set(config, moon_strz(s->keyz), moon_strz(s->valuez),
                              MOON_CONFIG_OPTION, s->optionz, text, ERROR_MAX);
    }
    return err;
}

static bool is_loopback(const struct moon_address *address)
{
    const void *sa = &address->sa;
    const struct sockaddr_in *in = sa;
    const struct sockaddr_in6 *in6 = sa;
    if (address->sa.ss_family == AF_INET)
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    if (address->sa.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    return true; /* unix */
}

/* What --dev shows of the code is for this machine. */
static enum moon_err check_dev(const struct moon_config *config,
                               const struct moon_node_options *options,
                               char *text)
{
    if (!options->dev || options->dev_public)
        return MOON_OK;
    for (uint32_t i = 0; i < config->listen.count; i++) {
        struct moon_address address;
        enum moon_err err = moon_address_parse(
            moon_strz(config->listen.items[i]), &address, text, ERROR_MAX);
        if (err != MOON_OK)
            return err;
        if (is_loopback(&address))
            continue;
        (void)snprintf(text, ERROR_MAX,
                       "--dev shows source code to whoever asks, so it does "
                       "not listen on %s; give a loopback address, or "
                       "--dev-public too",
                       address.textz);
        return MOON_EINVAL;
    }
    return MOON_OK;
}

/* Relative paths of config.lua are relative to the application. */
static enum moon_err resolve_paths(struct moon_config *config,
                                   const struct moon_node_options *options,
                                   struct moon_buf *error)
{
    struct moon_app_paths paths;
    enum moon_err err = moon_app_paths_init(&paths, options, error);
    if (err == MOON_OK)
        err = moon_config_resolve_paths(config, paths.dirz);
    moon_app_paths_deinit(&paths);
    return err;
}

enum moon_err moon_layers_build(const struct moon_node_options *options,
                                const struct moon_archive *archive,
                                struct moon_config **out,
                                struct moon_buf *error)
{
    char text[ERROR_MAX] = "";
    struct moon_config *config = moon_config_create();
    if (config == NULL)
        return MOON_ENOMEM;
    struct moon_str source;
    enum moon_err err = apply_options(config, options, text);
    if (err == MOON_OK)
        err = moon_config_apply_env(config, text, sizeof(text));
    if (err == MOON_OK && archive != NULL &&
        moon_archive_find(archive, MOON_STR("config.lua"), &source))
        err =
            moon_config_eval(config, source, "config.lua", text, sizeof(text));
    if (err == MOON_OK)
        err = moon_config_finish(config, text, sizeof(text));
    if (err == MOON_OK)
        err = check_dev(config, options, text);
    if (err == MOON_OK)
        err = resolve_paths(config, options, error);
    if (err != MOON_OK) {
        if (error->len == 0)
            moon_buf_addz(error, text[0] != '\0' ? text : moon_err_text(err));
        moon_config_destroy(config);
        return err;
    }
    *out = config;
    return MOON_OK;
}

enum moon_err moon_layers_apply_log(const struct moon_config *config,
                                    const char *dirz, bool dev,
                                    struct moon_buf *error)
{
    enum moon_log_level level = (enum moon_log_level)config->log_level;
    /* --dev means debug unless a level was asked for. */
    if (dev && config->levels[MOON_CONFIG_KEY_log_level] == MOON_CONFIG_DEFAULT)
        level = MOON_LOG_DEBUG;
    struct moon_buf path = {0};
    const char *filez = config->log_filez;
    if (filez[0] == '\0')
        filez = "stderr";
    if (filez[0] != '/' && strcmp(filez, "stderr") != 0) {
        moon_buf_printf(&path, "%s/%s", dirz, filez);
        moon_buf_add_char(&path, '\0');
        filez = path.failed ? "stderr" : path.ptr;
    }
    enum moon_err err =
        moon_log_setup(level, (enum moon_log_format)config->log_format, filez);
    if (err != MOON_OK && error != NULL)
        moon_buf_printf(error, "log.file: cannot write to %s: %s", filez,
                        moon_err_text(err));
    else if (err != MOON_OK)
        moon_log(MOON_LOG_ERROR, "cannot log to %s: %s", filez,
                 moon_err_text(err));
    moon_buf_deinit(&path);
    return err;
}

static enum moon_err check_dir(const char *keyz, const char *dirz,
                               struct moon_buf *to)
{
    struct stat st;
    int at_fault = 0;
    if (stat(dirz, &st) < 0 || access(dirz, W_OK | X_OK) < 0)
        at_fault = errno;
    else if (!S_ISDIR(st.st_mode))
        at_fault = ENOTDIR;
    if (at_fault == 0)
        return MOON_OK;
    moon_buf_printf(to, "%s: cannot make files in %s: %s", keyz, dirz,
                    strerror(at_fault));
    return MOON_EINVAL;
}

enum moon_err moon_layers_check_dirs(const struct moon_config *config,
                                     struct moon_buf *error,
                                     struct moon_buf *warnings)
{
    if (config->levels[MOON_CONFIG_KEY_temp_dirz] != MOON_CONFIG_DEFAULT) {
        enum moon_err err = check_dir("temp_dir", config->temp_dirz, error);
        if (err != MOON_OK)
            return err;
    } else if (check_dir("temp_dir", config->temp_dirz, warnings) != MOON_OK) {
        moon_buf_addz(warnings, " (larger request bodies need it)\n");
    }
    return config->levels[MOON_CONFIG_KEY_upload_dirz] == MOON_CONFIG_DEFAULT
               ? MOON_OK
               : check_dir("upload.dir", config->upload_dirz, error);
}
