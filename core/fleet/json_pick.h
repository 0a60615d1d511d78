/* One value out of a JSON object, for answers whose shape is known. */
#ifndef MOON_FLEET_JSON_PICK_H
#define MOON_FLEET_JSON_PICK_H

#include "base/buf.h"

#include <stdbool.h>

/* The value of a key of the outermost object, as it is written; its quotes are
 * left off a string, its escapes are not undone. False: there is none. */
bool moon_json_pick(struct moon_str json, const char *keyz,
                    struct moon_str *value);

#endif
