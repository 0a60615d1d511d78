#include "fleet/ask.h"

#include "base/config.h"
#include "fleet/http.h"

#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

enum { CONNECT_MS = 2000 };

static void add_token(struct moon_buf *request)
{
    struct moon_buf token = {0};
    char error[300];
    if (moon_config_env("MOONSHINE_ADMIN_TOKEN", &token, error,
                        sizeof(error)) == MOON_OK &&
        token.len > 0) {
        moon_buf_addz(request, "Authorization: Bearer ");
        moon_buf_add_str(request, moon_buf_str(&token));
        moon_buf_addz(request, "\r\n");
    }
    moon_buf_deinit(&token);
}

static enum moon_err connect_to(const struct moon_target *target,
                                uint64_t timeout_ms, int *fd,
                                struct moon_buf *error)
{
    enum moon_err err = moon_connect(&target->address, CONNECT_MS, fd);
    if (err == MOON_ENOT_FOUND)
        moon_buf_printf(error, "no node answers at %s", target->address.textz);
    else if (err != MOON_OK)
        moon_buf_printf(error, "cannot connect to %s: %s",
                        target->address.textz, moon_err_text(err));
    if (err != MOON_OK || timeout_ms == 0)
        return err;
    const struct timeval patience = {
        .tv_sec = (time_t)(timeout_ms / 1000),
        .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000)};
    (void)setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return MOON_OK;
}

enum moon_err moon_ask_node(const struct moon_target *target,
                            const struct moon_ask *ask, int *status,
                            struct moon_buf *body, struct moon_buf *error)
{
    struct moon_buf request = {0};
    int fd = -1;
    moon_buf_printf(&request,
                    "%s %s HTTP/1.1\r\nHost: moonshine\r\nAccept: %s\r\n"
                    "Content-Length: 0\r\nConnection: close\r\n",
                    ask->methodz, ask->pathz, ask->acceptz);
    add_token(&request);
    moon_buf_addz(&request, "\r\n");
    enum moon_err err = MOON_ENOMEM;
    if (!request.failed)
        err = connect_to(target, ask->timeout_ms, &fd, error);
    if (err == MOON_OK) {
        err = moon_fleet_exchange(fd, moon_buf_str(&request), status, body);
        if (err != MOON_OK)
            moon_buf_printf(error, "no answer: %s", moon_err_text(err));
        else if (body->len > 0 && body->ptr[body->len - 1] == '\n')
            body->len--;
        (void)close(fd);
    } else if (error->len == 0) {
        moon_buf_addz(error, moon_err_text(err));
    }
    moon_buf_deinit(&request);
    return err;
}
