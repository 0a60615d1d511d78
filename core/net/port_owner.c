#include "net/port_owner.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Inode of a listening socket with that port, 0 if none. Lines look like
 * "0: 0100007F:1F90 00000000:0000 0A ... uid timeout inode ...". */
static unsigned long find_inode(const char *pathz, uint16_t port)
{
    char line[512];
    unsigned long found = 0;
    FILE *file = fopen(pathz, "re");
    if (file == NULL)
        return 0;
    while (found == 0 && fgets(line, sizeof(line), file) != NULL) {
        unsigned local, state;
        unsigned long inode;
        if (sscanf(line,
                   "%*d: %*[0-9A-F]:%X %*[0-9A-F]:%*X %X %*s %*s %*s %*s %*s "
                   "%lu",
                   &local, &state, &inode) == 3 &&
            local == port && state == 0x0a)
            found = inode;
    }
    (void)fclose(file);
    return found;
}

static bool holds(const char *pidz, const char *wantz)
{
    char pathz[300];
    (void)snprintf(pathz, sizeof(pathz), "/proc/%s/fd", pidz);
    DIR *dir = opendir(pathz);
    if (dir == NULL)
        return false;
    bool found = false;
    struct dirent *entry;
    while (!found && (entry = readdir(dir)) != NULL) {
        char linkz[64];
        ssize_t len =
            readlinkat(dirfd(dir), entry->d_name, linkz, sizeof(linkz) - 1);
        if (len > 0) {
            linkz[len] = '\0';
            found = strcmp(linkz, wantz) == 0;
        }
    }
    (void)closedir(dir);
    return found;
}

static void describe(const char *pidz, char *to, size_t size)
{
    char pathz[300], namez[32] = "a process";
    (void)snprintf(pathz, sizeof(pathz), "/proc/%s/comm", pidz);
    FILE *file = fopen(pathz, "re");
    if (file != NULL) {
        if (fgets(namez, sizeof(namez), file) != NULL)
            namez[strcspn(namez, "\n")] = '\0';
        (void)fclose(file);
    }
    (void)snprintf(to, size, "%s (process %.10s)", namez, pidz);
}

bool moon_port_owner(uint16_t port, char *to, size_t size)
{
    char wantz[64];
    unsigned long inode = find_inode("/proc/net/tcp", port);
    if (inode == 0)
        inode = find_inode("/proc/net/tcp6", port);
    if (port == 0 || inode == 0)
        return false;
    (void)snprintf(wantz, sizeof(wantz), "socket:[%lu]", inode);
    DIR *dir = opendir("/proc");
    if (dir == NULL)
        return false;
    bool found = false;
    struct dirent *entry;
    while (!found && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            holds(entry->d_name, wantz)) {
            describe(entry->d_name, to, size);
            found = true;
        }
    }
    (void)closedir(dir);
    return found;
}
