#include "answers.h"

#include "fuzz.h"

struct response {
    int status;
    struct moon_str method; /* "" if the handler did not say */
    bool close, chunked, has_length;
    uint64_t length;
};

static struct moon_str take_line(struct moon_str *rest)
{
    const char *end = memmem(rest->ptr, rest->len, "\r\n", 2);
    FUZZ_CHECK(end != NULL);
    struct moon_str line = moon_str(rest->ptr, (size_t)(end - rest->ptr));
    FUZZ_CHECK(memchr(line.ptr, '\r', line.len) == NULL);
    FUZZ_CHECK(memchr(line.ptr, '\n', line.len) == NULL);
    *rest = moon_str(end + 2, rest->len - line.len - 2);
    return line;
}

static struct moon_str take(struct moon_str *rest, uint64_t len)
{
    FUZZ_CHECK(len <= rest->len);
    struct moon_str piece = moon_str(rest->ptr, (size_t)len);
    *rest = moon_str(rest->ptr + len, rest->len - (size_t)len);
    return piece;
}

static void read_field(struct moon_str line, struct response *response)
{
    struct moon_str value, name = moon_str_cut(line, ':', &value);
    FUZZ_CHECK(name.len > 0 && name.len < line.len);
    value = moon_str_trim(value);
    if (moon_str_eq_nocase(name, MOON_STR("content-length"))) {
        FUZZ_CHECK(!response->has_length);
        response->has_length = true;
        FUZZ_CHECK(moon_str_to_u64(value, &response->length));
    } else if (moon_str_eq_nocase(name, MOON_STR("transfer-encoding"))) {
        FUZZ_CHECK(moon_str_eq(value, MOON_STR("chunked")));
        response->chunked = true;
    } else if (moon_str_eq_nocase(name, MOON_STR("connection"))) {
        response->close = moon_str_eq_nocase(value, MOON_STR("close"));
    } else if (moon_str_eq_nocase(name, MOON_STR("x-m"))) {
        response->method = value;
    }
}

static struct response read_head(struct moon_str *rest)
{
    struct response response = {.method = MOON_STR("")};
    struct moon_str line = take_line(rest);
    FUZZ_CHECK(line.len >= 13);
    FUZZ_CHECK(moon_str_starts(line, MOON_STR("HTTP/1.1 ")));
    for (int i = 9; i < 12; i++) {
        FUZZ_CHECK(line.ptr[i] >= '0' && line.ptr[i] <= '9');
        response.status = response.status * 10 + (line.ptr[i] - '0');
    }
    while ((line = take_line(rest)).len > 0)
        read_field(line, &response);
    FUZZ_CHECK(!(response.chunked && response.has_length));
    return response;
}

static void read_chunks(struct moon_str *rest, struct moon_buf *told)
{
    for (;;) {
        char size[20] = "";
        struct moon_str line = take_line(rest);
        FUZZ_CHECK(line.len > 0 && line.len < sizeof(size));
        memcpy(size, line.ptr, line.len);
        uint64_t len = strtoull(size, NULL, 16);
        moon_buf_add_str(told, take(rest, len));
        FUZZ_CHECK(take_line(rest).len == 0);
        if (len == 0)
            return;
    }
}

/* A refused HEAD has no X-M, and no body either. */
static bool has_body(const struct response *response, struct moon_str rest)
{
    if (moon_str_eq(response->method, MOON_STR("HEAD")))
        return false;
    return rest.len > 0 || response->method.len > 0;
}

void answers_read(struct moon_str bytes, struct moon_buf *told)
{
    bool over = false;
    while (bytes.len > 0) {
        FUZZ_CHECK(!over);
        struct response response = read_head(&bytes);
        if (response.status == 100)
            continue;
        FUZZ_CHECK(response.status >= 200 && response.status < 600);
        struct moon_buf body = {0};
        if (!has_body(&response, bytes))
            ;
        else if (response.chunked)
            read_chunks(&bytes, &body);
        else if (response.has_length)
            moon_buf_add_str(&body, take(&bytes, response.length));
        else
            moon_buf_add_str(&body, take(&bytes, bytes.len));
        over = response.close;
        if (response.status > 404 || response.status == 400)
            moon_buf_addz(told, "refused");
        else
            moon_buf_printf(told, "%d %.*s", response.status,
                            MOON_STR_ARG(moon_buf_str(&body)));
        moon_buf_addz(told, over ? " last\n" : "\n");
        moon_buf_deinit(&body);
    }
    FUZZ_CHECK(!told->failed);
}
