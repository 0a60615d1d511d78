#include "vm/vm_api.h"

#include "vm/file_job.h"
#include "vm/vm_internal.h"

void moon_api_form_keep(void)
{
}

/* NULL unless all of the body is here. */
static struct moon_exchange *with_body(moon_slot *slot)
{
    struct moon_exchange *x = moon_slot_x(slot);
    return x == NULL || x->body.mode == MOON_BODY_STREAM || !x->body.complete
               ? NULL
               : x;
}

static const struct moon_config *config(void)
{
    return moon_vm_here()->options.config;
}

moon_job *moon_job_form(moon_slot *slot)
{
    struct moon_exchange *x = with_body(slot);
    const struct moon_form_limits limits = {
        .max_fields = config()->max_args,
        .max_files = config()->upload_max_files,
        .max_file_bytes = config()->upload_max_file_bytes,
    };
    return x == NULL ? NULL : moon_file_job_form(x, &limits);
}

uint32_t moon_job_parts(const moon_job *job)
{
    return job->form == NULL ? 0 : job->form->count;
}

bool moon_job_part(const moon_job *job, uint32_t index, moon_part_info *out)
{
    if (index >= moon_job_parts(job))
        return false;
    const struct moon_form_part *part = &job->form->parts[index];
    *out = (moon_part_info){
        .name = moon_bytes_of(part->name),
        .filename = moon_bytes_of(part->filename),
        .type = moon_bytes_of(part->type),
        .from = (double)part->from,
        .len = (double)part->len,
        .is_file = part->is_file,
    };
    return true;
}

static moon_job *copy(moon_slot *slot, enum moon_file_job_kind kind,
                      double from, double len, struct moon_str path)
{
    struct moon_exchange *x = with_body(slot);
    return x == NULL ? NULL
                     : moon_file_job_copy(x, kind, (uint64_t)from,
                                          (uint64_t)len, path);
}

moon_job *moon_job_save(moon_slot *slot, double from, double len,
                        const char *path, size_t path_len)
{
    return copy(slot, MOON_FILE_JOB_SAVE, from, len, moon_str(path, path_len));
}

moon_job *moon_job_temp(moon_slot *slot, double from, double len)
{
    return copy(slot, MOON_FILE_JOB_TEMP, from, len,
                moon_strz(config()->upload_dirz));
}

const char *moon_job_path(const moon_job *job)
{
    return job->fd < 0 ? NULL : job->fd_pathz;
}

int moon_job_start(moon_job *job)
{
    if (job->done)
        return 0;
    enum moon_err err = moon_file_job_start(job);
    return err == MOON_OK ? 1 : (int)err;
}

int moon_job_result(const moon_job *job, moon_bytes *out)
{
    *out = moon_bytes_of(moon_strz(job->textz));
    return job->done ? job->status : 503;
}

void moon_job_free(moon_job *job)
{
    moon_work_release(&job->work);
}
