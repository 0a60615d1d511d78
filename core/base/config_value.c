#include "base/config_value.h"

#include "base/address.h"
#include "base/units.h"

#include <stdio.h>
#include <stdlib.h>

#define X(kind, field, key, value, allowed, flags) \
    {MOON_CONFIG_KIND_##kind,                      \
     flags,                                        \
     offsetof(struct moon_config, field),          \
     key,                                          \
     value,                                        \
     allowed},
const struct moon_config_info moon_config_infos[MOON_CONFIG_KEYS] = {
    MOON_CONFIG_MAP(X)};
#undef X

bool moon_config_has_word(const char *allowedz, struct moon_str word,
                          uint32_t *index)
{
    struct moon_str rest = moon_strz(allowedz);
    for (uint32_t i = 0; rest.len > 0; i++) {
        struct moon_str one = moon_str_cut(rest, '|', &rest);
        if (moon_str_eq_nocase(one, word)) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* "a|b|c" -> "a, b or c". */
static void add_choices(struct moon_buf *why, const char *allowedz)
{
    struct moon_str rest = moon_strz(allowedz);
    bool first = true;
    while (rest.len > 0) {
        struct moon_str one = moon_str_cut(rest, '|', &rest);
        if (!first)
            moon_buf_addz(why, rest.len > 0 ? ", " : " or ");
        moon_buf_add_str(why, one);
        first = false;
    }
}

static enum moon_err expected(struct moon_buf *why, const char *whatz,
                              const char *allowedz)
{
    moon_buf_addz(why, "expected ");
    moon_buf_addz(why, whatz);
    add_choices(why, allowedz);
    return MOON_EINVAL;
}

/* ---- numbers ---- */

static bool parse_number(enum moon_config_kind kind, struct moon_str text,
                         uint64_t *out)
{
    char unused[1];
    switch (kind) {
    case MOON_CONFIG_KIND_DURATION:
        return moon_duration_parse(text, out, unused, sizeof(unused)) ==
               MOON_OK;
    case MOON_CONFIG_KIND_SIZE:
        return moon_size_parse(text, out, unused, sizeof(unused)) == MOON_OK;
    default:
        return moon_str_to_u64(text, out);
    }
}

/* `allowedz` is "MIN..MAX", then perhaps "|none" or "|auto". */
static bool in_range(enum moon_config_kind kind, const char *allowedz,
                     uint64_t value)
{
    struct moon_str rest;
    struct moon_str range = moon_str_cut(moon_strz(allowedz), '|', &rest);
    uint64_t min = 0, max = UINT64_MAX;
    struct moon_str low = moon_str_cut(range, '.', &rest);
    struct moon_str high =
        rest.len > 0 ? moon_str(rest.ptr + 1, rest.len - 1) : rest;
    return parse_number(kind, low, &min) && parse_number(kind, high, &max) &&
           value >= min && value <= max;
}

/* What a number looks like, before its range. */
static const char *number_text(enum moon_config_kind kind)
{
    switch (kind) {
    case MOON_CONFIG_KIND_DURATION:
        return "a duration (\"250ms\", \"30s\", \"12h\") of ";
    case MOON_CONFIG_KIND_SIZE:
        return "a size (512, \"64k\", \"10m\") of ";
    default:
        return "a whole number of ";
    }
}

/* Words come first: "none" and "auto" where they are allowed, and the ways to
 * say "none" that a Lua file makes likely. */
static enum moon_err parse_counted(const struct moon_config_info *info,
                                   struct moon_str text, uint64_t *out,
                                   struct moon_buf *why)
{
    bool wide = info->kind != MOON_CONFIG_KIND_COUNT;
    uint32_t at;
    bool off = moon_str_eq(text, MOON_STR("off")) ||
               moon_str_eq(text, MOON_STR("false"));
    if (moon_config_has_word(info->allowedz, off ? MOON_STR("none") : text,
                             &at) &&
        at > 0) {
        bool none = off || moon_str_eq_nocase(text, MOON_STR("none"));
        *out = none && wide ? MOON_CONFIG_NONE : 0;
        return MOON_OK;
    }
    if (!parse_number(info->kind, text, out) ||
        !in_range(info->kind, info->allowedz, *out))
        return expected(why, number_text(info->kind), info->allowedz);
    return MOON_OK;
}

static enum moon_err parse_ratio(struct moon_str text, double *out,
                                 struct moon_buf *why)
{
    char textz[32], *end = textz;
    double value = 0;
    bool plain = text.len > 0 && text.len < sizeof(textz) &&
                 text.ptr[0] >= '0' && text.ptr[0] <= '9';
    if (plain) {
        memcpy(textz, text.ptr, text.len);
        textz[text.len] = '\0';
        value = strtod(textz, &end);
    }
    if (!plain || *end != '\0' || !(value >= 0 && value <= 1))
        return expected(why, "a ratio of 0 to 1", "");
    *out = value;
    return MOON_OK;
}

static enum moon_err parse_bool(struct moon_str text, bool *out,
                                struct moon_buf *why)
{
    uint32_t at;
    if (!moon_config_has_word("true|on|yes|1|false|off|no|0", text, &at))
        return expected(why, "true or false", "");
    *out = at < 4;
    return MOON_OK;
}

static enum moon_err parse_choice(const struct moon_config_info *info,
                                  struct moon_str text, uint32_t *out,
                                  struct moon_buf *why)
{
    /* `secure = true` in Lua means the word "on". */
    if (moon_str_eq(text, MOON_STR("true")))
        text = MOON_STR("on");
    else if (moon_str_eq(text, MOON_STR("false")))
        text = MOON_STR("off");
    return moon_config_has_word(info->allowedz, text, out)
               ? MOON_OK
               : expected(why, "", info->allowedz);
}

/* ---- text ---- */

static bool has_control(struct moon_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if (byte < 0x20 || byte == 0x7f)
            return true;
    }
    return false;
}

static bool is_name(struct moon_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char ch = text.ptr[i];
        bool word = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                    (ch >= '0' && ch <= '9') || ch == '_';
        if (!word && (i == 0 || (ch != '-' && ch != '.')))
            return false;
    }
    return text.len <= 64;
}

