#include "base/nets.h"

#include <arpa/inet.h>
#include <stdlib.h>

enum { V4_AT = 12, V4_BITS = 96 }; /* of a mapped address */

static const uint8_t mapped[V4_AT] = {[10] = 0xff, [11] = 0xff};

static bool is_v4(const uint8_t addr[16])
{
    return memcmp(addr, mapped, V4_AT) == 0;
}

void moon_nets_deinit(struct moon_nets *nets)
{
    free(nets->items);
    *nets = (struct moon_nets){0};
}

/* ---- text to network ---- */

static enum moon_err refuse(struct moon_str text, const char *whatz,
                            struct moon_buf *why)
{
    moon_buf_add_json(why, text.len > 64 ? moon_str(text.ptr, 64) : text);
    moon_buf_addz(why, whatz);
    moon_buf_addz(why, "; expected an address, a CIDR block (10.0.0.0/8, "
                       "2001:db8::/32) or \"unix\"");
    return MOON_EINVAL;
}

static bool read_address(struct moon_str host, struct moon_net *net)
{
    char hostz[INET6_ADDRSTRLEN];
    if (host.len == 0 || host.len >= sizeof(hostz) ||
        memchr(host.ptr, '\0', host.len) != NULL)
        return false;
    memcpy(hostz, host.ptr, host.len);
    hostz[host.len] = '\0';
    memcpy(net->addr, mapped, V4_AT);
    if (inet_pton(AF_INET, hostz, net->addr + V4_AT) == 1)
        return net->v4 = true;
    return inet_pton(AF_INET6, hostz, net->addr) == 1;
}

/* Clears the bits beyond the prefix; were there any? */
static bool clear_host_bits(struct moon_net *net)
{
    uint8_t lost = 0;
    for (unsigned bit = net->bits; bit < 128; bit++) {
        uint8_t mask = (uint8_t)(0x80u >> bit % 8);
        lost |= net->addr[bit / 8] & mask;
        net->addr[bit / 8] &= (uint8_t)~mask;
    }
    return lost != 0;
}

static void print_net(const struct moon_net *net, struct moon_buf *out)
{
    char textz[INET6_ADDRSTRLEN] = "";
    int family = net->v4 ? AF_INET : AF_INET6;
    (void)inet_ntop(family, net->addr + (net->v4 ? V4_AT : 0), textz,
                    sizeof(textz));
    moon_buf_addz(out, textz);
    if (net->bits < 128)
        moon_buf_printf(out, "/%d", net->bits - (net->v4 ? V4_BITS : 0));
}

/* "10.0.0.1/8": is the host meant, or the network? */
static enum moon_err refuse_host_bits(struct moon_str text,
                                      const struct moon_net *net,
                                      struct moon_buf *why)
{
    moon_buf_add_json(why, text);
    moon_buf_addz(why, " has bits beyond its prefix; write ");
    print_net(net, why);
    moon_buf_addz(why, " for the network, or the address alone");
    return MOON_EINVAL;
}

static enum moon_err parse_net(struct moon_str text, struct moon_net *net,
                               struct moon_buf *why)
{
    struct moon_str prefix;
    uint64_t bits;
    struct moon_str host = moon_str_cut(text, '/', &prefix);
    *net = (struct moon_net){.bits = 128};
    if (!read_address(host, net))
        return refuse(text, " is no address", why);
    bool given_v4 = net->v4;
    if (host.len < text.len) {
        uint64_t most = given_v4 ? 32 : 128;
        if (!moon_str_to_u64(prefix, &bits) || bits > most)
            return refuse(text,
                          given_v4 ? " has a prefix that is not 0 to 32"
                                   : " has a prefix that is not 0 to 128",
                          why);
        net->bits = (uint8_t)(given_v4 ? bits + V4_BITS : bits);
    }
    if (clear_host_bits(net))
        return refuse_host_bits(text, net, why);
    net->v4 = net->bits >= V4_BITS && is_v4(net->addr);
    return MOON_OK;
}

enum moon_err moon_nets_add(struct moon_nets *nets, struct moon_str text,
                            struct moon_buf *why)
{
    struct moon_net net;
    if (moon_str_eq_nocase(text, MOON_STR("unix"))) {
        nets->unix_peers = true;
        return MOON_OK;
    }
    enum moon_err err = parse_net(text, &net, why);
    if (err != MOON_OK)
        return err;
    struct moon_net *items =
        realloc(nets->items, (nets->count + 1) * sizeof(*items));
    if (items == NULL)
        return MOON_ENOMEM;
    nets->items = items;
    items[nets->count++] = net;
    return MOON_OK;
}

void moon_nets_print(const struct moon_nets *nets, struct moon_buf *out)
{
    for (uint32_t i = 0; i < nets->count; i++) {
        if (i > 0)
            moon_buf_add_char(out, ',');
        print_net(&nets->items[i], out);
    }
    if (nets->unix_peers)
        moon_buf_addz(out, nets->count > 0 ? ",unix" : "unix");
}

/* ---- questions ---- */

static bool holds(const struct moon_net *net, const uint8_t addr[16])
{
    unsigned bytes = net->bits / 8, rest = net->bits % 8;
    if (memcmp(net->addr, addr, bytes) != 0)
        return false;
    return rest == 0 ||
           (addr[bytes] >> (8 - rest)) == (net->addr[bytes] >> (8 - rest));
}

bool moon_nets_contain(const struct moon_nets *nets, int family,
                       const uint8_t *addr)
{
    uint8_t wide[16];
    if (family == AF_UNIX)
        return nets->unix_peers;
    if (family == AF_INET6) {
        memcpy(wide, addr, sizeof(wide));
    } else if (family == AF_INET) {
        memcpy(wide, mapped, V4_AT);
        memcpy(wide + V4_AT, addr, 4);
    } else {
        return false;
    }
    bool v4 = is_v4(wide);
    for (uint32_t i = 0; i < nets->count; i++) {
        if (nets->items[i].v4 == v4 && holds(&nets->items[i], wide))
            return true;
    }
    return false;
}
