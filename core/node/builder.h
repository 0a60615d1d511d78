/* The builder: one thread of a worker, at low priority, that does what would
 * hold up requests: loading an application into a new VM, closing an old one.
 *
 * Jobs run one after another; each answers once, on the loop. A VM belongs to
 * the builder from the call until the answer. Created and called on the loop
 * thread. */
#ifndef MOON_NODE_BUILDER_H
#define MOON_NODE_BUILDER_H

#include "node/release.h"
#include "vm/vm.h"

#include <uv.h>

struct moon_builder;
struct moon_budget;

/* `vm` is NULL if the load failed, with the reason in `error`, borrowed. */
typedef void moon_builder_built(void *ctx, struct moon_vm *vm,
                                struct moon_str error);

MOON_MUST_CHECK enum moon_err moon_builder_create(uv_loop_t *loop,
                                                  struct moon_budget *budget,
                                                  struct moon_builder **out);
/* The release is kept until its VM was closed; `options` is copied, what it
 * points to must live as long as the VM. */
MOON_MUST_CHECK enum moon_err moon_builder_build(
    struct moon_builder *builder, struct moon_release *release,
    const struct moon_vm_options *options, moon_builder_built *built,
    void *ctx);
/* Closes an idle VM, gives its memory back to the system, and drops the
 * reference to the release that it was built from. */
void moon_builder_close_vm(struct moon_builder *builder, struct moon_vm *vm,
                           struct moon_release *release);
/* Gives free memory back to the system. */
void moon_builder_release_pages(struct moon_builder *builder);
/* Jobs not answered yet. */
uint32_t moon_builder_pending(const struct moon_builder *builder);
/* All jobs must have been answered. `closed` fires once the handle is gone and
 * the builder is freed. */
void moon_builder_destroy(struct moon_builder *builder,
                          void (*closed)(void *ctx), void *ctx);

#endif
