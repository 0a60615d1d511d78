#include "vm/coverage.h"

#include "base/log.h"
#include "base/random.h"
#include "vm/vm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lualib.h>
#include <luajit.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define COVERAGE_MODULE "moonshine.coverage"

enum { CAN_RUN = 1, HAS_RUN = 2 };

/* One file. Never freed, because hooks of any thread may be in it. */
struct covered {
    struct covered *next;
    char *chunkz; /* its chunk name: the key */
    const char *namez;
    uint64_t hash;  /* of the text that the lines belong to */
    uint64_t since; /* the generation that came with it, if it is no first */
    size_t line_count;
    _Atomic uint8_t lines[]; /* by number; 0 is not used */
};

static struct {
    pthread_mutex_t lock;
    struct covered *files; /* by name */
    struct covered *replaced;
    lua_State *L; /* finds out which lines can run */
    bool has_framework;
    int fd;
} coverage = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

/* Of this thread's last line: most lines follow one of the same file. */
static _Thread_local struct covered *last;

static const char *dirz(void)
{
    const char *z = getenv("MOONSHINE_COVERAGE");
    return z != NULL && z[0] != '\0' ? z : NULL;
}

bool moon_coverage_is_on(void)
{
    return coverage.fd >= 0 || dirz() != NULL;
}

void moon_coverage_to(int fd)
{
    coverage.fd = fd;
}

/* ---- the files; all with the lock held ---- */

static struct covered *find(const char *chunkz)
{
    struct covered *file = coverage.files;
    while (file != NULL && strcmp(file->chunkz, chunkz) != 0)
        file = file->next;
    return file;
}

static void insert(struct covered *file)
{
    struct covered **at = &coverage.files;
    while (*at != NULL && strcmp((*at)->namez, file->namez) < 0)
        at = &(*at)->next;
    struct covered *after = *at;
    /* The same file with other lines: a reload. The old lines are history. */
    if (after != NULL && strcmp(after->chunkz, file->chunkz) == 0) {
        struct covered *old = after;
        after = old->next;
        old->next = coverage.replaced;
        coverage.replaced = old;
    }
    file->next = after;
    *at = file;
}

static uint64_t hash_of(struct moon_str text)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.ptr[i]) * 0x100000001b3ull;
    return hash;
}

/* A state of its own, with moonshine/coverage.lua's function on its stack. */
static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();
    if (L == NULL)
        return NULL;
    luaL_openlibs(L);
    for (size_t i = 0; i < moon_embedded_lua_count; i++) {
        const struct moon_embedded *file = &moon_embedded_lua[i];
        if (strcmp(file->namez, COVERAGE_MODULE) == 0 &&
            luaL_loadbuffer(L, file->bytes, file->len, "=coverage") == 0 &&
            lua_pcall(L, 0, 1, 0) == 0)
            return L;
    }
    lua_close(L);
    return NULL;
}

/* From the answer of coverage.lua: at 2 the lines that can run, at 3 how many
 * lines there are. NULL without memory. */
static struct covered *make_file(lua_State *L, const char *chunkz,
                                 const char *namez)
{
    size_t count = (size_t)lua_tointeger(L, 3);
    size_t chunk_size = strlen(chunkz) + 1, name_size = strlen(namez) + 1;
    struct covered *file = calloc(1, sizeof(*file) + count + 1);
    char *copyz = malloc(chunk_size + name_size);
    if (file == NULL || copyz == NULL) {
        free(file);
        free(copyz);
        return NULL;
    }
    file->chunkz = memcpy(copyz, chunkz, chunk_size);
    file->namez = memcpy(copyz + chunk_size, namez, name_size);
    file->line_count = count;
    for (size_t i = 1; i <= lua_objlen(L, 2); i++) {
        lua_rawgeti(L, 2, (int)i);
        file->lines[lua_tointeger(L, -1)] = CAN_RUN;
        lua_pop(L, 1);
    }
    return file;
}

/* `text` without a pointer: the file that the chunk's name says. */
static void add_file(const char *chunkz, const char *namez,
                     struct moon_str text, uint64_t generation)
{
    const struct covered *before = find(chunkz);
    struct covered *file = NULL;
    uint64_t hash = hash_of(text);
    lua_State *L = coverage.L;
    if ((before != NULL && before->hash == hash) || L == NULL)
        return;
    lua_pushvalue(L, 1);
    lua_pushstring(L, chunkz);
    if (text.ptr != NULL)
        lua_pushlstring(L, text.ptr, text.len);
    if (lua_pcall(L, text.ptr != NULL ? 2 : 1, 2, 0) == 0 && lua_istable(L, 2))
        file = make_file(L, chunkz, namez);
    lua_settop(L, 1);
    if (file == NULL)
        return;
    file->hash = hash;
    file->since = before != NULL ? generation : 0;
    insert(file);
}

static void add_framework(void)
{
    const char *from = getenv("MOONSHINE_LUA");
    for (size_t i = 0; i < moon_embedded_lua_count; i++) {
        const struct moon_embedded *file = &moon_embedded_lua[i];
        char chunk[4096];
        if (strcmp(file->namez, COVERAGE_MODULE) == 0)
            continue; /* it runs in a state of its own */
        bool on_disk = from != NULL && from[0] != '\0';
        (void)snprintf(chunk, sizeof(chunk), "%s%s%s%s", on_disk ? "@" : "=",
                       on_disk ? from : "", on_disk ? "/" : "", file->pathz);
        add_file(chunk, file->pathz,
                 on_disk ? MOON_STR_NONE : moon_str(file->bytes, file->len), 0);
    }
    coverage.has_framework = true;
}

