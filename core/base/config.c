#include "base/config.h"

#include "base/config_value.h"
#include "base/nearest.h"

#include <stdio.h>
#include <stdlib.h>

struct moon_config *moon_config_create(void)
{
    struct moon_buf why = {0};
    struct moon_config *config = calloc(1, sizeof(*config));
    if (config == NULL)
        return NULL;
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++) {
        const struct moon_config_info *info = &moon_config_infos[i];
        if (moon_config_value_parse(info, moon_config_field(config, info),
                                    moon_strz(info->defaultz),
                                    &why) != MOON_OK) {
            moon_buf_deinit(&why);
            moon_config_destroy(config);
            return NULL;
        }
    }
    return config;
}

void moon_config_destroy(struct moon_config *config)
{
    if (config == NULL)
        return;
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++) {
        const struct moon_config_info *info = &moon_config_infos[i];
        moon_config_value_clear(info, moon_config_field(config, info));
        free(config->origins[i]);
    }
    free(config);
}

const char *moon_config_key(uint32_t index)
{
    return index < MOON_CONFIG_KEYS ? moon_config_infos[index].keyz : NULL;
}

const char *moon_config_default(uint32_t index)
{
    return moon_config_infos[index].defaultz;
}

/* ---- setting ---- */

/* The key itself, or "shared.NAME" as an item of `shared`. */
static uint32_t find_key(struct moon_str key, struct moon_str *item)
{
    *item = MOON_STR_NONE;
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++) {
        struct moon_str known = moon_strz(moon_config_infos[i].keyz);
        if (moon_str_eq(key, known))
            return i;
        if (moon_config_infos[i].kind == MOON_CONFIG_KIND_DICTS &&
            key.len > known.len + 1 && moon_str_starts(key, known) &&
            key.ptr[known.len] == '.') {
            *item = moon_str(key.ptr + known.len + 1, key.len - known.len - 1);
            return i;
        }
    }
    return MOON_CONFIG_KEYS;
}

/* Somebody who sets `session = "..."` needs to hear of session.url. */
static bool list_members(struct moon_str key, struct moon_buf *why)
{
    bool found = false;
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++) {
        struct moon_str known = moon_strz(moon_config_infos[i].keyz);
        if (moon_str_starts(known, key) && known.ptr[key.len] == '.') {
            moon_buf_addz(why, found ? ", " : "is a table with ");
            moon_buf_add_str(why, known);
            found = true;
        }
    }
    return found;
}

static void explain_unknown(struct moon_str key, struct moon_buf *why)
{
    struct moon_nearest nearest;
    if (list_members(key, why))
        return;
    moon_nearest_init(&nearest, key);
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++)
        moon_nearest_offer(&nearest, moon_strz(moon_config_infos[i].keyz));
    moon_buf_addz(why, "is not a known key");
    if (moon_nearest_found(&nearest))
        moon_buf_printf(why, "; did you mean \"%.*s\"?",
                        MOON_STR_ARG(nearest.best));
}

static void print_given(const struct moon_config_info *info,
                        struct moon_str value, struct moon_buf *out)
{
    if (value.len > 200)
        value.len = 200;
    if ((info->flags & MOON_CONFIG_SECRET) != 0) {
        moon_buf_addz(out, "***");
    } else if (info->kind == MOON_CONFIG_KIND_URL) {
        moon_config_mask_url(value, out);
    } else {
        moon_buf_add_json(out, value);
    }
}

static enum moon_err set_value(struct moon_config *config, uint32_t index,
                               struct moon_str item, struct moon_str value,
                               enum moon_config_level level,
                               struct moon_buf *why)
{
    const struct moon_config_info *info = &moon_config_infos[index];
    void *field = moon_config_field(config, info);
    if (info->kind == MOON_CONFIG_KIND_JSON && level > MOON_CONFIG_FILE) {
        moon_buf_addz(why, "this table is set in config.lua only");
        return MOON_EINVAL;
    }
    if (item.ptr != NULL) {
        if (config->levels[index] < level)
            moon_config_value_clear(info, field);
        return moon_config_dict_set(field, item, value, why);
    }
    return moon_config_value_parse(info, field, value, why);
}