static enum moon_err check_address(struct moon_str text, struct moon_buf *why)
{
    struct moon_address address;
    char error[300];
    enum moon_err err =
        moon_address_parse(text, &address, error, sizeof(error));
    if (err != MOON_OK)
        moon_buf_addz(why, error);
    return err;
}

static enum moon_err check_string(const struct moon_config_info *info,
                                  struct moon_str text, struct moon_buf *why)
{
    if (info->kind == MOON_CONFIG_KIND_ADDR)
        return check_address(text, why);
    if (has_control(text))
        return expected(why, "text without control characters", "");
    if (strcmp(info->allowedz, "name") == 0 && !is_name(text))
        return expected(why,
                        "at most 64 letters, digits, \"_\", \"-\" and \".\", "
                        "not starting with \"-\" or \".\"",
                        "");
    if (strcmp(info->allowedz, "secret") == 0 && text.len < MOON_SECRET_MIN)
        return expected(why,
                        "at least 16 characters that nobody can guess (openssl "
                        "rand -hex 32)",
                        "");
    return MOON_OK;
}

static enum moon_err check_url(const struct moon_config_info *info,
                               struct moon_str text, struct moon_buf *why)
{
    if (has_control(text) || memchr(text.ptr, ' ', text.len) != NULL)
        return expected(why, "a URL without spaces", "");
    if (moon_str_starts(text, MOON_STR("rediss://"))) {
        moon_buf_addz(why, "TLS to Redis is not built in; run a TLS tunnel "
                           "(stunnel, ghostunnel) beside the node and give "
                           "redis:// with its local address");
        return MOON_EINVAL;
    }
    struct moon_str rest = moon_strz(info->allowedz);
    while (rest.len > 0) {
        struct moon_str scheme = moon_str_cut(rest, '|', &rest);
        bool needs_host = scheme.ptr[scheme.len - 1] == '/';
        if (moon_str_starts(text, scheme) &&
            (!needs_host || text.len > scheme.len))
            return MOON_OK;
    }
    return expected(why, "a URL that starts with ", info->allowedz);
}

static enum moon_err check_json(struct moon_str text, struct moon_buf *why)
{
    if (text.len < 2 || text.ptr[0] != '{' || text.ptr[text.len - 1] != '}' ||
        memchr(text.ptr, '\0', text.len) != NULL)
        return expected(why, "a table", "");
    return MOON_OK;
}

