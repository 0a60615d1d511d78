#include "vm/vm_api.h"

#include "base/log.h"
#include "state/commons.h"
#include "vm/vm_internal.h"

#include <stdlib.h>

void moon_api_metrics_keep(void)
{
}

/* NULL while no VM is here, or one that nothing is lent to (a test's). */
static struct moon_commons *commons_here(void)
{
    const struct moon_vm *vm = moon_vm_here();
    return vm != NULL ? vm->options.commons : NULL;
}

void moon_vm_release_metrics(struct moon_vm *vm)
{
    const struct moon_commons *commons = vm->options.commons;
    if (vm->declared_count > 0)
        moon_metrics_release(commons->metrics, commons->slot, vm->declared,
                             vm->declared_count);
    free(vm->declared);
}

double *moon_metrics_here(void)
{
    const struct moon_commons *commons = commons_here();
    return commons != NULL ? moon_metrics_cells(commons->metrics, commons->slot)
                           : NULL;
}

static bool make_room(struct moon_vm *vm)
{
    if (vm->declared_count < vm->declared_cap)
        return true;
    uint32_t cap = vm->declared_cap == 0 ? 16 : vm->declared_cap * 2;
    uint32_t *grown = realloc(vm->declared, cap * sizeof(*grown));
    if (grown == NULL)
        return false;
    vm->declared = grown;
    vm->declared_cap = cap;
    return true;
}

int moon_metrics_add(int kind, const moon_bytes *texts, const double *buckets,
                     uint32_t bucket_count)
{
    struct moon_vm *vm = moon_vm_here();
    const struct moon_commons *commons = commons_here();
    if (commons == NULL || !make_room(vm))
        return MOON_ENOMEM;
    struct moon_metric_info info = {
        .kind = (enum moon_metric_kind)kind,
        .name = moon_str(texts[0].ptr, texts[0].len),
        .help = moon_str(texts[1].ptr, texts[1].len),
        .labels = moon_str(texts[2].ptr, texts[2].len),
        .buckets = buckets,
        .bucket_count = bucket_count,
    };
    uint32_t number;
    enum moon_err err =
        moon_metrics_declare(commons->metrics, commons->slot,
                             vm->options.generation, &info, &number);
    if (err != MOON_OK)
        return err;
    vm->declared[vm->declared_count++] = number;
    return (int)number;
}

uint32_t moon_metrics_cell(uint32_t metric, const moon_bytes *values,
                           uint32_t count, bool *kept)
{
    struct moon_metrics *metrics = commons_here()->metrics;
    struct moon_str texts[MOON_METRIC_LABELS_MAX];
    uint32_t cell;
    for (uint32_t i = 0; i < count && i < MOON_METRIC_LABELS_MAX; i++)
        texts[i] = moon_str(values[i].ptr, values[i].len);
    *kept = moon_metrics_find(metrics, metric, texts, count, &cell);
    if (!*kept && moon_metrics_just_filled(metrics))
        moon_log(
            MOON_LOG_WARN,
            "metrics: there are metrics.max_series (%u) series with "
            "labels; from now on new label values are counted as \"other\"",
            moon_metrics_max_series(metrics));
    return cell;
}

void moon_metrics_count(double *cells, const double *buckets, uint32_t count,
                        double value)
{
    moon_metrics_observe(cells, buckets, count, value);
}