/* A higher level has set it: the value is checked against a scratch copy. */
static enum moon_err check_only(const struct moon_config_info *info,
                                struct moon_str item, struct moon_str value,
                                struct moon_buf *why)
{
    struct moon_config scratch = {0};
    void *field = moon_config_field(&scratch, info);
    enum moon_err err = item.ptr != NULL
                            ? moon_config_dict_set(field, item, value, why)
                            : moon_config_value_parse(info, field, value, why);
    moon_config_value_clear(info, field);
    return err;
}

static enum moon_err set_origin(struct moon_config *config, uint32_t index,
                                enum moon_config_level level,
                                const char *originz)
{
    char *copyz = NULL;
    if (originz != NULL && originz[0] != '\0') {
        copyz = strdup(originz);
        if (copyz == NULL)
            return MOON_ENOMEM;
    }
    free(config->origins[index]);
    config->origins[index] = copyz;
    config->levels[index] = (uint8_t)level;
    return MOON_OK;
}

enum moon_err moon_config_set(struct moon_config *config, struct moon_str key,
                              struct moon_str value,
                              enum moon_config_level level, const char *originz,
                              char *error, size_t error_size)
{
    struct moon_buf text = {0}, why = {0};
    struct moon_str item;
    enum moon_err err = MOON_EINVAL;
    uint32_t index = find_key(key, &item);
    if (originz != NULL && originz[0] != '\0')
        moon_buf_printf(&text, "%s: ", originz);
    moon_buf_add_str(&text, key);
    if (index == MOON_CONFIG_KEYS) {
        moon_buf_add_char(&text, ' ');
        explain_unknown(key, &why);
    } else {
        const struct moon_config_info *info = &moon_config_infos[index];
        err = config->levels[index] > level
                  ? check_only(info, item, value, &why)
                  : set_value(config, index, item, value, level, &why);
        if (err == MOON_OK && config->levels[index] <= level)
            err = set_origin(config, index, level, originz);
        moon_buf_addz(&text, " = ");
        print_given(info, value, &text);
        moon_buf_addz(&text, ": ");
    }
    moon_buf_add_str(&text, moon_buf_str(&why));
    if (err == MOON_ENOMEM || text.failed)
        (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
    else if (err != MOON_OK)
        (void)snprintf(error, error_size, "%.*s",
                       MOON_STR_ARG(moon_buf_str(&text)));
    moon_buf_deinit(&text);
    moon_buf_deinit(&why);
    return err;
}

/* ---- printing ---- */

/* What stands between "://" and the last "@" before the path, a query's
 * password too, is nobody's business. */
void moon_config_mask_url(struct moon_str url, struct moon_buf *out)
{
    size_t start = 0, end = url.len, at = SIZE_MAX;
    for (size_t i = 0; i + 2 < url.len && start == 0; i++) {
        if (memcmp(url.ptr + i, "://", 3) == 0)
            start = i + 3;
    }
    for (size_t i = start; i < end; i++) {
        if (url.ptr[i] == '@')
            at = i;
    }
    moon_buf_add(out, url.ptr, start);
    if (at != SIZE_MAX) {
        moon_buf_addz(out, "***");
        start = at;
    }
    struct moon_str query;
    struct moon_str rest = moon_str(url.ptr + start, url.len - start);
    moon_buf_add_str(out, moon_str_cut(rest, '?', &query));
    for (char sep = '?'; query.len > 0; sep = '&') {
        struct moon_str value;
        struct moon_str pair = moon_str_cut(query, '&', &query);
        struct moon_str name = moon_str_cut(pair, '=', &value);
        moon_buf_add_char(out, sep);
        if (moon_str_starts(name, MOON_STR("pass"))) {
            moon_buf_add_str(out, name);
            moon_buf_addz(out, "=***");
        } else {
            moon_buf_add_str(out, pair);
        }
    }
}

void moon_config_print(const struct moon_config *config, uint32_t index,
                       bool masked, struct moon_buf *out)
{
    const struct moon_config_info *info = &moon_config_infos[index];
    const void *field = moon_config_field_const(config, info);
    if (masked && (info->flags & MOON_CONFIG_SECRET) != 0) {
        if ((*(char *const *)field)[0] != '\0')
            moon_buf_addz(out, "***");
    } else if (masked && info->kind == MOON_CONFIG_KIND_URL) {
        moon_config_mask_url(moon_strz(*(char *const *)field), out);
    } else {
        moon_config_value_print(info, field, out);
    }
}

uint32_t moon_config_restart_keys(const struct moon_config *before,
                                  const struct moon_config *after,
                                  struct moon_buf *out)
{
    struct moon_buf a = {0}, b = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++) {
        if ((moon_config_infos[i].flags & MOON_CONFIG_RESTART) == 0)
            continue;
        a.len = b.len = 0;
        moon_config_print(before, i, false, &a);
        moon_config_print(after, i, false, &b);
        if (moon_str_eq(moon_buf_str(&a), moon_buf_str(&b)))
            continue;
        moon_buf_addz(out, count++ > 0 ? ", " : "");
        moon_buf_addz(out, moon_config_infos[i].keyz);
    }
    moon_buf_deinit(&a);
    moon_buf_deinit(&b);
    return count;
}