static enum moon_err store_text(char **field, struct moon_str text)
{
    char *copy = malloc(text.len + 1);
    if (copy == NULL)
        return MOON_ENOMEM;
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    free(*field);
    *field = copy;
    return MOON_OK;
}

static enum moon_err parse_text(const struct moon_config_info *info,
                                struct moon_str text, char **field,
                                struct moon_buf *why)
{
    enum moon_err err = MOON_OK;
    if (info->kind == MOON_CONFIG_KIND_JSON)
        err = check_json(text, why);
    else if (text.len > 0)
        err = info->kind == MOON_CONFIG_KIND_URL
                  ? check_url(info, text, why)
                  : check_string(info, text, why);
    return err == MOON_OK ? store_text(field, text) : err;
}

/* ---- lists ---- */

static void list_clear(struct moon_config_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct moon_config_list){NULL, 0};
}

static enum moon_err list_add(struct moon_config_list *list,
                              struct moon_str item)
{
    char **items =
        realloc(list->items, (list->count + 1) * sizeof(*list->items));
    if (items == NULL)
        return MOON_ENOMEM;
    list->items = items;
    items[list->count] = NULL;
    enum moon_err err = store_text(&items[list->count], item);
    if (err == MOON_OK)
        list->count++;
    return err;
}

static enum moon_err parse_addresses(const struct moon_config_info *info,
                                     struct moon_str text,
                                     struct moon_config_list *field,
                                     struct moon_buf *why)
{
    struct moon_config_list list = {NULL, 0};
    enum moon_err err = MOON_OK;
    uint32_t word = 0;
    bool is_word = info->allowedz[0] != '\0' &&
                   moon_config_has_word("true|on|false|off", text, &word);
    bool is_on = is_word && word < 2;
    if (is_word)
        text = is_on ? MOON_STR("on") : MOON_STR("");
    while (text.len > 0 && err == MOON_OK) {
        struct moon_str item = moon_str_trim(moon_str_cut(text, ',', &text));
        if (item.len == 0 || has_control(item))
            err = expected(why, "a list of words", "");
        else if (!is_on)
            err = check_address(item, why);
        if (err == MOON_OK)
            err = list_add(&list, item);
    }
    if (err != MOON_OK) {
        list_clear(&list);
        return err;
    }
    list_clear(field);
    *field = list;
    return MOON_OK;
}

static enum moon_err parse_nets(struct moon_str text, struct moon_nets *field,
                                struct moon_buf *why)
{
    struct moon_nets nets = {0};
    enum moon_err err = MOON_OK;
    while (text.len > 0 && err == MOON_OK)
        err = moon_nets_add(&nets,
                            moon_str_trim(moon_str_cut(text, ',', &text)), why);
    if (err != MOON_OK) {
        moon_nets_deinit(&nets);
        return err;
    }
    moon_nets_deinit(field);
    *field = nets;
    return MOON_OK;
}

static void dicts_clear(struct moon_config_dicts *dicts)
{
    for (uint32_t i = 0; i < dicts->count; i++)
        free(dicts->items[i].namez);
    free(dicts->items);
    *dicts = (struct moon_config_dicts){NULL, 0};
}

enum moon_err moon_config_dict_set(struct moon_config_dicts *dicts,
                                   struct moon_str name, struct moon_str size,
                                   struct moon_buf *why)
{
    uint64_t bytes;
    if (name.len == 0 || !is_name(name))
        return expected(why, "a name of letters, digits, \"_\" and \"-\"", "");
    if (!parse_number(MOON_CONFIG_KIND_SIZE, size, &bytes) ||
        !in_range(MOON_CONFIG_KIND_SIZE, "4k..1t", bytes))
        return expected(why, "NAME = a size of 4k..1t", "");
    for (uint32_t i = 0; i < dicts->count; i++) {
        if (moon_str_eq(name, moon_strz(dicts->items[i].namez))) {
            dicts->items[i].bytes = bytes;
            return MOON_OK;
        }
    }
    struct moon_config_dict *items =
        realloc(dicts->items, (dicts->count + 1) * sizeof(*dicts->items));
    if (items == NULL)
        return MOON_ENOMEM;
    dicts->items = items;
    items[dicts->count] = (struct moon_config_dict){NULL, bytes};
    enum moon_err err = store_text(&items[dicts->count].namez, name);
    if (err == MOON_OK)
        dicts->count++;
    return err;
}

