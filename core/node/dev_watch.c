/* --dev: watches the application's directory and reloads on save. */
#include "node/master_internal.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Editors write in several steps: the reload waits until it is quiet. */
enum { SETTLE_MS = 100, DIRS_MAX = 1000, DEPTH_MAX = 16 };

#define WATCH_MASK                                                          \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | \
     IN_MOVE_SELF | IN_ONLYDIR)

struct moon_dev_watch {
    struct moon_master *master;
    int fd;
    uint32_t dirs;
    uv_poll_t poll;
    uv_timer_t settle;
    uint32_t open_handles;
};

static bool skipped(const char *namez)
{
    return namez[0] == '.' || strcmp(namez, "node_modules") == 0;
}

/* Only directories: the master reads no file of the application. */
static void add_tree(struct moon_dev_watch *dev, const char *pathz, int depth)
{
    if (depth > DEPTH_MAX || dev->dirs >= DIRS_MAX ||
        inotify_add_watch(dev->fd, pathz, WATCH_MASK) < 0)
        return;
    dev->dirs++;
    DIR *dir = opendir(pathz);
    if (dir == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char path[4096];
        if (entry->d_type != DT_DIR || skipped(entry->d_name))
            continue;
        int n = snprintf(path, sizeof(path), "%s/%s", pathz, entry->d_name);
        if (n > 0 && (size_t)n < sizeof(path))
            add_tree(dev, path, depth + 1);
    }
    (void)closedir(dir);
}

static void on_settled(uv_timer_t *timer)
{
    struct moon_dev_watch *dev = timer->data;
    /* New directories may have come; the same one is not watched twice. */
    dev->dirs = 0;
    add_tree(dev, dev->master->paths.dirz, 0);
    moon_log(MOON_LOG_INFO, "files changed: reload");
    moon_reload_request(dev->master, MOON_RELOAD_DISK, NULL, NULL);
}

static bool matters(const struct inotify_event *event)
{
    if (event->len == 0 || (event->mask & IN_ISDIR) != 0)
        return true;
    size_t len = strlen(event->name);
    if (skipped(event->name) || event->name[len - 1] == '~')
        return false;
    /* IN_CREATE of a file is followed by IN_CLOSE_WRITE. */
    if ((event->mask & IN_CREATE) != 0)
        return false;
    static const char *const ends[] = {".lua", ".html", ".txt", ".json", ".xml",
                                       ".svg", ".tmpl", ".csv", ".md"};
    for (size_t i = 0; i < MOON_COUNT(ends); i++) {
        size_t n = strlen(ends[i]);
        if (len > n && strcmp(event->name + len - n, ends[i]) == 0)
            return true;
    }
    return false;
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct moon_dev_watch *dev = poll->data;
    _Alignas(struct inotify_event) char buf[16384];
    bool any = false;
    for (;;) {
        ssize_t n = read(dev->fd, buf, sizeof(buf));
        if (n <= 0)
            break;
        for (char *at = buf; at < buf + n;) {
            const struct inotify_event *event = (const void *)at;
            any = any || matters(event);
            at += sizeof(*event) + event->len;
        }
    }
    if (any)
        (void)uv_timer_start(&dev->settle, on_settled, SETTLE_MS, 0);
}

void moon_dev_watch_open(struct moon_master *master)
{
    struct moon_dev_watch *dev = calloc(1, sizeof(*dev));
    if (dev == NULL)
        return;
    dev->master = master;
    dev->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (dev->fd < 0 || uv_poll_init(&master->loop, &dev->poll, dev->fd) != 0) {
        moon_log(MOON_LOG_WARN, "files are not watched: %s", strerror(errno));
        if (dev->fd >= 0)
            (void)close(dev->fd);
        free(dev);
        return;
    }
    (void)uv_timer_init(&master->loop, &dev->settle);
    dev->poll.data = dev->settle.data = dev;
    dev->open_handles = 2;
    add_tree(dev, master->paths.dirz, 0);
    (void)uv_poll_start(&dev->poll, UV_READABLE, on_event);
    master->dev = dev;
}

static void on_closed(uv_handle_t *handle)
{
    struct moon_dev_watch *dev = handle->data;
    if (--dev->open_handles > 0)
        return;
    (void)close(dev->fd);
    free(dev);
}

void moon_dev_watch_close(struct moon_master *master)
{
    struct moon_dev_watch *dev = master->dev;
    if (dev == NULL)
        return;
    master->dev = NULL;
    uv_close((uv_handle_t *)&dev->poll, on_closed);
    uv_close((uv_handle_t *)&dev->settle, on_closed);
}
