#include "http/http_date.h"

static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed",
                                "Thu", "Fri", "Sat"};
static const char days_long[7][10] = {"Sunday",    "Monday",   "Tuesday",
                                      "Wednesday", "Thursday", "Friday",
                                      "Saturday"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static const time_t YEAR_0 = -62167219200, YEAR_9999_END = 253402300799;

static char *put_digits(char *to, int value, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        to[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return to + count;
}

static char *put_text(char *to, const char *text, size_t len)
{
    memcpy(to, text, len);
    return to + len;
}

void moon_http_date_write(time_t when, char out[30])
{
    struct tm tm;
    when = when < YEAR_0 ? YEAR_0 : when;
    when = when > YEAR_9999_END ? YEAR_9999_END : when;
    (void)gmtime_r(&when, &tm);
    char *to = put_text(out, days[tm.tm_wday], 3);
    to = put_text(to, ", ", 2);
    to = put_digits(to, tm.tm_mday, 2);
    to = put_text(to, " ", 1);
    to = put_text(to, months[tm.tm_mon], 3);
    to = put_text(to, " ", 1);
    to = put_digits(to, tm.tm_year + 1900, 4);
    to = put_text(to, " ", 1);
    to = put_digits(to, tm.tm_hour, 2);
    to = put_text(to, ":", 1);
    to = put_digits(to, tm.tm_min, 2);
    to = put_text(to, ":", 1);
    to = put_digits(to, tm.tm_sec, 2);
    (void)put_text(to, " GMT", 5);
}

/* Reading: each takes what it expects off *s, or fails. */

static bool take(struct moon_str *s, const char *text)
{
    struct moon_str want = moon_strz(text);
    if (!moon_str_starts(*s, want))
        return false;
    *s = moon_str(s->ptr + want.len, s->len - want.len);
    return true;
}

static bool take_digits(struct moon_str *s, size_t count, int *out)
{
    int value = 0;
    if (s->len < count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (s->ptr[i] < '0' || s->ptr[i] > '9')
            return false;
        value = value * 10 + (s->ptr[i] - '0');
    }
    *s = moon_str(s->ptr + count, s->len - count);
    *out = value;
    return true;
}

static bool take_month(struct moon_str *s, int *out)
{
    for (int i = 0; i < 12; i++) {
        if (take(s, months[i])) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool take_clock(struct moon_str *s, struct tm *tm)
{
    return take_digits(s, 2, &tm->tm_hour) && take(s, ":") &&
           take_digits(s, 2, &tm->tm_min) && take(s, ":") &&
           take_digits(s, 2, &tm->tm_sec) && tm->tm_hour < 24 &&
           tm->tm_min < 60 && tm->tm_sec <= 60;
}

static bool take_year(struct moon_str *s, struct tm *tm)
{
    if (!take_digits(s, 4, &tm->tm_year))
        return false;
    tm->tm_year -= 1900;
    return true;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", after "Sun, ". */
static bool parse_imf(struct moon_str s, struct tm *tm)
{
    return take_digits(&s, 2, &tm->tm_mday) && take(&s, " ") &&
           take_month(&s, &tm->tm_mon) && take(&s, " ") && take_year(&s, tm) &&
           take(&s, " ") && take_clock(&s, tm) && take(&s, " GMT") &&
           s.len == 0;
}

/* "Sunday, 06-Nov-94 08:49:37 GMT", after "Sunday, ": a year more than 50
 * years ahead is the last one in the past with these digits. */
static bool parse_rfc850(struct moon_str s, struct tm *tm)
{
    int year;
    if (!(take_digits(&s, 2, &tm->tm_mday) && take(&s, "-") &&
          take_month(&s, &tm->tm_mon) && take(&s, "-") &&
          take_digits(&s, 2, &year) && take(&s, " ") && take_clock(&s, tm) &&
          take(&s, " GMT") && s.len == 0))
        return false;
    struct tm today;
    time_t now = time(NULL);
    (void)gmtime_r(&now, &today);
    int this_year = today.tm_year + 1900;
    int full = this_year - this_year % 100 + year;
    if (full > this_year + 50)
        full -= 100;
    tm->tm_year = full - 1900;
    return true;
}

/* "Sun Nov  6 08:49:37 1994", after "Sun ". */
static bool parse_asctime(struct moon_str s, struct tm *tm)
{
    if (!take_month(&s, &tm->tm_mon) || !take(&s, " "))
        return false;
    bool day = take(&s, " ") ? take_digits(&s, 1, &tm->tm_mday)
                             : take_digits(&s, 2, &tm->tm_mday);
    return day && take(&s, " ") && take_clock(&s, tm) && take(&s, " ") &&
           take_year(&s, tm) && s.len == 0;
}

static bool parse_any(struct moon_str s, struct tm *tm)
{
    for (int i = 0; i < 7; i++) {
        struct moon_str rest = s;
        if (take(&rest, days_long[i]))
            return take(&rest, ", ") && parse_rfc850(rest, tm);
        if (!take(&rest, days[i]))
            continue;
        if (take(&rest, ", "))
            return parse_imf(rest, tm);
        return take(&rest, " ") && parse_asctime(rest, tm);
    }
    return false;
}

static int days_in_month(int month, int year)
{
    static const int lengths[12] = {31, 28, 31, 30, 31, 30,
                                    31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return lengths[month] + (month == 1 && leap ? 1 : 0);
}

bool moon_http_date_parse(struct moon_str text, time_t *out)
{
    struct tm tm = {0};
    if (!parse_any(text, &tm))
        return false;
    if (tm.tm_mday < 1 ||
        tm.tm_mday > days_in_month(tm.tm_mon, tm.tm_year + 1900))
        return false;
    *out = timegm(&tm);
    return true;
}
