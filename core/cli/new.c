/* new: a directory with an application that runs, tests and reloads. */
#include "cli/command.h"
#include "cli/skeleton.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    const struct moon_command *command;
    const char *dirz; /* as the user says it */
    struct moon_buf name;
    int fd;
    bool made; /* the directory is ours to remove */
};

/* The last component of an absolute path, or of one as it was typed. */
static struct moon_str last_of(struct moon_str path)
{
    while (path.len > 1 && path.ptr[path.len - 1] == '/')
        path.len--;
    size_t from = path.len;
    while (from > 0 && path.ptr[from - 1] != '/')
        from--;
    return moon_str(path.ptr + from, path.len - from);
}

static int take_name(struct place *place, const char *pathz)
{
    struct moon_str name = last_of(moon_strz(pathz));
    if (!moon_skeleton_name_ok(name))
        return moon_command_failed(
            place->command,
            "\"%.*s\" cannot be the name of an application: take letters, "
            "digits, \"_\" and \"-\", at most 64",
            MOON_STR_ARG(name));
    moon_buf_add_str(&place->name, name);
    return MOON_EXIT_OK;
}

/* A directory that is there is taken if nothing is in it. */
static int take_existing(struct place *place)
{
    char realz[PATH_MAX];
    struct moon_buf obstacle = {0};
    int exit_code;
    place->fd = open(place->dirz, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->fd < 0 || realpath(place->dirz, realz) == NULL)
        return moon_command_failed(place->command, "%s: %s", place->dirz,
                                   errno == ENOTDIR ? "is not a directory"
                                                    : strerror(errno));
    if (moon_skeleton_obstacle(place->fd, &obstacle))
        exit_code = moon_command_failed(
            place->command,
            "%s is not empty: \"%.*s\" is in the way; nothing was written",
            place->dirz, MOON_STR_ARG(moon_buf_str(&obstacle)));
    else
        exit_code = take_name(place, realz);
    moon_buf_deinit(&obstacle);
    return exit_code;
}

static int make_dir(struct place *place)
{
    struct moon_str path = moon_strz(place->dirz);
    int exit_code = take_name(place, place->dirz);
    if (exit_code != MOON_EXIT_OK)
        return exit_code;
    if (mkdir(place->dirz, 0777) != 0) {
        size_t parent = (size_t)(last_of(path).ptr - path.ptr);
        if (errno == ENOENT && parent > 0)
            return moon_command_failed(
                place->command,
                "there is no directory %.*s to make \"%.*s\" in", (int)parent,
                path.ptr, MOON_STR_ARG(moon_buf_str(&place->name)));
        return moon_command_failed(place->command, "%s: %s", place->dirz,
                                   strerror(errno));
    }
    place->made = true;
    place->fd = open(place->dirz, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->fd < 0)
        return moon_command_failed(place->command, "%s: %s", place->dirz,
                                   strerror(errno));
    return MOON_EXIT_OK;
}

/* The Lua files for editors: those the framework is loaded from, if that was
 * asked for, else those of this program. */
static void find_library(struct moon_buf *library)
{
    char exez[PATH_MAX];
    const char *ownz = getenv("MOONSHINE_LUA");
    if (ownz != NULL && realpath(ownz, exez) != NULL) {
        moon_buf_addz(library, exez);
        return;
    }
    ssize_t len = readlink("/proc/self/exe", exez, sizeof(exez));
    if (len > 0 && (size_t)len < sizeof(exez))
        (void)moon_skeleton_library(moon_str(exez, (size_t)len), library);
}

static void say_what_next(const struct place *place, bool editor)
{
    bool here = strcmp(place->dirz, ".") == 0;
    const char *gapz = here ? "" : " ", *dirz = here ? "" : place->dirz;
    (void)printf("made %zu files%s%s. Next:\n"
                 "    moonshine run --dev%s%s   # http://127.0.0.1:8080/, and "
                 "reloads when you save\n"
                 "    moonshine test%s%s        # its tests\n"
                 "    less %s%sREADME.md        # what is where, and how it "
                 "goes on a server\n",
                 moon_skeleton_count, here ? "" : " in ", dirz, gapz, dirz,
                 gapz, dirz, dirz,
                 here || dirz[strlen(dirz) - 1] == '/' ? "" : "/");
    if (!editor)
        (void)fprintf(stderr,
                      "moonshine new: Moonshine's Lua files are not beside "
                      "this program, so the editor will not know its "
                      "functions: name their folder in %s%s.luarc.json\n",
                      dirz, here ? "" : "/");
}

static int fill(struct place *place)
{
    struct moon_buf library = {0}, why = {0};
    find_library(&library);
    bool ok = moon_skeleton_write(place->fd, moon_buf_str(&place->name),
                                  moon_buf_str(&library), &why);
    if (ok)
        say_what_next(place, library.len > 0);
    else
        (void)moon_command_failed(place->command, "%s/%.*s", place->dirz,
                                  MOON_STR_ARG(moon_buf_str(&why)));
    moon_buf_deinit(&library);
    moon_buf_deinit(&why);
    return ok ? MOON_EXIT_OK : MOON_EXIT_FAILED;
}

static int make(const struct moon_command *command, const char *dirz)
{
    struct place place = {.command = command, .dirz = dirz, .fd = -1};
    struct stat st;
    int exit_code =
        stat(dirz, &st) == 0 ? take_existing(&place) : make_dir(&place);
    if (exit_code == MOON_EXIT_OK)
        exit_code = fill(&place);
    if (place.fd >= 0)
        (void)close(place.fd);
    /* Fails if something is left in it, which was said then. */
    if (exit_code != MOON_EXIT_OK && place.made)
        (void)rmdir(dirz);
    moon_buf_deinit(&place.name);
    return exit_code;
}

static int run(const struct moon_command *command, int argc, char **argv)
{
    struct moon_args args;
    const char *dirz = NULL;
    moon_args_init(&args, command, argc, argv);
    for (;;) {
        switch (moon_args_next(&args)) {
        case MOON_ARG_WORD:
            dirz = args.textz;
            break;
        case MOON_ARG_EXIT:
            return args.exit_code;
        case MOON_ARG_OPTION: /* it has none */
        case MOON_ARG_END:
        default:
            if (dirz == NULL || dirz[0] == '\0')
                return moon_usage_error(command,
                                        "which directory? For example: "
                                        "moonshine new shop");
            return make(command, dirz);
        }
    }
}

const struct moon_command moon_command_new = {
    .namez = "new",
    .usagez = "DIR",
    .summaryz = "Start a new application",
    .detailz =
        "Writes an application that runs as it is into DIR, which is made or "
        "is empty (but for .git): routes, a module, views, a style sheet, "
        "tests, configuration, and what an editor, luacheck, systemd and nginx "
        "want to know. It is called as DIR is. Nothing that is there is ever "
        "changed. The files are yours; all but app.lua may go.",
    .examplesz = "  moonshine new shop\n"
                 "  moonshine run --dev shop\n",
    .max_words = 1,
    .run = run,
};
