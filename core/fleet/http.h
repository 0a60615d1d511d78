/* The little HTTP/1.1 a command needs: one request, one answer, then close. */
#ifndef MOON_FLEET_HTTP_H
#define MOON_FLEET_HTTP_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/errcode.h"

/* Sends `request` over `fd` (borrowed) and reads the answer until its end:
 * status and body. A receive timeout
 * of the socket holds (MOON_ETIMEOUT). MOON_ECLOSED if the node went away
 * before that, MOON_EPROTO if it does not speak HTTP. */
MOON_MUST_CHECK enum moon_err moon_fleet_exchange(int fd,
                                                  struct moon_str request,
                                                  int *status,
                                                  struct moon_buf *body);

/* The same on bytes already there, for tests. */
MOON_MUST_CHECK enum moon_err moon_fleet_parse(struct moon_str answer,
                                               int *status,
                                               struct moon_str *body);

#endif
