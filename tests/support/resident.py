"""What a process has in memory.

    resident(pid)["RssAnon"]    # bytes of its own; RssFile, RssShmem, VmRSS
"""

import pathlib


def resident(pid):
    """Bytes by kind, from /proc/PID/status."""
    kinds = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.startswith(("Rss", "VmRSS")):
            kinds[name] = int(rest.split()[0]) * 1024
    return kinds
