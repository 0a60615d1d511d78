#include "vm/vm_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files that a VM reads: from its generation's archive; the probe, which finds
 * out what the archive lacks, also from disk, and keeps a list. */

enum { FILE_MAX = 64 << 20 };

/* The whole of a regular file, kept under `name`; NULL if it cannot be
 * read. */
static struct moon_vm_file *read_file(const char *pathz, struct moon_str name)
{
    struct stat st;
    int fd = open(pathz, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    struct moon_vm_file *file = NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= FILE_MAX)
        file = malloc(sizeof(*file) + name.len + (size_t)st.st_size);
    if (file != NULL) {
        char *text = (char *)(file + 1);
        memcpy(text, name.ptr, name.len);
        ssize_t got = read(fd, text + name.len, (size_t)st.st_size);
        file->name = moon_str(text, name.len);
        file->bytes = moon_str(text + name.len, got > 0 ? (size_t)got : 0);
        if (got < 0) {
            free(file);
            file = NULL;
        }
    }
    (void)close(fd);
    return file;
}

bool moon_vm_find_file(struct moon_vm *vm, struct moon_str name,
                       struct moon_str *bytes)
{
    char pathz[4096];
    if (moon_archive_find(vm->options.files, name, bytes))
        return true;
    if (!vm->options.probe || name.len == 0)
        return false;
    int len = name.ptr[0] == '/'
                  ? snprintf(pathz, sizeof(pathz), "%.*s", MOON_STR_ARG(name))
                  : snprintf(pathz, sizeof(pathz), "%s/%.*s",
                             vm->options.app_dirz, MOON_STR_ARG(name));
    if (len < 0 || (size_t)len >= sizeof(pathz))
        return false;
    for (struct moon_vm_file *file = vm->outside; file; file = file->next) {
        if (moon_str_eq(file->name, name)) {
            *bytes = file->bytes;
            return true;
        }
    }
    struct moon_vm_file *file = read_file(pathz, name);
    if (file == NULL)
        return false;
    file->next = vm->outside;
    vm->outside = file;
    *bytes = file->bytes;
    return true;
}

bool moon_vm_outside(const struct moon_vm *vm, uint32_t index,
                     struct moon_str *path)
{
    const struct moon_vm_file *file = vm->outside;
    while (file != NULL && index > 0) {
        file = file->next;
        index--;
    }
    if (file == NULL)
        return false;
    *path = file->name;
    return true;
}
