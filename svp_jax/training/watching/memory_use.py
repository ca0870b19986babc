"""How much memory a run has needed so far."""

import jax


def peak_memory() -> float | None:
    """The most memory (GB, 1e9 bytes) that was in use at once, so far.

    Of the local GPU that needed most; on the CPU of this process, all of it. None where that is not counted: systems
    other than Linux, and some accelerators.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
        return None if None in peaks else max(peaks) / 1e9
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            kilobytes = next(line.split()[1] for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
    return int(kilobytes) * 1024 / 1e9
