/* What another node, or another version of ours, sends: an HTTP answer of its
 * admin endpoint, its metrics, the inventory of a master that hands over. */
#include "fuzz.h"

#include "fleet/http.h"
#include "fleet/sample.h"
#include "node/inventory.h"

#include <math.h>

static void check_sample(struct moon_str text)
{
    static const double shares[] = {0, 0.5, 0.99, 1};
    struct moon_sample sample, none = {0}, since;
    moon_sample_read(&sample, text);
    FUZZ_CHECK(sample.bucket_count <= MOON_SAMPLE_BUCKETS);
    for (uint32_t i = 1; i < sample.bucket_count; i++)
        FUZZ_CHECK(sample.bounds[i - 1] < sample.bounds[i]);
    double failed = moon_sample_failed(&sample);
    FUZZ_CHECK(failed >= 0 && failed <= 1);
    for (size_t i = 0; i < MOON_COUNT(shares); i++)
        FUZZ_CHECK(!isnan(moon_sample_quantile(&sample, shares[i])));
    moon_sample_since(&sample, &none, &since);
    FUZZ_CHECK(since.requests == sample.requests);
    moon_sample_since(&sample, &sample, &since);
    FUZZ_CHECK(since.requests == 0 && since.failures == 0);
    moon_sample_add(&since, &sample);
    FUZZ_CHECK(since.requests == sample.requests);
}

static void check_answer(struct moon_str text)
{
    struct moon_str body = MOON_STR_NONE;
    int status = 0;
    struct moon_str copy = fuzz_copy(text);
    enum moon_err err = moon_fleet_parse(copy, &status, &body);
    if (err == MOON_OK) {
        FUZZ_CHECK(status >= 100 && status <= 599);
        FUZZ_CHECK(fuzz_within(body, copy));
        struct moon_str metrics = fuzz_copy(body);
        check_sample(metrics);
        fuzz_free(metrics);
    }
    fuzz_free(copy);
}

/* What is read, written again, reads the same. */
static void check_inventory(struct moon_str text)
{
    static struct moon_inventory inventory, again;
    struct moon_buf error = {0}, out = {0}, more = {0};
    struct moon_str copy = fuzz_copy(text);
    if (moon_inventory_read(copy, &inventory, &error) == MOON_OK) {
        FUZZ_CHECK(inventory.socket_count <= MOON_LISTEN_MAX);
        moon_inventory_write(&inventory, &out);
        FUZZ_CHECK(moon_inventory_read(moon_buf_str(&out), &again, &error) ==
                   (inventory.versionz[0] == '\0' ? MOON_EPROTO : MOON_OK));
        if (inventory.versionz[0] != '\0') {
            moon_inventory_write(&again, &more);
            FUZZ_CHECK(moon_str_eq(moon_buf_str(&out), moon_buf_str(&more)));
        }
    } else {
        FUZZ_CHECK(error.len > 0);
    }
    fuzz_free(copy);
    moon_buf_deinit(&error);
    moon_buf_deinit(&out);
    moon_buf_deinit(&more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moon_str text = fuzz_copy(fuzz_str(data, size));
    check_answer(text);
    check_inventory(text);
    check_sample(text);
    fuzz_free(text);
    return 0;
}
