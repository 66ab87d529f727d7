"""How numbers are written for people, one way everywhere: shares, counts and times."""


def percent(share: float) -> str:
    """Write a share of 1 in per cent, with three digits: 12.3%."""
    return f"{100 * share:.3g}%" if abs(share) < 0.9995 else f"{100 * share:.0f}%"


def short_count(value: float) -> str:
    """Write a count as recipes do: 3.3B, 250k."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Write a time: 2:05 in minutes and seconds, 1:02:05 with hours, 3 days 4 h from two days on."""
    if seconds >= 48 * 3600:
        hours = round(seconds / 3600)
        return f"{hours // 24} days {hours % 24} h"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
