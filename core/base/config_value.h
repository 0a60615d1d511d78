/* One configuration value: text to field and back, by kind.
 *
 * Private to base/config*.c. The table of keys is the one in config.h; a field
 * is reached by its offset. A value that is refused leaves the field as it
 * was. */
#ifndef MOON_BASE_CONFIG_VALUE_H
#define MOON_BASE_CONFIG_VALUE_H

#include "base/config.h"

enum moon_config_kind {
    MOON_CONFIG_KIND_DURATION,
    MOON_CONFIG_KIND_SIZE,
    MOON_CONFIG_KIND_COUNT,
    MOON_CONFIG_KIND_RATIO,
    MOON_CONFIG_KIND_BOOL,
    MOON_CONFIG_KIND_CHOICE,
    MOON_CONFIG_KIND_STRING,
    MOON_CONFIG_KIND_URL,
    MOON_CONFIG_KIND_ADDR,
    MOON_CONFIG_KIND_ADDRS,
    MOON_CONFIG_KIND_NETS,
    MOON_CONFIG_KIND_DICTS,
    MOON_CONFIG_KIND_JSON,
};

struct moon_config_info {
    enum moon_config_kind kind;
    uint32_t flags;
    size_t offset;
    const char *keyz, *defaultz, *allowedz;
};

extern const struct moon_config_info moon_config_infos[MOON_CONFIG_KEYS];

/* MOON_EINVAL with what would be right in `why`. */
MOON_MUST_CHECK enum moon_err moon_config_value_parse(
    const struct moon_config_info *info, void *field, struct moon_str text,
    struct moon_buf *why);
void moon_config_value_print(const struct moon_config_info *info,
                             const void *field, struct moon_buf *out);
/* Frees what the field owns and zeroes it. */
void moon_config_value_clear(const struct moon_config_info *info, void *field);

/* Adds or replaces one item of a DICTS field. */
MOON_MUST_CHECK enum moon_err moon_config_dict_set(
    struct moon_config_dicts *dicts, struct moon_str name, struct moon_str size,
    struct moon_buf *why);

/* Is `wordz` one of the words of "a|b|c"? Its place into *index. */
bool moon_config_has_word(const char *allowedz, struct moon_str word,
                          uint32_t *index);

static inline void *moon_config_field(struct moon_config *config,
                                      const struct moon_config_info *info)
{
    return (char *)config + info->offset;
}

static inline const void *moon_config_field_const(
    const struct moon_config *config, const struct moon_config_info *info)
{
    return (const char *)config + info->offset;
}

#endif
