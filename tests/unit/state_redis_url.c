/* Redis URLs, hash slots, and commands and replies as bytes: what needs no
 * connection. */
#include "state/redis_proto.h"
#include "state/redis_slot.h"
#include "state/redis_url.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- URLs ---- */

static struct moon_redis_url *parse(const char *textz)
{
    struct moon_redis_url *url = NULL;
    char error[400] = "";
    if (moon_redis_url_parse(moon_strz(textz), &url, error, sizeof(error)) !=
        MOON_OK)
        fail_msg("%s: %s", textz, error);
    return url;
}

static void urls(void **state)
{
    static const struct {
        const char *textz;
        enum moon_redis_kind kind;
        const char *host0z;
        uint16_t port0;
        uint32_t hosts;
        const char *userz, *passwordz, *masterz;
        uint32_t db;
        const char *shownz;
    } cases[] = {
        {"redis://localhost", MOON_REDIS_SINGLE, "localhost", 6379, 1, "", "",
         "", 0, "redis://localhost"},
        {"redis://h/", MOON_REDIS_SINGLE, "h", 6379, 1, "", "", "", 0,
         "redis://h/"},
        {"redis://10.0.0.1:7000/3", MOON_REDIS_SINGLE, "10.0.0.1", 7000, 1, "",
         "", "", 3, "redis://10.0.0.1:7000/3"},
        {"redis://[::1]:7000/3", MOON_REDIS_SINGLE, "::1", 7000, 1, "", "", "",
         3, "redis://[::1]:7000/3"},
        {"redis://[fe80::1]", MOON_REDIS_SINGLE, "fe80::1", 6379, 1, "", "", "",
         0, "redis://[fe80::1]"},
        {"redis://:secret@h", MOON_REDIS_SINGLE, "h", 6379, 1, "", "secret", "",
         0, "redis://***@h"},
        {"redis://ann:se%3Ac%2Fr%40%25t@h/1", MOON_REDIS_SINGLE, "h", 6379, 1,
         "ann", "se:c/r@%t", "", 1, "redis://***@h/1"},
        {"redis://ann:a:b@h", MOON_REDIS_SINGLE, "h", 6379, 1, "ann", "a:b", "",
         0, "redis://***@h"},
        {"redis+unix:///run/redis.sock", MOON_REDIS_SINGLE, "/run/redis.sock",
         0, 1, "", "", "", 0, "redis+unix:///run/redis.sock"},
        {"redis+unix://:p@/run/a%20b?db=2", MOON_REDIS_SINGLE, "/run/a b", 0, 1,
         "", "p", "", 2, "redis+unix://***@/run/a%20b?db=2"},
        {"redis+sentinel://a:1,b,[::1]:3/my%2Fone/4", MOON_REDIS_SENTINEL, "a",
         1, 3, "", "", "my/one", 4,
         "redis+sentinel://a:1,b,[::1]:3/my%2Fone/4"},
        {"redis+sentinel://u:p@a/m", MOON_REDIS_SENTINEL, "a", 26379, 1, "u",
         "p", "m", 0, "redis+sentinel://***@a/m"},
        {"redis+cluster://a:1,b", MOON_REDIS_CLUSTER, "a", 1, 2, "", "", "", 0,
         "redis+cluster://a:1,b"},
        {"redis+cluster://:p@a/0", MOON_REDIS_CLUSTER, "a", 6379, 1, "", "p",
         "", 0, "redis+cluster://***@a/0"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_redis_url *url = parse(cases[i].textz);
        assert_int_equal(url->kind, cases[i].kind);
        assert_string_equal(url->hosts[0].hostz, cases[i].host0z);
        assert_int_equal(url->hosts[0].port, cases[i].port0);
        assert_int_equal(url->host_count, cases[i].hosts);
        assert_string_equal(url->userz, cases[i].userz);
        assert_string_equal(url->passwordz, cases[i].passwordz);
        assert_string_equal(url->masterz, cases[i].masterz);
        assert_int_equal(url->db, cases[i].db);
        assert_string_equal(url->shownz, cases[i].shownz);
        free(url);
    }
    struct moon_redis_url *url = parse("redis+sentinel://a:1,b,[::1]:3/m");
    assert_string_equal(url->hosts[1].hostz, "b");
    assert_int_equal(url->hosts[1].port, 26379);
    assert_string_equal(url->hosts[2].hostz, "::1");
    assert_int_equal(url->hosts[2].port, 3);
    free(url);
}

/* Each says what is wrong, and none shows the password ("hunter"). */
static void bad_urls(void **state)
{
    static const char *const cases[][2] = {
        {"", "a Redis URL is one of: redis://"},
        {"http://h", "a Redis URL is one of: redis://"},
        {"redis:/h", "a Redis URL is one of: redis://"},
        {"rediss://:hunter@h", "TLS to Redis is not built in"},
        {"redis://", "a host is missing"},
        {"redis://:hunter@", "a host is missing"},
        {"redis://:6379", "a host is missing"},
        {"redis://h:0", "a port must be a number"},
        {"redis://h:65536", "a port must be a number"},
        {"redis://h:", "a port must be a number"},
        {"redis://h:x", "a port must be a number"},
        {"redis://::1", "a port must be a number"},
        {"redis://[::1", "an IPv6 address is written"},
        {"redis://[::1]6379", "an IPv6 address is written"},
        {"redis://h/x", "a database is a number"},
        {"redis://h/-1", "a database is a number"},
        {"redis://h/1000000", "a database is a number"},
        {"redis://h/0/1", "a database is a number"},
        {"redis://h?db=1", "no \"?\" here"},
        {"redis://a,b", "several hosts need"},
        {"redis://hunter@h", "must be user:password"},
        {"redis://u:@h", "the password is empty"},
        {"redis://:hun/ter@h", "must be written %2F"},
        {"redis://:hun@ter@h", "must be written %40"},
        {"redis://:hunter%4@h", "a bad %-escape"},
        {"redis://:hunter%zz@h", "a bad %-escape"},
        {"redis://:hunter%0a@h", "a bad %-escape"},
        {"redis://:hunter%00@h", "a bad %-escape"},
        {"redis+unix://run/x", "a unix socket is an absolute path"},
        {"redis+unix:///", "a unix socket is an absolute path"},
        {"redis+unix://:hunter@/x?password=hunter", "the only option"},
        {"redis+unix:///x?db=one", "a database is a number"},
        {"redis+sentinel://a", "the name of the master is missing"},
        {"redis+sentinel://a/", "the name of the master is missing"},
        {"redis+sentinel://a//0", "the name of the master is missing"},
        {"redis+sentinel://:hunter@a,,b/m", "a host is missing"},
        {"redis+cluster://a/1", "a cluster has only database 0"},
    };
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        struct moon_redis_url *url = NULL;
        char error[400] = "";
        enum moon_err err = moon_redis_url_parse(moon_strz(cases[i][0]), &url,
                                                 error, sizeof(error));
        if (err != MOON_EINVAL || strstr(error, cases[i][1]) == NULL)
            fail_msg("%s: %d %s", cases[i][0], err, error);
        assert_null(strstr(error, "hunter"));
        assert_null(strstr(error, "hun"));
        assert_null(url);
    }
}

