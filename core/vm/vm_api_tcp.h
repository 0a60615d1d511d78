/* moonshine.tcp: outbound sockets of the application, OpenResty's methods.
 *
 * A moon_tcp is what a Lua handle points at, freed by its finalizer on whatever
 * thread collects it. The connection in it belongs to the request (or detached
 * task) that connected, is closed when that ends, and is used on the loop
 * thread only; so a VM without tasks holds no connection. What Lua may call is
 * in vm/abi.h. */
#ifndef MOON_VM_VM_API_TCP_H
#define MOON_VM_VM_API_TCP_H

struct moon_task;

/* The task is over: closes what was connected for it. */
void moon_tcp_end_task(struct moon_task *task);

#endif