/* ---- between processes: key NUL level origin NUL value NUL ---- */

void moon_config_serialise(const struct moon_config *config,
                           struct moon_buf *out)
{
    for (uint32_t i = 0; i < MOON_CONFIG_KEYS; i++) {
        moon_buf_addz(out, moon_config_infos[i].keyz);
        moon_buf_add_char(out, '\0');
        moon_buf_add_char(out, (char)('0' + config->levels[i]));
        if (config->origins[i] != NULL)
            moon_buf_addz(out, config->origins[i]);
        moon_buf_add_char(out, '\0');
        moon_config_print(config, i, false, out);
        moon_buf_add_char(out, '\0');
    }
}

static bool take_piece(struct moon_str *bytes, struct moon_str *piece)
{
    const char *end =
        bytes->len > 0 ? memchr(bytes->ptr, '\0', bytes->len) : NULL;
    if (end == NULL)
        return false;
    *piece = moon_str_cut(*bytes, '\0', bytes);
    return true;
}

enum moon_err moon_config_parse(struct moon_str bytes, struct moon_config **out,
                                char *error, size_t error_size)
{
    enum moon_err err = MOON_OK;
    struct moon_config *config = moon_config_create();
    *out = NULL;
    if (config == NULL) {
        (void)snprintf(error, error_size, "%s", moon_err_text(MOON_ENOMEM));
        return MOON_ENOMEM;
    }
    while (bytes.len > 0 && err == MOON_OK) {
        struct moon_str key, origin, value;
        if (!take_piece(&bytes, &key) || !take_piece(&bytes, &origin) ||
            !take_piece(&bytes, &value) || origin.len == 0 ||
            origin.ptr[0] < '0' || origin.ptr[0] > '3') {
            (void)snprintf(error, error_size, "damaged configuration record");
            err = MOON_EPROTO;
            break;
        }
        /* Pieces end in NUL, so origin.ptr + 1 is a C string. */
        err = moon_config_set(config, key, value,
                              (enum moon_config_level)(origin.ptr[0] - '0'),
                              origin.ptr + 1, error, error_size);
    }
    if (err == MOON_OK)
        *out = config;
    else
        moon_config_destroy(config);
    return err;
}