static void too_many_hosts(void **state)
{
    struct moon_buf text = {0};
    struct moon_redis_url *url = NULL;
    char error[400];
    (void)state;
    moon_buf_addz(&text, "redis+cluster://h0");
    for (int i = 1; i < MOON_REDIS_HOSTS_MAX; i++)
        moon_buf_printf(&text, ",h%d", i);
    assert_int_equal(
        moon_redis_url_parse(moon_buf_str(&text), &url, error, sizeof(error)),
        MOON_OK);
    assert_string_equal(url->hosts[31].hostz, "h31");
    free(url);
    moon_buf_addz(&text, ",more");
    assert_int_equal(
        moon_redis_url_parse(moon_buf_str(&text), &url, error, sizeof(error)),
        MOON_EINVAL);
    moon_buf_deinit(&text);
}

/* ---- slots ---- */

/* Values of CLUSTER KEYSLOT. */
static void slots(void **state)
{
    (void)state;
    assert_int_equal(moon_redis_slot(MOON_STR("")), 0);
    assert_int_equal(moon_redis_slot(MOON_STR("123456789")), 0x31c3);
    assert_int_equal(moon_redis_slot(MOON_STR("foo")), 12182);
    assert_int_equal(moon_redis_slot(MOON_STR("hello")), 866);
    assert_int_equal(moon_redis_slot(MOON_STR("somekey")), 11058);
    assert_int_equal(moon_redis_slot(MOON_STR("foo{hash_tag}")), 2515);
    assert_int_equal(moon_redis_slot(MOON_STR("bar{hash_tag}")), 2515);
    assert_int_equal(moon_redis_slot(MOON_STR("{foo}.x{bar}")), 12182);
    /* No tag: nothing in it, or it is not closed. */
    assert_int_not_equal(moon_redis_slot(MOON_STR("a{}foo")), 12182);
    assert_int_not_equal(moon_redis_slot(MOON_STR("{foo")), 12182);
    assert_int_equal(moon_redis_slot(MOON_STR("{}{foo}")),
                     moon_redis_slot(MOON_STR("{}{foo}")));
    assert_int_not_equal(moon_redis_slot(MOON_STR("{}{foo}")), 12182);
    /* The first "{" and the first "}" behind it. */
    assert_int_equal(moon_redis_slot(MOON_STR("}{foo}")), 12182);
    assert_int_equal(moon_redis_slot(MOON_STR("{{foo}}")),
                     moon_redis_slot(MOON_STR("{foo")));
}

