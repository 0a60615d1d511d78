/* STATE_DIR/secret: made once, whoever comes first, and refused when damaged.
 */
#include "node/secret.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { RACERS = 16 };

static char root[] = "/tmp/moonshine-unit-XXXXXX";
static char dir[64], file[80];
static struct moon_buf why;

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/moonshine-unit-XXXXXX");
    if (mkdtemp(root) == NULL)
        return 1;
    (void)snprintf(dir, sizeof(dir), "%s/a/b", root);
    (void)snprintf(file, sizeof(file), "%s/secret", dir);
    return 0;
}

static int tear_down(void **state)
{
    char line[100];
    (void)state;
    moon_buf_deinit(&why);
    (void)snprintf(line, sizeof(line), "rm -rf %s", root);
    return system(line);
}

static bool why_has(const char *wordsz)
{
    moon_buf_add_char(&why, '\0');
    return why.ptr != NULL && strstr(why.ptr, wordsz) != NULL;
}

static void put(const char *textz, mode_t mode)
{
    char secretz[MOON_SECRET_SIZE];
    if (access(file, F_OK) != 0)
        assert_int_equal(moon_secret_get(dir, secretz, &why), MOON_OK);
    FILE *out = fopen(file, "we");
    assert_non_null(out);
    (void)fputs(textz, out);
    (void)fclose(out);
    assert_int_equal(chmod(file, mode), 0);
}

static void is_made_once(void **state)
{
    char first[MOON_SECRET_SIZE], second[MOON_SECRET_SIZE];
    struct stat st;
    (void)state;
    assert_int_equal(moon_secret_get(dir, first, &why), MOON_OK);
    assert_int_equal(strlen(first), 64);
    assert_int_equal(strspn(first, "0123456789abcdef"), 64);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 65);
    assert_int_equal(st.st_nlink, 1); /* nothing is left aside */
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(moon_secret_get(dir, second, &why), MOON_OK);
    assert_string_equal(first, second);
    assert_int_equal(why.len, 0);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(moon_secret_get(dir, second, &why), MOON_OK);
    assert_string_not_equal(first, second);
}

/* All wait at a gate, then go at once. */
static void racers_agree(void **state)
{
    (void)state;
    char(*got)[MOON_SECRET_SIZE] =
        mmap(NULL, sizeof(*got) * RACERS, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(got != MAP_FAILED);
    int gate[2], status;
    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    pid_t pids[RACERS];
    for (int i = 0; i < RACERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] > 0)
            continue;
        (void)close(gate[1]);
        (void)!read(gate[0], got[i], 1); /* until the parent closes it */
        _exit(moon_secret_get(dir, got[i], &why) == MOON_OK ? 0 : 1);
    }
    (void)close(gate[0]);
    (void)close(gate[1]);
    for (int i = 0; i < RACERS; i++) {
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
        assert_int_equal(strlen(got[i]), 64);
        assert_string_equal(got[i], got[0]);
    }
    (void)munmap(got, sizeof(*got) * RACERS);
}

static void other_lines_are_taken(void **state)
{
    char secretz[MOON_SECRET_SIZE];
    (void)state;
    put("correct horse battery staple\r\n\n", 0600);
    assert_int_equal(moon_secret_get(dir, secretz, &why), MOON_OK);
    assert_string_equal(secretz, "correct horse battery staple");
    assert_int_equal(why.len, 0);
    put("correct horse battery staple", 0640);
    assert_int_equal(moon_secret_get(dir, secretz, &why), MOON_OK);
    assert_true(why_has("open to other users"));
    assert_false(why_has("horse"));
}

static void damage_is_told(void **state)
{
    char secretz[MOON_SECRET_SIZE], longer[MOON_SECRET_SIZE + 1];
    (void)state;
    memset(longer, 'x', sizeof(longer));
    longer[MOON_SECRET_SIZE] = '\0';
    const char *const bad[] = {"", "\n", "0123456789abcde\n", longer};
    for (size_t i = 0; i < MOON_COUNT(bad); i++) {
        why.len = 0;
        put(bad[i], 0600);
        assert_int_equal(moon_secret_get(dir, secretz, &why), MOON_EPROTO);
        assert_true(why_has("/secret: no line of 16 to 512 characters"));
    }
}

static void no_place_for_it(void **state)
{
    char secretz[MOON_SECRET_SIZE], other[100];
    (void)state;
    (void)snprintf(other, sizeof(other), "%s/file", root);
    int fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_not_equal(moon_secret_get(other, secretz, &why), MOON_OK);
    assert_true(why_has("cannot keep a secret in"));
    /* A link is not followed: it may lead to what somebody else can read. */
    put("", 0600);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(symlink(other, file), 0);
    why.len = 0;
    assert_int_not_equal(moon_secret_get(dir, secretz, &why), MOON_OK);
    assert_true(why_has("cannot keep a secret in"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(is_made_once),          TEST(racers_agree),
        TEST(other_lines_are_taken), TEST(damage_is_told),
        TEST(no_place_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