static enum moon_err parse_dicts(struct moon_str text,
                                 struct moon_config_dicts *field,
                                 struct moon_buf *why)
{
    struct moon_config_dicts dicts = {NULL, 0};
    enum moon_err err = MOON_OK;
    while (text.len > 0 && err == MOON_OK) {
        struct moon_str size;
        struct moon_str item = moon_str_cut(text, ',', &text);
        struct moon_str name = moon_str_cut(item, '=', &size);
        err = moon_config_dict_set(&dicts, moon_str_trim(name),
                                   moon_str_trim(size), why);
    }
    if (err != MOON_OK) {
        dicts_clear(&dicts);
        return err;
    }
    dicts_clear(field);
    *field = dicts;
    return MOON_OK;
}

/* ---- by kind ---- */

enum moon_err moon_config_value_parse(const struct moon_config_info *info,
                                      void *field, struct moon_str text,
                                      struct moon_buf *why)
{
    uint64_t number = 0;
    enum moon_err err;
    switch (info->kind) {
    case MOON_CONFIG_KIND_DURATION:
    case MOON_CONFIG_KIND_SIZE:
        err = parse_counted(info, moon_str_trim(text), &number, why);
        if (err == MOON_OK)
            *(uint64_t *)field = number;
        return err;
    case MOON_CONFIG_KIND_COUNT:
        err = parse_counted(info, moon_str_trim(text), &number, why);
        if (err == MOON_OK)
            *(uint32_t *)field = (uint32_t)number;
        return err;
    case MOON_CONFIG_KIND_RATIO:
        return parse_ratio(moon_str_trim(text), field, why);
    case MOON_CONFIG_KIND_BOOL:
        return parse_bool(moon_str_trim(text), field, why);
    case MOON_CONFIG_KIND_CHOICE:
        return parse_choice(info, moon_str_trim(text), field, why);
    case MOON_CONFIG_KIND_STRING:
    case MOON_CONFIG_KIND_ADDR:
    case MOON_CONFIG_KIND_URL:
    case MOON_CONFIG_KIND_JSON:
        return parse_text(info, text, field, why);
    case MOON_CONFIG_KIND_ADDRS:
        return parse_addresses(info, text, field, why);
    case MOON_CONFIG_KIND_NETS:
        return parse_nets(text, field, why);
    case MOON_CONFIG_KIND_DICTS:
        return parse_dicts(text, field, why);
    }
    return MOON_EINVAL;
}

static void print_number(const struct moon_config_info *info, uint64_t value,
                         struct moon_buf *out)
{
    char textz[40];
    uint32_t at;
    bool narrow = info->kind == MOON_CONFIG_KIND_COUNT;
    if (value == 0 &&
        moon_config_has_word(info->allowedz, MOON_STR("auto"), &at))
        (void)snprintf(textz, sizeof(textz), "auto");
    else if (narrow ? value == 0 && moon_config_has_word(info->allowedz,
                                                         MOON_STR("none"), &at)
                    : value == MOON_CONFIG_NONE)
        (void)snprintf(textz, sizeof(textz), "none");
    else if (info->kind == MOON_CONFIG_KIND_DURATION)
        moon_duration_format(value, textz, sizeof(textz));
    else if (info->kind == MOON_CONFIG_KIND_SIZE)
        moon_size_format(value, textz, sizeof(textz));
    else
        (void)snprintf(textz, sizeof(textz), "%llu", (unsigned long long)value);
    moon_buf_addz(out, textz);
}

static void print_list(const struct moon_config_list *list, const char *emptyz,
                       struct moon_buf *out)
{
    if (list->count == 0)
        moon_buf_addz(out, emptyz);
    for (uint32_t i = 0; i < list->count; i++) {
        if (i > 0)
            moon_buf_add_char(out, ',');
        moon_buf_addz(out, list->items[i]);
    }
}

static void print_dicts(const struct moon_config_dicts *dicts,
                        struct moon_buf *out)
{
    char sizez[40];
    for (uint32_t i = 0; i < dicts->count; i++) {
        moon_size_format(dicts->items[i].bytes, sizez, sizeof(sizez));
        moon_buf_printf(out, "%s%s=%s", i > 0 ? "," : "", dicts->items[i].namez,
                        sizez);
    }
}

