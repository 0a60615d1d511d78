/* Replies of a store through a codec of state/wire.h: in one piece and cut at
 * random, which must make no difference. */
#ifndef MOON_TESTS_FUZZ_CODEC_H
#define MOON_TESTS_FUZZ_CODEC_H

#include "fuzz.h"

#include "state/wire.h"

/* Describes a reply, so that two can be compared; checks what holds of it. */
typedef void codec_tell(const void *reply, struct moon_buf *to);

/* All replies of `bytes`, as text. `step`: how many come at once; 0: at
 * random. */
static MOON_UNUSED struct moon_buf codec_run(
    const struct moon_wire_codec *codec, struct moon_str bytes, size_t step,
    uint64_t seed, codec_tell *tell)
{
    struct moon_buf told = {0};
    void *reader = codec->create(), *reply = NULL;
    const char *whyz = NULL;
    enum moon_err err = MOON_EAGAIN;
    FUZZ_CHECK(reader != NULL);
    for (size_t at = 0; at < bytes.len && err == MOON_EAGAIN;) {
        size_t len = step > 0 ? step : 1 + fuzz_random(&seed) % 12;
        len = len < bytes.len - at ? len : bytes.len - at;
        struct moon_str copy = fuzz_copy(moon_str(bytes.ptr + at, len));
        FUZZ_CHECK(codec->feed(reader, copy.ptr, len) == MOON_OK);
        fuzz_free(copy);
        at += len;
        while ((err = codec->next(reader, &reply, &whyz)) == MOON_OK) {
            FUZZ_CHECK(reply != NULL);
            tell(reply, &told);
            codec->release(reply);
        }
    }
    FUZZ_CHECK(err == MOON_EAGAIN || whyz != NULL);
    moon_buf_printf(&told, "end %d", (int)err);
    codec->destroy(reader);
    FUZZ_CHECK(!told.failed);
    return told;
}

static MOON_UNUSED void codec_compare(const struct moon_wire_codec *codec,
                                      struct moon_str bytes, codec_tell *tell)
{
    struct moon_buf whole = codec_run(codec, bytes, bytes.len, 0, tell);
    for (size_t step = 0; step < 2; step++) {
        struct moon_buf cut =
            codec_run(codec, bytes, step, fuzz_seed(bytes), tell);
        FUZZ_CHECK(moon_str_eq(moon_buf_str(&whole), moon_buf_str(&cut)));
        moon_buf_deinit(&cut);
    }
    moon_buf_deinit(&whole);
}

#endif
