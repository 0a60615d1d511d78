/* --dev: what is known of an application that does not load, as JSON (the
 * facts), and the page that shows it.
 *
 * A VM that fails to load describes the failure itself, with frames and locals
 * (moon_vm_options.report); these two are for when no VM is left or ever was.
 * Each makes a bare Lua state with the framework's dev modules and no
 * application, and closes it; a few milliseconds. Any thread. */
#ifndef MOON_VM_DEV_REPORT_H
#define MOON_VM_DEV_REPORT_H

#include "base/archive.h"
#include "base/buf.h"

/* Facts about a failure of which only the text is known: message, then a
 * traceback if it has one. Lines that it names are cut out of `files` (may be
 * NULL). Appends JSON to `facts`. */
MOON_MUST_CHECK enum moon_err moon_dev_facts(struct moon_str text,
                                             const struct moon_archive *files,
                                             struct moon_buf *facts);

/* Appends the page for facts. They may come from a process that ran foreign
 * code: MOON_ELUA or MOON_EPROTO if they are none. */
MOON_MUST_CHECK enum moon_err moon_dev_page(struct moon_str facts,
                                            struct moon_buf *html);

/* The Content-Security-Policy that the page needs and no more. */
extern const char moon_dev_policy[];

#endif
