"""Keys that somebody chose to hurt a hash table, and others of the same length.

LuaJIT interns every string under a hash of its length and of four words of it,
at fixed places and mixed with a seed: strings that differ elsewhere only get
the same hash whatever the seed is. Tables of C with a keyed hash over all bytes
cannot be aimed at; for those and for comparisons the keys have a long common
prefix, which is as bad as it gets.
"""

import itertools
import random
import struct

LENGTH = 40
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def sparse_hash(text, seed):
    """LuaJIT's hash_sparse (lj_str.c), for at least four bytes."""
    def word(at):
        return struct.unpack_from("<I", text, at)[0]

    def rol(value, bits):
        return ((value << bits) | (value >> (32 - bits))) & 0xffffffff

    size = len(text)
    h = (size ^ seed) & 0xffffffff
    a = word(0)
    h ^= word(size - 4)
    b = word((size >> 1) - 2)
    h ^= b
    h = (h - rol(b, 14)) & 0xffffffff
    b = (b + word((size >> 2) - 1)) & 0xffffffff
    a ^= h
    a = (a - rol(h, 11)) & 0xffffffff
    b ^= a
    b = (b - rol(a, 25)) & 0xffffffff
    h ^= b
    return (h - rol(b, 16)) & 0xffffffff


def crafted(count):
    """All have one hash, under any seed, and share their first half."""
    keys = ["a" * 23 + "".join(tail) + "a" * 11 for tail in
            itertools.islice(itertools.product(DIGITS, repeat=6), count)]
    for seed in (0, 0x12345678, 0xdeadbeef):
        assert len({sparse_hash(k.encode(), seed) for k in keys[:500]}) == 1
    assert len(set(keys)) == count and len(keys[0]) == LENGTH
    return keys


def ordinary(count, which=1):
    """Random ones of the same length."""
    chance = random.Random(which)
    keys = ["".join(chance.choices(DIGITS, k=LENGTH)) for _ in range(count)]
    hashes = {sparse_hash(k.encode(), 0x12345678) for k in keys}
    assert len(set(keys)) == count and len(hashes) > count * 0.99
    return keys