/* The application's own: not its tests, its configuration, or libraries. */
static bool is_own(struct moon_str name)
{
    return name.len > 4 && name.ptr[0] != '/' &&
           memcmp(name.ptr + name.len - 4, ".lua", 4) == 0 &&
           !moon_str_starts(name, MOON_STR("spec/")) &&
           !moon_str_starts(name, MOON_STR("lua_modules/")) &&
           !moon_str_eq(name, MOON_STR("config.lua"));
}

static void add_application(const struct moon_archive *files,
                            uint64_t generation)
{
    struct moon_str name, text;
    for (size_t i = 0; i < moon_archive_count(files); i++) {
        char chunk[4096];
        moon_archive_entry(files, i, &name, &text);
        if (is_own(name) && name.len < sizeof(chunk) - 1) {
            (void)snprintf(chunk, sizeof(chunk), "@%.*s", MOON_STR_ARG(name));
            add_file(chunk, chunk + 1, text, generation);
        }
    }
}

/* ---- lines ---- */

static void on_line(lua_State *L, lua_Debug *ar)
{
    if (ar->event != LUA_HOOKLINE || lua_getinfo(L, "S", ar) == 0)
        return;
    struct covered *file = last;
    if (file == NULL || strcmp(file->chunkz, ar->source) != 0) {
        (void)pthread_mutex_lock(&coverage.lock);
        file = find(ar->source);
        (void)pthread_mutex_unlock(&coverage.lock);
        if (file == NULL)
            return;
        last = file;
    }
    size_t line = (size_t)ar->currentline;
    const struct moon_vm *vm = moon_vm_here();
    /* Old code may go on while new code has other lines of that number. */
    if (line > file->line_count ||
        (vm != NULL && vm->options.generation < file->since))
        return;
    uint8_t mark =
        atomic_load_explicit(&file->lines[line], memory_order_relaxed);
    if (mark == CAN_RUN)
        atomic_store_explicit(&file->lines[line], CAN_RUN | HAS_RUN,
                              memory_order_relaxed);
}

void moon_coverage_open(lua_State *L, struct moon_trap *trap,
                        const struct moon_archive *files, uint64_t generation)
{
    (void)pthread_mutex_lock(&coverage.lock);
    if (coverage.L == NULL)
        coverage.L = open_state();
    if (!coverage.has_framework)
        add_framework();
    if (files != NULL)
        add_application(files, generation);
    (void)pthread_mutex_unlock(&coverage.lock);
    last = NULL; /* it may have been replaced */
    (void)luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    moon_budget_set_rest(L, trap, on_line);
}

/* ---- the report ---- */

static void add_ranges(struct moon_buf *out, const char *wordz,
                       const struct covered *file, uint8_t mark)
{
    moon_buf_addz(out, wordz);
    size_t from = 0;
    for (size_t line = 1; line <= file->line_count + 1; line++) {
        bool has =
            line <= file->line_count &&
            (atomic_load_explicit(&file->lines[line], memory_order_relaxed) &
             mark) != 0;
        if (has && from == 0) {
            from = line;
        } else if (!has && from != 0) {
            moon_buf_printf(out, from == line - 1 ? " %zu" : " %zu-%zu", from,
                            line - 1);
            from = 0;
        }
    }
    moon_buf_add_char(out, '\n');
}

static void describe(struct moon_buf *out)
{
    (void)pthread_mutex_lock(&coverage.lock);
    for (const struct covered *file = coverage.files; file; file = file->next) {
        moon_buf_printf(out, "file %s\n", file->namez);
        add_ranges(out, "can", file, CAN_RUN);
        add_ranges(out, "ran", file, HAS_RUN);
    }
    (void)pthread_mutex_unlock(&coverage.lock);
}

static bool write_all(int fd, struct moon_str bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes.ptr += n;
        bytes.len -= (size_t)n;
    }
    return true;
}

static void write_file(struct moon_str bytes)
{
    char path[4096];
    uint64_t bits;
    moon_random_bytes(&bits, sizeof(bits));
    (void)snprintf(path, sizeof(path), "%s/%d-%016" PRIx64, dirz(),
                   (int)getpid(), bits);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 || !write_all(fd, bytes))
        moon_log(MOON_LOG_WARN, "coverage: cannot write %s: %s", path,
                 strerror(errno));
    if (fd >= 0)
        (void)close(fd);
}

void moon_coverage_write(void)
{
    if (coverage.files == NULL)
        return;
    struct moon_buf text = {0};
    describe(&text);
    if (!text.failed && dirz() != NULL)
        write_file(moon_buf_str(&text));
    if (!text.failed && coverage.fd >= 0 &&
        !write_all(coverage.fd, moon_buf_str(&text)))
        moon_log(MOON_LOG_WARN, "coverage: cannot write: %s", strerror(errno));
    moon_buf_deinit(&text);
}
