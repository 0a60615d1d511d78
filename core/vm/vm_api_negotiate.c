#include "vm/vm_api.h"

#include "base/hash.h"
#include "http/negotiate.h"
#include "http/precondition.h"
#include "http/token.h"

/* What the client would like to get, and what it has already. */

enum { OFFERS_MAX = 16, ETAG_VALUE_MAX = 64 };

void moon_api_negotiate_keep(void)
{
}

/* ---- Accept ---- */

/* All Accept fields as one list; of several that memory has no room for, the
 * first. */
static struct moon_str accept_of(struct moon_exchange *x)
{
    struct moon_str value, all = MOON_STR_NONE;
    size_t len = 0;
    uint32_t count = 0;
    while (moon_request_header(&x->req, MOON_STR("accept"), count, &value)) {
        if (count++ == 0)
            all = value;
        len += value.len + 1;
    }
    char *to = count > 1 ? moon_arena_alloc(&x->arena, len) : NULL;
    if (to == NULL)
        return all;
    all = moon_str(to, len);
    for (uint32_t i = 0; i < count; i++) {
        (void)moon_request_header(&x->req, MOON_STR("accept"), i, &value);
        if (value.len > 0)
            memcpy(to, value.ptr, value.len);
        to += value.len;
        *to++ = ',';
    }
    return all;
}

/* Caches must know that the answer depends on Accept. */
static enum moon_err add_vary(struct moon_exchange *x)
{
    struct moon_str list, name;
    for (uint32_t n = 0; moon_response_get(&x->res, MOON_STR("Vary"), n, &list);
         n++) {
        while (moon_list_next(&list, &name)) {
            if (moon_str_eq(name, MOON_STR("*")) ||
                moon_str_eq_nocase(name, MOON_STR("Accept")))
                return MOON_OK;
        }
    }
    return moon_response_add(&x->res, &x->arena, MOON_STR("Vary"),
                             MOON_STR("Accept"));
}

int moon_res_accepts(moon_slot *slot, const moon_bytes *offers, uint32_t count)
{
    struct moon_exchange *x = moon_slot_x(slot);
    struct moon_str types[OFFERS_MAX];
    if (x == NULL)
        return MOON_ECLOSED;
    if (count > OFFERS_MAX)
        return MOON_EINVAL;
    for (uint32_t i = 0; i < count; i++)
        types[i] = moon_str(offers[i].ptr, offers[i].len);
    enum moon_err err = add_vary(x);
    if (err != MOON_OK)
        return err;
    return moon_accept_best(accept_of(x), types, count) + 1;
}

/* ---- entity tags ---- */

/* Could stand between the quotes, and is short? */
static bool is_tag(struct moon_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char ch = (unsigned char)value.ptr[i];
        if (ch <= ' ' || ch == '"' || ch == 0x7f)
            return false;
    }
    return value.len <= ETAG_VALUE_MAX;
}

static void write_tag(struct moon_str value, bool weak, struct moon_buf *out)
{
    char hex[33];
    if (!is_tag(value)) {
        struct moon_hash hash;
        moon_hash_init(&hash);
        moon_hash_add(&hash, value);
        moon_hash_hex(&hash, hex);
        value = moon_strz(hex);
    }
    moon_buf_addz(out, weak ? "W/\"" : "\"");
    moon_buf_add_str(out, value);
    moon_buf_add_char(out, '"');
}

/* RFC 9110 section 13.2.2. The tag describes the answer to a GET or HEAD; after
 * any other method what is there is not what was there. */
static int evaluate(struct moon_exchange *x, struct moon_str etag)
{
    const struct moon_validators now = {.etag = etag};
    bool reads =
        x->req.method == MOON_METHOD_GET || x->req.method == MOON_METHOD_HEAD;
    if (moon_precondition_fails(&x->req, &now))
        return 412;
    if (!reads)
        return moon_condition_lists(&x->req, "If-None-Match", etag, true) ? 412
                                                                          : 0;
    if (etag.len == 0)
        return 0;
    enum moon_err err =
        moon_response_set(&x->res, &x->arena, MOON_STR("ETag"), etag);
    if (err != MOON_OK)
        return err;
    return moon_is_unchanged(&x->req, &now) ? 304 : 0;
}

int moon_res_etag(moon_slot *slot, const char *value, size_t len, bool weak)
{
    struct moon_exchange *x = moon_slot_x(slot);
    struct moon_buf etag = {0};
    if (x == NULL)
        return MOON_ECLOSED;
    if (value != NULL)
        write_tag(moon_str(value, len), weak, &etag);
    int result = etag.failed ? MOON_ENOMEM : evaluate(x, moon_buf_str(&etag));
    moon_buf_deinit(&etag);
    return result;
}
