#include "http/fit.h"

#include "base/nearest.h"

/* In the distance: a value of another type, a segment too many or too few, a
 * slash. */
enum { TYPE_COST = 2, SEGMENT_COST = 4, SLASH_COST = 1, FAR = 1000 };

static bool is_rest(const struct moon_pattern_part *part)
{
    return part->is_param && part->type == MOON_PARAM_REST;
}

static bool part_fits(const struct moon_pattern_part *part,
                      struct moon_str text)
{
    return part->is_param ? moon_param_fits(part->type, text)
                          : moon_str_eq(part->text, text);
}

static size_t cost_of(const struct moon_pattern_part *part,
                      struct moon_str text)
{
    if (part_fits(part, text))
        return 0;
    if (part->is_param)
        return TYPE_COST;
    size_t edits = moon_edit_distance(part->text, text);
    return edits == SIZE_MAX ? FAR : edits;
}

static void note(struct moon_fit *fit, enum moon_fit_kind kind, uint32_t at,
                 size_t cost)
{
    if (fit->kind == MOON_FIT_YES) {
        fit->kind = kind;
        fit->at = at;
    }
    fit->distance += cost;
}

struct moon_fit moon_fit_of(const struct moon_pattern *pattern,
                            const struct moon_path *path)
{
    struct moon_fit fit = {MOON_FIT_YES, 0, 0};
    uint32_t i = 0;
    for (; i < pattern->count; i++) {
        const struct moon_pattern_part *part = &pattern->parts[i];
        /* It takes what is left, also nothing, but not a missing slash. */
        if (is_rest(part)) {
            if (i == path->count && !path->slash)
                note(&fit, MOON_FIT_SLASH, i, SLASH_COST);
            return fit;
        }
        if (i >= path->count) {
            note(&fit, MOON_FIT_SHORT, i, SEGMENT_COST);
            continue;
        }
        size_t cost = cost_of(part, path->segments[i].text);
        if (cost > 0)
            note(&fit, part->is_param ? MOON_FIT_TYPE : MOON_FIT_TEXT, i, cost);
    }
    if (path->count > pattern->count)
        note(&fit, MOON_FIT_LONG, i,
             SEGMENT_COST * (path->count - pattern->count));
    else if (path->count == pattern->count && path->slash != pattern->slash)
        note(&fit, MOON_FIT_SLASH, i, SLASH_COST);
    return fit;
}

bool moon_fit_is_near(const struct moon_fit *fit,
                      const struct moon_pattern *pattern,
                      const struct moon_path *path)
{
    size_t letters = 0;
    uint32_t count =
        pattern->count > path->count ? pattern->count : path->count;
    for (uint32_t i = 0; i < path->count; i++)
        letters += path->segments[i].text.len;
    /* The root is near to nothing but itself. */
    if (pattern->count == 0 || path->count == 0)
        return fit->distance <= SLASH_COST;
    if (fit->kind == MOON_FIT_SHORT || fit->kind == MOON_FIT_LONG)
        return fit->distance <= SEGMENT_COST && count > 1;
    return fit->distance <= TYPE_COST || fit->distance <= letters / 3;
}

static const char *type_name(enum moon_param_type type)
{
    switch (type) {
    case MOON_PARAM_INT:
        return "an <int> (1 to 15 digits)";
    case MOON_PARAM_UUID:
        return "a <uuid>";
    case MOON_PARAM_ALPHA:
        return "<alpha> (letters only)";
    case MOON_PARAM_PLAIN:
    case MOON_PARAM_REST:
    case MOON_PARAM_TYPES:
        break;
    }
    return "a value";
}

static void add_part(const struct moon_pattern_part *part, struct moon_buf *out)
{
    const char *markz = !part->is_param ? "/" : is_rest(part) ? "*" : ":";
    moon_buf_printf(out, "%s%.*s", markz, MOON_STR_ARG(part->text));
}

void moon_fit_explain(const struct moon_fit *fit,
                      const struct moon_pattern *pattern,
                      const struct moon_path *path, struct moon_buf *out)
{
    const struct moon_pattern_part *part = &pattern->parts[fit->at];
    struct moon_str text =
        fit->at < path->count ? path->segments[fit->at].text : MOON_STR_NONE;
    switch (fit->kind) {
    case MOON_FIT_YES:
        break;
    case MOON_FIT_SLASH:
        moon_buf_addz(out, path->slash ? "has no slash at the end"
                                       : "has a slash at the end");
        break;
    case MOON_FIT_TYPE:
        moon_buf_printf(out, "%.*s: \"%.*s\" is not %s",
                        MOON_STR_ARG(part->text), MOON_STR_ARG(text),
                        type_name(part->type));
        break;
    case MOON_FIT_TEXT:
        moon_buf_printf(out, "\"%.*s\" is not \"%.*s\"", MOON_STR_ARG(text),
                        MOON_STR_ARG(part->text));
        break;
    case MOON_FIT_SHORT:
        moon_buf_addz(out, "the path ends before ");
        add_part(part, out);
        break;
    case MOON_FIT_LONG:
        moon_buf_printf(out, "the path goes on with \"%.*s\"",
                        MOON_STR_ARG(text));
        break;
    }
}

/* As the router tries them. */
static int rank(const struct moon_pattern *pattern, uint32_t at)
{
    static const int ranks[MOON_PARAM_TYPES] = {
        [MOON_PARAM_INT] = 1,   [MOON_PARAM_UUID] = 2, [MOON_PARAM_ALPHA] = 3,
        [MOON_PARAM_PLAIN] = 4, [MOON_PARAM_REST] = 5,
    };
    if (at >= pattern->count || !pattern->parts[at].is_param)
        return 0;
    return ranks[pattern->parts[at].type];
}

int moon_pattern_order(const struct moon_pattern *a,
                       const struct moon_pattern *b, uint32_t *at)
{
    uint32_t count = a->count > b->count ? a->count : b->count;
    for (*at = 0; *at < count; (*at)++) {
        int difference = rank(a, *at) - rank(b, *at);
        if (difference != 0)
            return difference;
    }
    return 0;
}

struct moon_str moon_part_kind(const struct moon_pattern *pattern, uint32_t at)
{
    static const char *const kinds[MOON_PARAM_TYPES] = {
        [MOON_PARAM_INT] = "an <int>",
        [MOON_PARAM_UUID] = "a <uuid>",
        [MOON_PARAM_ALPHA] = "an <alpha>",
        [MOON_PARAM_PLAIN] = "a plain parameter",
        [MOON_PARAM_REST] = "a catch-all",
    };
    if (at >= pattern->count)
        return MOON_STR("the end");
    if (!pattern->parts[at].is_param)
        return MOON_STR("a static segment");
    return moon_strz(kinds[pattern->parts[at].type]);
}
