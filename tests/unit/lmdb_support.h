/* An LMDB environment in a temporary directory, without a store around it. */
#ifndef MOON_TESTS_LMDB_SUPPORT_H
#define MOON_TESTS_LMDB_SUPPORT_H

#include "state/lmdb_env.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HOUR_MS = 3600 * 1000, SIZE_BYTES = 64 * 1024 * 1024 };

#define NOW_MS ((int64_t)1800000000000) /* 2027 */

static char test_dir[64];

static inline void make_test_dir(void)
{
    /* In memory if possible: the tests write whole files again and again. */
    const char *parentz = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(test_dir, sizeof(test_dir), "%s/moonshine-test-XXXXXX",
                   parentz);
    assert_non_null(mkdtemp(test_dir));
}

static inline void remove_test_dir(void)
{
    DIR *dir = opendir(test_dir);
    assert_non_null(dir);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    (void)closedir(dir);
    assert_int_equal(rmdir(test_dir), 0);
}

static inline struct moon_lmdb_env *open_env(uint64_t size_bytes)
{
    struct moon_lmdb_env *env;
    char why[MOON_SESSION_WHY] = "";
    int rc = moon_lmdb_env_open(
        &(struct moon_lmdb_env_options){.dirz = test_dir,
                                        .size_bytes = size_bytes},
        &env, why);
    assert_string_equal(why, "");
    assert_int_equal(rc, 0);
    return env;
}

/* The name of a file in it. */
static inline const char *test_path(const char *namez)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", test_dir, namez);
    return path;
}

static inline struct moon_session_key key_of(uint32_t number)
{
    /* Spread as hashes are. */
    struct moon_session_key key;
    uint64_t state = number + 1;
    for (size_t i = 0; i < sizeof(key.bytes); i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        key.bytes[i] = (unsigned char)(state >> 56);
    }
    return key;
}

#endif
