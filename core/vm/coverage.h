/* Which lines of Lua ran: for our tests (MOONSHINE_COVERAGE=DIR in the
 * environment) and for `moonshine test --coverage`.
 *
 * Counts the framework's files and the .lua files of the application, in every
 * VM of the process, by a debug hook on lines; the compiler is off, because
 * compiled code calls no hook. One store a process, any thread. Once it is on
 * it stays on. Nothing here fails a VM: what cannot be counted is not. */
#ifndef MOON_VM_COVERAGE_H
#define MOON_VM_COVERAGE_H

#include "base/archive.h"
#include "vm/budget.h"

/* Are lines counted in this process? */
bool moon_coverage_is_on(void);
/* From now on, and the report goes to this descriptor (borrowed), too. */
void moon_coverage_to(int fd);

/* A new VM, before it loads anything: its lines count from now on. Protected:
 * may raise. The hook is the trap's `rest`. */
void moon_coverage_open(struct lua_State *L, struct moon_trap *trap,
                        const struct moon_archive *files, uint64_t generation);

/* At the end of the process: writes what ran, to a new file in DIR and to the
 * descriptor. Text, per file three lines:
 *     file moonshine/app.lua
 *     can 3-5 9              (lines that could run)
 *     ran 3-4
 * in sorted order of names. The VMs must not run meanwhile. */
void moon_coverage_write(void);

#endif
