#include "vm/vm_api.h"

#include "base/random.h"
#include "vm/vm_internal.h"

#include <sodium.h>

bool moon_api_crypto_keep(void)
{
    return sodium_init() >= 0;
}

void moon_crypto_sha256(const char *text, size_t len, char *to)
{
    (void)crypto_hash_sha256((unsigned char *)to, (const unsigned char *)text,
                             len);
}

void moon_crypto_hmac_sha256(const char *key, size_t key_len, const char *text,
                             size_t len, char *to)
{
    crypto_auth_hmacsha256_state state;
    (void)crypto_auth_hmacsha256_init(&state, (const unsigned char *)key,
                                      key_len);
    (void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)text,
                                        len);
    (void)crypto_auth_hmacsha256_final(&state, (unsigned char *)to);
    sodium_memzero(&state, sizeof(state));
}

bool moon_crypto_equal(const char *a, const char *b, size_t len)
{
    return sodium_memcmp(a, b, len) == 0;
}

/* Version 4 (RFC 9562): random but for the version and the variant. */
void moon_crypto_uuid(char *to)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[16];
    moon_random_bytes(bytes, sizeof(bytes));
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = digits[bytes[i] >> 4];
        *to++ = digits[bytes[i] & 15];
    }
}

/* ---- the node's secret ---- */

/* One block of output is all that is ever wanted: T(1) of the RFC, without a
 * salt. */
bool moon_crypto_derive(int which, const char *purpose, size_t len, char *to)
{
    static const unsigned char no_salt[32];
    const struct moon_vm *vm = moon_vm_here();
    if (vm == NULL)
        return false;
    const struct moon_config *config = vm->options.config;
    const char *secretz =
        which == 0 ? config->secrets_newz : config->secrets_oldz;
    if (secretz[0] == '\0')
        return false;
    char extracted[32];
    crypto_auth_hmacsha256_state state;
    moon_crypto_hmac_sha256((const char *)no_salt, sizeof(no_salt), secretz,
                            strlen(secretz), extracted);
    (void)crypto_auth_hmacsha256_init(&state, (const unsigned char *)extracted,
                                      sizeof(extracted));
    (void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)purpose,
                                        len);
    (void)crypto_auth_hmacsha256_update(&state, (const unsigned char *)"\1", 1);
    (void)crypto_auth_hmacsha256_final(&state, (unsigned char *)to);
    sodium_memzero(extracted, sizeof(extracted));
    sodium_memzero(&state, sizeof(state));
    return true;
}
