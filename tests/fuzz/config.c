/* Configuration: config.lua, values as they come from the environment or an
 * option, and bytes from the process that evaluated it. By the first byte of
 * the input: 'l' Lua; 's' lines of key=value; all else serialised bytes. */
#include "fuzz.h"

#include "base/config.h"
#include "vm/config_eval.h"

enum { ERROR = 512 };

static struct moon_buf bytes_of(const struct moon_config *config)
{
    struct moon_buf bytes = {0};
    moon_config_serialise(config, &bytes);
    FUZZ_CHECK(!bytes.failed);
    return bytes;
}

/* What is parsed from its bytes is the same. */
static void check_serialised(const struct moon_config *config)
{
    char error[ERROR] = "";
    struct moon_config *again = NULL;
    struct moon_buf bytes = bytes_of(config);
    struct moon_str copy = fuzz_copy(moon_buf_str(&bytes));
    FUZZ_CHECK(moon_config_parse(copy, &again, error, sizeof(error)) ==
               MOON_OK);
    struct moon_buf more = bytes_of(again);
    FUZZ_CHECK(moon_str_eq(moon_buf_str(&bytes), moon_buf_str(&more)));
    fuzz_free(copy);
    moon_buf_deinit(&bytes);
    moon_buf_deinit(&more);
    moon_config_destroy(again);
}

/* What is printed can be set, and then prints the same. Masked it holds no
 * secret. */
static void check_printed(const struct moon_config *config)
{
    char error[ERROR] = "";
    struct moon_config *again = moon_config_create();
    FUZZ_CHECK(again != NULL);
    for (uint32_t i = 0; moon_config_key(i) != NULL; i++) {
        struct moon_buf text = {0}, more = {0};
        if (config->levels[i] == MOON_CONFIG_DEFAULT)
            continue;
        moon_config_print(config, i, false, &text);
        enum moon_err err = moon_config_set(
            again, moon_strz(moon_config_key(i)), moon_buf_str(&text),
            MOON_CONFIG_FILE, "again", error, sizeof(error));
        if (err != MOON_OK)
            (void)fprintf(stderr, "%s = %.*s: %s\n", moon_config_key(i),
                          MOON_STR_ARG(moon_buf_str(&text)), error);
        FUZZ_CHECK(err == MOON_OK);
        moon_config_print(again, i, false, &more);
        FUZZ_CHECK(moon_str_eq(moon_buf_str(&text), moon_buf_str(&more)));
        moon_buf_deinit(&text);
        moon_buf_deinit(&more);
    }
    moon_config_destroy(again);
}

static void check_config(const struct moon_config *config)
{
    check_serialised(config);
    check_printed(config);
}

static void check_lua(struct moon_str text)
{
    char error[ERROR] = "";
    struct moon_config *config = moon_config_create();
    struct moon_str copy = fuzz_copy(text);
    FUZZ_CHECK(config != NULL);
    enum moon_err err =
        moon_config_eval(config, copy, "config.lua", error, sizeof(error));
    FUZZ_CHECK((err == MOON_OK) == (error[0] == '\0'));
    if (err == MOON_OK)
        check_config(config);
    fuzz_free(copy);
    moon_config_destroy(config);
}

static void check_set(struct fuzz_bytes *bytes)
{
    struct moon_config *config = moon_config_create();
    FUZZ_CHECK(config != NULL);
    while (fuzz_left(bytes) > 0) {
        char error[ERROR] = "";
        struct moon_str value;
        struct moon_str key =
            moon_str_cut(fuzz_until(bytes, '\n'), '=', &value);
        struct moon_str copy = fuzz_copy(value);
        enum moon_err err = moon_config_set(config, key, copy, MOON_CONFIG_ENV,
                                            "test", error, sizeof(error));
        FUZZ_CHECK((err == MOON_OK) == (error[0] == '\0'));
        fuzz_free(copy);
    }
    check_config(config);
    moon_config_destroy(config);
}

static void check_parse(struct moon_str bytes)
{
    char error[ERROR] = "";
    struct moon_config *config = NULL;
    struct moon_str copy = fuzz_copy(bytes);
    enum moon_err err = moon_config_parse(copy, &config, error, sizeof(error));
    FUZZ_CHECK((err == MOON_OK) == (config != NULL));
    if (err == MOON_OK)
        check_serialised(config);
    fuzz_free(copy);
    moon_config_destroy(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_bytes bytes = fuzz_bytes(data, size);
    switch (fuzz_byte(&bytes)) {
    case 'l':
        check_lua(fuzz_str(bytes.at, fuzz_left(&bytes)));
        break;
    case 's':
        check_set(&bytes);
        break;
    default:
        check_parse(fuzz_str(data, size));
        break;
    }
    return 0;
}
