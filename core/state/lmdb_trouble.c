#include "state/lmdb_trouble.h"

#include <errno.h>

enum moon_lmdb_trouble moon_lmdb_trouble_of(int rc)
{
    switch (rc) {
    case 0:
        return MOON_LMDB_FINE;
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
        return MOON_LMDB_DAMAGE;
    case MOON_LMDB_STALE:
    case MDB_PANIC:
    case MDB_BAD_RSLOT:
    case MDB_BAD_DBI:
    case MDB_BAD_TXN:
        return MOON_LMDB_REOPEN;
    case MDB_MAP_RESIZED:
        return MOON_LMDB_FOLLOW;
    case MDB_MAP_FULL:
        return MOON_LMDB_FULL;
    default:
        return MOON_LMDB_BROKE;
    }
}

const char *moon_lmdb_describe(int rc)
{
    switch (rc) {
    case ENOSPC:
    case EDQUOT:
        return "no space left on the disk";
    case EROFS:
        return "the file system is read-only";
    case EACCES:
    case EPERM:
        return "no permission; the directory must belong to the user of the "
               "workers";
    case ENOENT:
        return "its directory does not exist";
    case EIO:
        return "the disk fails, or is full";
    case EBUSY:
        return "this process has it open already";
    case EADDRINUSE:
        return "a process with the same id uses it; containers that share it "
               "must share their process ids";
    case MOON_LMDB_STALE:
        return "it is being opened anew";
    case EAGAIN:
        return "other processes open it, or still use what was replaced";
    case ETXTBSY:
        return "another program has it open";
    case MDB_READERS_FULL:
        return "too many processes use it";
    case MDB_VERSION_MISMATCH:
        return "another version of LMDB uses it";
    default:
        return mdb_strerror(rc);
    }
}
