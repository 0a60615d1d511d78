/* Runs a fuzz target over files and folders instead of under libFuzzer, with
 * any compiler: seeds and past findings as an ordinary test.
 *
 *   fuzz_NAME FILE-OR-FOLDER...   a folder that is not there counts as empty
 *
 * With MOONSHINE_CORPORA in the environment that folder comes too. */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

enum { PATH_SIZE = 4096 };

/* A target that needs none has none. */
#pragma weak LLVMFuzzerInitialize

static unsigned replayed;

static void replay_file(const char *pathz, size_t size)
{
    FILE *file = fopen(pathz, "rb");
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    if (file == NULL || bytes == NULL || fread(bytes, 1, size, file) != size) {
        (void)fprintf(stderr, "cannot read %s\n", pathz);
        exit(1);
    }
    (void)fclose(file);
    /* Who aborts has this as its last line. */
    (void)fprintf(stderr, "%s\n", pathz);
    (void)LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    replayed++;
}

static void replay(const char *pathz)
{
    struct stat st;
    if (stat(pathz, &st) != 0) {
        if (errno == ENOENT)
            return;
        (void)fprintf(stderr, "cannot read %s\n", pathz);
        exit(1);
    }
    if (!S_ISDIR(st.st_mode)) {
        replay_file(pathz, (size_t)st.st_size);
        return;
    }
    struct dirent **names;
    int count = scandir(pathz, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[PATH_SIZE];
        int len =
            snprintf(path, sizeof(path), "%s/%s", pathz, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && len < PATH_SIZE)
            replay(path);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        (void)LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    const char *corporaz = getenv("MOONSHINE_CORPORA");
    if (corporaz != NULL && corporaz[0] != '\0')
        replay(corporaz);
    (void)printf("%u inputs\n", replayed);
    return replayed > 0 ? 0 : 1;
}