/* ---- commands ---- */

static void commands(void **state)
{
    const struct moon_str argv[] = {MOON_STR("SET"), MOON_STR("a\r\n\0b"),
                                    MOON_STR("")};
    struct moon_buf bytes = {0};
    char *theirs = NULL;
    (void)state;
    moon_redis_add_command(&bytes, argv, 3);
    assert_true(bytes.len <= moon_redis_command_size(argv, 3));
    int len = redisFormatCommandArgv(
        &theirs, 3, (const char *[]){argv[0].ptr, argv[1].ptr, argv[2].ptr},
        (size_t[]){argv[0].len, argv[1].len, argv[2].len});
    assert_int_equal(bytes.len, len);
    assert_memory_equal(bytes.ptr, theirs, bytes.len);
    redisFreeCommand(theirs);
    moon_buf_deinit(&bytes);
}

/* ---- replies ---- */

static const char stream[] = "+OK\r\n"
                             "-ERR no such thing\r\n"
                             ":-7\r\n"
                             "$5\r\na\r\n\0b\r\n"
                             "$-1\r\n"
                             "*3\r\n$1\r\nx\r\n*1\r\n:1\r\n$0\r\n\r\n"
                             "*0\r\n";

static void check_stream(size_t i, const redisReply *reply)
{
    static const int types[] = {REDIS_REPLY_STATUS,  REDIS_REPLY_ERROR,
                                REDIS_REPLY_INTEGER, REDIS_REPLY_STRING,
                                REDIS_REPLY_NIL,     REDIS_REPLY_ARRAY,
                                REDIS_REPLY_ARRAY};
    assert_int_equal(reply->type, types[i]);
    if (i == 1) {
        assert_true(moon_redis_is_error(reply));
        assert_true(moon_redis_is_error_of(reply, "ERR"));
        assert_false(moon_redis_is_error_of(reply, "ER"));
    } else if (i == 3) {
        assert_memory_equal(reply->str, "a\r\n\0b", 5);
    } else if (i == 5) {
        assert_int_equal(reply->elements, 3);
        assert_true(moon_str_eq(moon_redis_text(moon_redis_item(reply, 0)),
                                MOON_STR("x")));
        assert_null(moon_redis_item(reply, 3));
        assert_null(moon_redis_item(moon_redis_item(reply, 0), 0));
    }
}

/* Cut into pieces of every size. */
static void replies_in_pieces(void **state)
{
    const struct moon_wire_codec *codec = &moon_redis_codec;
    (void)state;
    for (size_t piece = 1; piece < sizeof(stream); piece++) {
        void *reader = codec->create();
        size_t seen = 0;
        for (size_t at = 0; at < sizeof(stream) - 1; at += piece) {
            size_t left = sizeof(stream) - 1 - at;
            void *reply = NULL;
            const char *whyz = NULL;
            assert_int_equal(
                codec->feed(reader, stream + at, left < piece ? left : piece),
                MOON_OK);
            while (codec->next(reader, &reply, &whyz) == MOON_OK) {
                check_stream(seen++, reply);
                codec->release(reply);
            }
            assert_null(whyz);
        }
        assert_int_equal(seen, 7);
        codec->destroy(reader);
    }
}

static void malformed(void **state)
{
    static const char *const cases[] = {
        "HTTP/1.1 400 Bad Request\r\n", "%1\r\n", ":x\r\n", "$x\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    const struct moon_wire_codec *codec = &moon_redis_codec;
    (void)state;
    for (size_t i = 0; i < MOON_COUNT(cases); i++) {
        void *reader = codec->create();
        void *reply = NULL;
        const char *whyz = NULL;
        assert_int_equal(codec->feed(reader, cases[i], strlen(cases[i])),
                         MOON_OK);
        assert_int_equal(codec->next(reader, &reply, &whyz), MOON_EPROTO);
        assert_non_null(whyz);
        assert_null(reply);
        codec->destroy(reader);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),           cmocka_unit_test(bad_urls),
        cmocka_unit_test(too_many_hosts), cmocka_unit_test(slots),
        cmocka_unit_test(commands),       cmocka_unit_test(replies_in_pieces),
        cmocka_unit_test(malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
