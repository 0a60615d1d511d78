#include "base/config.h"

#include "base/config_value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_LIMIT (64u * 1024u)

static enum moon_err read_file(const char *varz, const char *pathz,
                               struct moon_buf *out, char *error,
                               size_t error_size)
{
    FILE *file = fopen(pathz, "re");
    size_t len = 0;
    if (file != NULL) {
        char *to = moon_buf_reserve(out, FILE_LIMIT + 1);
        if (to != NULL)
            len = fread(to, 1, FILE_LIMIT + 1, file);
    }
    int sys = file == NULL || ferror(file) != 0 ? errno : 0;
    if (file != NULL)
        (void)fclose(file);
    if (sys != 0 || out->failed || len > FILE_LIMIT) {
        (void)snprintf(error, error_size, "%s_FILE: cannot read %s: %s", varz,
                       pathz, sys != 0 ? strerror(sys) : "too large");
        return MOON_EINVAL;
    }
    out->len += len;
    while (out->len > 0 &&
           (out->ptr[out->len - 1] == '\n' || out->ptr[out->len - 1] == '\r'))
        out->len--;
    return MOON_OK;
}

enum moon_err moon_config_env(const char *namez, struct moon_buf *out,
                              char *error, size_t error_size)
{
    char file_varz[256];
    int len = snprintf(file_varz, sizeof(file_varz), "%s_FILE", namez);
    const char *valuez = getenv(namez);
    const char *pathz = len < (int)sizeof(file_varz) ? getenv(file_varz) : NULL;
    if (pathz != NULL && pathz[0] == '\0')
        pathz = NULL;
    if (valuez != NULL && pathz != NULL && valuez[0] != '\0') {
        (void)snprintf(error, error_size,
                       "both %s and %s_FILE are set: unset one", namez, namez);
        return MOON_EINVAL;
    }
    if (pathz != NULL)
        return read_file(namez, pathz, out, error, error_size);
    if (valuez == NULL)
        return MOON_ENOT_FOUND;
    moon_buf_addz(out, valuez);
    return MOON_OK;
}

static void print_name(const char *keyz, char *to, size_t size)
{
    size_t at = (size_t)snprintf(to, size, "MOONSHINE_");
    for (; *keyz != '\0' && at + 1 < size; keyz++) {
        char ch = *keyz;
        if (ch >= 'a' && ch <= 'z')
            ch = (char)(ch - 'a' + 'A');
        to[at++] = ch == '.' ? '_' : ch;
    }
    to[at] = '\0';
}

enum moon_err moon_config_apply_env(struct moon_config *config, char *error,
                                    size_t error_size)
{
    enum moon_err err = MOON_OK;
    struct moon_buf value = {0};
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS && err == MOON_OK; i++) {
        const struct moon_config_info *info = &moon_config_infos[i];
        char namez[80];
        /* MOONSHINE_APP is the path of the application. */
        if (info->kind == MOON_CONFIG_KIND_JSON)
            continue;
        print_name(info->keyz, namez, sizeof(namez));
        value.len = 0;
        err = moon_config_env(namez, &value, error, error_size);
        if (err == MOON_ENOT_FOUND)
            err = MOON_OK;
        else if (err == MOON_OK && value.len > 0)
            err = moon_config_set(config, moon_strz(info->keyz),
                                  moon_buf_str(&value), MOON_CONFIG_ENV, namez,
                                  error, error_size);
    }
    moon_buf_deinit(&value);
    return err;
}
