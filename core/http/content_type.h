/* Content types by file extension. */
#ifndef MOON_HTTP_CONTENT_TYPE_H
#define MOON_HTTP_CONTENT_TYPE_H

#include "base/str.h"

/* "application/octet-stream" if the extension is unknown; text types carry
 * "; charset=utf-8". Static text. */
struct moon_str moon_content_type_of(struct moon_str path);

#endif
