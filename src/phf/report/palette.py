"""Colours and markers: one of each an objective, everywhere, light and dark."""

INK = {"ink": "#1b2026", "muted": "#5b6470", "rule": "#e2e5ea", "surface": "#ffffff", "frontier": "#8a929d", "bad": "#b3261f"}
"""Colours by role, light."""

STYLES = {
    "mle": ("#4d545e", "s"),
    "conditional": ("#0b5cad", "o"),
    "filtering": ("#c2410d", "v"),
    "unlikelihood": ("#00775a", "D"),
    "rwr": ("#8f6400", "^"),
    "awr": ("#a23a7c", "P"),
    "other": ("#6941c5", "X"),
}
"""One colour and one marker an objective, everywhere: told apart without colour, and each readable as text on white."""

MARKERS = {
    "s": "M-4.5-4.5h9v9h-9z",
    "o": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "v": "M-5-4.5h10L0 5z",
    "D": "M0-6L6 0 0 6-6 0z",
    "^": "M-5 4.5h10L0-5z",
    "P": "M-2-5.5h4V-2h3.5v4H2v3.5h-4V2h-3.5v-4H-2z",
    "X": "M-5-2.5L-2.5-5 0-2.5 2.5-5 5-2.5 2.5 0 5 2.5 2.5 5 0 2.5-2.5 5-5 2.5-2.5 0z",
}
"""The markers as SVG paths around (0, 0), for tables."""

DARK = {
    "ink": "#e8eaed",
    "muted": "#a3abb6",
    "rule": "#30363f",
    "surface": "#14171b",
    "frontier": "#7c8591",
    "bad": "#ff8a80",
    "mle": "#c0c6cf",
    "conditional": "#6cb0ff",
    "filtering": "#ff9a66",
    "unlikelihood": "#45cfa4",
    "rwr": "#e3b94f",
    "awr": "#f193c9",
    "other": "#b9a1ff",
}
"""The same roles on a dark page."""


def colours(dark: bool) -> dict[str, str]:
    """Give every colour by its role."""
    return DARK if dark else {**INK, **{name: color for name, (color, _) in STYLES.items()}}


def style_of(objective: str) -> str:
    """Name the style of an objective; those of plugins share one."""
    return objective if objective in STYLES else "other"
