#include "http/content_type.h"

#include "base/compiler.h"

#define UTF8 "; charset=utf-8"

#define S(text)                \
    {                          \
        text, sizeof(text) - 1 \
    }

static const struct {
    struct moon_str extension, type;
} types[] = {
    {S("html"), S("text/html" UTF8)},
    {S("htm"), S("text/html" UTF8)},
    {S("css"), S("text/css" UTF8)},
    {S("js"), S("text/javascript" UTF8)},
    {S("mjs"), S("text/javascript" UTF8)},
    {S("json"), S("application/json")},
    {S("map"), S("application/json")},
    {S("webmanifest"), S("application/manifest+json")},
    {S("txt"), S("text/plain" UTF8)},
    {S("md"), S("text/markdown" UTF8)},
    {S("csv"), S("text/csv" UTF8)},
    {S("ics"), S("text/calendar" UTF8)},
    {S("vtt"), S("text/vtt" UTF8)},
    {S("xml"), S("application/xml")},
    {S("xhtml"), S("application/xhtml+xml")},
    {S("rss"), S("application/rss+xml")},
    {S("atom"), S("application/atom+xml")},
    {S("svg"), S("image/svg+xml")},
    {S("png"), S("image/png")},
    {S("apng"), S("image/apng")},
    {S("jpg"), S("image/jpeg")},
    {S("jpeg"), S("image/jpeg")},
    {S("gif"), S("image/gif")},
    {S("webp"), S("image/webp")},
    {S("avif"), S("image/avif")},
    {S("ico"), S("image/vnd.microsoft.icon")},
    {S("bmp"), S("image/bmp")},
    {S("tif"), S("image/tiff")},
    {S("tiff"), S("image/tiff")},
    {S("woff"), S("font/woff")},
    {S("woff2"), S("font/woff2")},
    {S("ttf"), S("font/ttf")},
    {S("otf"), S("font/otf")},
    {S("mp3"), S("audio/mpeg")},
    {S("ogg"), S("audio/ogg")},
    {S("oga"), S("audio/ogg")},
    {S("opus"), S("audio/ogg")},
    {S("wav"), S("audio/wav")},
    {S("flac"), S("audio/flac")},
    {S("m4a"), S("audio/mp4")},
    {S("aac"), S("audio/aac")},
    {S("mp4"), S("video/mp4")},
    {S("m4v"), S("video/mp4")},
    {S("webm"), S("video/webm")},
    {S("ogv"), S("video/ogg")},
    {S("mov"), S("video/quicktime")},
    {S("pdf"), S("application/pdf")},
    {S("wasm"), S("application/wasm")},
    {S("zip"), S("application/zip")},
    {S("gz"), S("application/gzip")},
    {S("tar"), S("application/x-tar")},
    {S("rtf"), S("application/rtf")},
    {S("epub"), S("application/epub+zip")},
};

struct moon_str moon_content_type_of(struct moon_str path)
{
    size_t dot = path.len;
    while (dot > 0 && path.ptr[dot - 1] != '.' && path.ptr[dot - 1] != '/')
        dot--;
    if (dot > 0 && path.ptr[dot - 1] == '.') {
        struct moon_str extension = moon_str(path.ptr + dot, path.len - dot);
        for (size_t i = 0; i < MOON_COUNT(types); i++) {
            struct moon_str known = types[i].extension;
            if (extension.len == known.len &&
                (extension.ptr[0] | 0x20) == known.ptr[0] &&
                moon_str_eq_nocase(extension, known))
                return types[i].type;
        }
    }
    return MOON_STR("application/octet-stream");
}
