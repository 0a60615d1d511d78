#include "state/commons.h"

enum moon_err moon_commons_init(struct moon_commons *commons,
                                struct moon_region *region, uint32_t slots,
                                uint32_t slot, const struct moon_config *config)
{
    *commons = (struct moon_commons){.region = region, .slot = slot};
    if (region == NULL) {
        enum moon_err err = moon_region_create(&commons->region, NULL);
        if (err != MOON_OK)
            return err;
        commons->own_region = true;
    }
    commons->limits =
        moon_limits_open(commons->region, config->limits_max_keys, slots, slot);
    if (commons->limits == NULL ||
        moon_metrics_open(commons->region, MOON_METRICS_APP, slots,
                          config->metrics_max_series,
                          &commons->metrics) != MOON_OK) {
        moon_commons_deinit(commons);
        return MOON_ENOMEM;
    }
    return MOON_OK;
}

void moon_commons_deinit(struct moon_commons *commons)
{
    moon_limits_close(commons->limits);
    commons->limits = NULL;
    moon_metrics_close(commons->metrics);
    commons->metrics = NULL;
    if (commons->own_region)
        moon_region_close(commons->region);
    commons->region = NULL;
}
