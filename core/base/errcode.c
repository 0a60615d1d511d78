#include "base/errcode.h"

#include <errno.h>

const char *moon_err_text(enum moon_err err)
{
    switch (err) {
    case MOON_OK:
        return "ok";
#define X(code, name, text) \
    case MOON_E##name:      \
        return text;
        MOON_ERR_MAP(X)
#undef X
    }
    return "unknown error";
}

enum moon_err moon_err_from_errno(int sys)
{
    switch (sys) {
    case 0:
        return MOON_OK;
    case ENOMEM:
        return MOON_ENOMEM;
    case EINVAL:
        return MOON_EINVAL;
    case ENOENT:
    case ENOTDIR:
        return MOON_ENOT_FOUND;
    case EEXIST:
    case EADDRINUSE:
        return MOON_EEXISTS;
    case EAGAIN:
        return MOON_EAGAIN;
    case ETIMEDOUT:
        return MOON_ETIMEOUT;
    case ECANCELED:
        return MOON_ECANCELED;
    case EPIPE:
    case ECONNRESET:
        return MOON_ECLOSED;
    case EACCES:
    case EPERM:
        return MOON_EDENIED;
    case ENOSPC:
    case EMFILE:
    case ENFILE:
        return MOON_EFULL;
    default:
        return MOON_ESYS;
    }
}
