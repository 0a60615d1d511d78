/* What LMDB's results mean for whoever got them, and how to say it. */
#ifndef MOON_STATE_LMDB_TROUBLE_H
#define MOON_STATE_LMDB_TROUBLE_H

#include <lmdb.h>

/* Ours, beside 0, an errno and MDB_...: the files are no longer those to
 * use. */
#define MOON_LMDB_STALE (-1)

enum moon_lmdb_trouble {
    MOON_LMDB_FINE,
    MOON_LMDB_DAMAGE, /* distrust it */
    MOON_LMDB_REOPEN, /* this handle is worn out */
    MOON_LMDB_FOLLOW, /* the same, and others have a larger map */
    MOON_LMDB_FULL,   /* make room */
    MOON_LMDB_BROKE,  /* the system says no; try later */
};
enum moon_lmdb_trouble moon_lmdb_trouble_of(int rc);
/* "no space left on the disk"; what went wrong and what to do. */
const char *moon_lmdb_describe(int rc);

#endif