static void print_choice(const struct moon_config_info *info, uint32_t index,
                         struct moon_buf *out)
{
    struct moon_str rest = moon_strz(info->allowedz), word = rest;
    for (uint32_t i = 0; i <= index; i++)
        word = moon_str_cut(rest, '|', &rest);
    moon_buf_add_str(out, word);
}

void moon_config_value_print(const struct moon_config_info *info,
                             const void *field, struct moon_buf *out)
{
    switch (info->kind) {
    case MOON_CONFIG_KIND_DURATION:
    case MOON_CONFIG_KIND_SIZE:
        print_number(info, *(const uint64_t *)field, out);
        break;
    case MOON_CONFIG_KIND_COUNT:
        print_number(info, *(const uint32_t *)field, out);
        break;
    case MOON_CONFIG_KIND_RATIO:
        moon_buf_printf(out, "%.15g", *(const double *)field);
        break;
    case MOON_CONFIG_KIND_BOOL:
        moon_buf_addz(out, *(const bool *)field ? "on" : "off");
        break;
    case MOON_CONFIG_KIND_CHOICE:
        print_choice(info, *(const uint32_t *)field, out);
        break;
    case MOON_CONFIG_KIND_STRING:
    case MOON_CONFIG_KIND_ADDR:
    case MOON_CONFIG_KIND_URL:
    case MOON_CONFIG_KIND_JSON:
        moon_buf_addz(out, *(char *const *)field);
        break;
    case MOON_CONFIG_KIND_ADDRS:
        print_list(field, info->allowedz[0] != '\0' ? "off" : "", out);
        break;
    case MOON_CONFIG_KIND_NETS:
        moon_nets_print(field, out);
        break;
    case MOON_CONFIG_KIND_DICTS:
        print_dicts(field, out);
        break;
    }
}

void moon_config_value_clear(const struct moon_config_info *info, void *field)
{
    switch (info->kind) {
    case MOON_CONFIG_KIND_STRING:
    case MOON_CONFIG_KIND_ADDR:
    case MOON_CONFIG_KIND_URL:
    case MOON_CONFIG_KIND_JSON:
        free(*(char **)field);
        *(char **)field = NULL;
        break;
    case MOON_CONFIG_KIND_ADDRS:
        list_clear(field);
        break;
    case MOON_CONFIG_KIND_NETS:
        moon_nets_deinit(field);
        break;
    case MOON_CONFIG_KIND_DICTS:
        dicts_clear(field);
        break;
    default:
        break;
    }
}

void moon_config_describe(uint32_t index, struct moon_buf *out)
{
    static const char *const texts[] = {
        [MOON_CONFIG_KIND_DURATION] = "a duration of ",
        [MOON_CONFIG_KIND_SIZE] = "a size of ",
        [MOON_CONFIG_KIND_COUNT] = "a number of ",
        [MOON_CONFIG_KIND_RATIO] = "a ratio of ",
        [MOON_CONFIG_KIND_BOOL] = "",
        [MOON_CONFIG_KIND_CHOICE] = "",
        [MOON_CONFIG_KIND_STRING] = "text",
        [MOON_CONFIG_KIND_URL] = "a URL: ",
        [MOON_CONFIG_KIND_ADDR] = "an address",
        [MOON_CONFIG_KIND_ADDRS] = "a list of addresses",
        [MOON_CONFIG_KIND_NETS] = "a list of CIDR blocks, or \"unix\"",
        [MOON_CONFIG_KIND_DICTS] = "a table of names and sizes",
        [MOON_CONFIG_KIND_JSON] = "a table",
    };
    const struct moon_config_info *info = &moon_config_infos[index];
    moon_buf_addz(out, texts[info->kind]);
    if (info->kind == MOON_CONFIG_KIND_ADDRS && info->allowedz[0] != '\0')
        moon_buf_addz(out, ", ");
    if (strcmp(info->allowedz, "secret") == 0)
        moon_buf_printf(out, " of at least %d characters", MOON_SECRET_MIN);
    else if (info->kind != MOON_CONFIG_KIND_STRING)
        add_choices(out, info->allowedz);
}
