/* Executes a new binary for an upgrade: which one, and what it is given. */
#include "node/master_internal.h"

#include "node/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what to execute ---- */

static bool is_program(const char *pathz)
{
    struct stat st;
    return access(pathz, X_OK) == 0 && stat(pathz, &st) == 0 &&
           S_ISREG(st.st_mode);
}

static char *join(struct moon_str dir, const char *namez)
{
    struct moon_buf path = {0};
    if (dir.len == 0 || dir.ptr[0] != '/') {
        char *cwdz = getcwd(NULL, 0);
        moon_buf_printf(&path, "%s/", cwdz != NULL ? cwdz : "");
        free(cwdz);
    }
    moon_buf_printf(&path, "%.*s%s%s", MOON_STR_ARG(dir),
                    dir.len > 0 ? "/" : "", namez);
    moon_buf_add_char(&path, '\0');
    if (path.failed)
        moon_buf_deinit(&path);
    return path.ptr;
}

/* As execvp found us: links in it are followed when it is executed anew. */
static char *find_program(const char *argz)
{
    if (argz[0] == '/')
        return strdup(argz);
    if (strchr(argz, '/') != NULL)
        return join(MOON_STR_NONE, argz);
    const char *pathz = getenv("PATH");
    struct moon_str rest = moon_strz(pathz != NULL ? pathz : "");
    while (rest.len > 0) {
        char *foundz = join(moon_str_cut(rest, ':', &rest), argz);
        if (foundz != NULL && is_program(foundz))
            return foundz;
        free(foundz);
    }
    return NULL;
}

void moon_upgrade_init(struct moon_master *master, char **argv)
{
    struct moon_upgrade *upgrade = &master->upgrade;
    upgrade->fd = -1;
    upgrade->argv = argv;
    upgrade->pathz = find_program(argv[0]);
}

/* ---- the inventory ---- */

static void list_socket(const struct moon_listener *l,
                        struct moon_inventory_socket *to)
{
    to->fd = l->fd;
    to->managed = l->managed;
    (void)snprintf(to->wantedz, sizeof(to->wantedz), "%s", l->wantedz);
}

static void list_all(struct moon_master *master, int channel_fd,
                     struct moon_inventory *to)
{
    moon_inventory_init(to);
    (void)snprintf(to->versionz, sizeof(to->versionz), "%s", MOON_VERSION);
    to->pid = getpid();
    to->generation = master->current->generation;
    to->side = master->side;
    to->slot_first = master->first_slot;
    to->slot_count = master->place_count;
    to->channel_fd = channel_fd;
    to->shm_fd = master->shm_fd;
    to->region_fd = master->region_fd;
    to->pid_fd = master->pid_fd;
    (void)snprintf(to->pid_pathz, sizeof(to->pid_pathz), "%s",
                   master->pid_pathz);
    (void)snprintf(to->memory_dirz, sizeof(to->memory_dirz), "%s",
                   master->memory_dir);
    const struct moon_listener *admin = moon_admin_listener(master);
    if (admin != NULL)
        list_socket(admin, &to->admin);
    for (uint32_t i = 0; i < master->listener_count; i++)
        list_socket(&master->listeners[i], &to->sockets[to->socket_count++]);
}

enum { KEPT_MAX = MOON_LISTEN_MAX + 6 };

static size_t list_descriptors(const struct moon_inventory *inventory,
                               int memory_fd, int kept[KEPT_MAX])
{
    size_t count = 0;
    kept[count++] = memory_fd;
    kept[count++] = inventory->channel_fd;
    kept[count++] = inventory->shm_fd;
    kept[count++] = inventory->region_fd;
    kept[count++] = inventory->pid_fd;
    if (inventory->admin.fd >= 0)
        kept[count++] = inventory->admin.fd;
    for (uint32_t i = 0; i < inventory->socket_count; i++)
        kept[count++] = inventory->sockets[i].fd;
    return count;
}

/* ---- the child ---- */

/* What a program that somebody starts by hand would find. */
static void restore_signals(void)
{
    sigset_t set;
    moon_process_signal_set(&set);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

MOON_NORETURN static void execute(const struct moon_master *master,
                                  const struct moon_inventory *inventory,
                                  int memory_fd)
{
    int kept[KEPT_MAX];
    size_t count = list_descriptors(inventory, memory_fd, kept);
    char number[16];
    (void)setpgid(0, 0); /* so that it can be ended with its children */
    for (size_t i = 0; i < count; i++)
        (void)fcntl(kept[i], F_SETFD, 0);
    (void)snprintf(number, sizeof(number), "%d", memory_fd);
    (void)setenv(MOON_UPGRADE_VARIABLE, number, 1);
    moon_notify_export(&master->notify, getpid());
    restore_signals();
    (void)execv(master->upgrade.pathz, master->upgrade.argv);
    struct moon_buf text = {0};
    moon_buf_printf(&text, "cannot execute %s: %s", master->upgrade.pathz,
                    strerror(errno));
    struct moon_control_msg msg;
    moon_control_msg_init(&msg, MOON_UPGRADE_FAILED);
    msg.text = moon_buf_str(&text);
    enum moon_err err = moon_control_send(inventory->channel_fd, &msg);
    _exit(err == MOON_OK ? 127 : 126);
}

pid_t moon_upgrade_spawn(struct moon_master *master, int channel_fd)
{
    static struct moon_inventory inventory; /* it holds a path */
    struct moon_buf text = {0};
    list_all(master, channel_fd, &inventory);
    moon_inventory_write(&inventory, &text);
    int fd = -1;
    if (!text.failed)
        fd = moon_control_memfd("moonshine-upgrade", moon_buf_str(&text));
    moon_buf_deinit(&text);
    if (fd < 0)
        return -1;
    int kept[KEPT_MAX];
    size_t count = list_descriptors(&inventory, fd, kept);
    pid_t pid = moon_process_fork(kept, count);
    if (pid == 0)
        execute(master, &inventory, fd);
    (void)close(fd);
    return pid;
}
