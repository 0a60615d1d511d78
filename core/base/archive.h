/* A read-only set of named files in one block of memory: the snapshot that a
 * generation is built from.
 *
 * Layout (little endian): magic, version, count, then entries sorted by name
 * {name offset, name length, data offset, data length}, then names and bytes.
 * One archive is one memfd or file, mapped shared, so that all workers read
 * the same pages. Names are relative to the app directory ("app.lua",
 * "lib/a.lua", "views/x.html"); files from outside have absolute names. */
#ifndef MOON_BASE_ARCHIVE_H
#define MOON_BASE_ARCHIVE_H

#include "base/buf.h"
#include "base/errcode.h"

struct moon_archive;

/* Maps and checks the whole of `fd` (borrowed; may be closed afterwards).
 * MOON_EPROTO when it is not a sound archive. */
MOON_MUST_CHECK enum moon_err moon_archive_open(int fd,
                                                struct moon_archive **out);
void moon_archive_ref(struct moon_archive *archive); /* atomic count */
void moon_archive_unref(struct moon_archive *archive);

/* Bytes of a file, borrowed for the archive's life; false if not in it. */
bool moon_archive_find(const struct moon_archive *archive, struct moon_str name,
                       struct moon_str *bytes);
size_t moon_archive_count(const struct moon_archive *archive);
void moon_archive_entry(const struct moon_archive *archive, size_t index,
                        struct moon_str *name, struct moon_str *bytes);
/* 32 hex digits over names and bytes: which code is this? (base/hash.h) */
void moon_archive_hash(const struct moon_archive *archive, char hex[33]);

/* Building one. */
struct moon_archive_writer;
MOON_MUST_CHECK struct moon_archive_writer *moon_archive_writer_create(
    size_t max_files, size_t max_bytes);
/* Copies both. MOON_ETOO_BIG past a maximum, MOON_EEXISTS for a second one of
 * that name (ignored). */
MOON_MUST_CHECK enum moon_err moon_archive_writer_add(
    struct moon_archive_writer *writer, struct moon_str name,
    struct moon_str bytes);
/* A new memfd with the archive; the writer is freed in any case. */
MOON_MUST_CHECK enum moon_err moon_archive_writer_finish(
    struct moon_archive_writer *writer, int *fd);

#endif
