"""Colours and markers: one of each an objective, everywhere, light and dark."""

INK = {"ink": "#1b2026", "muted": "#5b6470", "rule": "#e2e5ea", "surface": "#ffffff", "frontier": "#8a929d", "bad": "#c2123a"}
"""Colours by role, light."""

STYLES = {
    "mle": ("#46484b", "s"),
    "conditional": ("#0c54d0", "o"),
    "filtering": ("#942a1c", "v"),
    "unlikelihood": ("#0b7f56", "D"),
    "rwr": ("#8c6b0d", "^"),
    "awr": ("#983a87", "P"),
    "other": ("#2a1670", "X"),
}
"""One colour and one marker an objective, everywhere: each readable as text on white, any two at least 16 apart in CIELAB, also
to eyes without one kind of cone (simulated as by Machado et al. 2009), and distinct by the marker without any colour."""

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
    "mle": "#9699a0",
    "conditional": "#6a93e6",
    "filtering": "#e88a68",
    "unlikelihood": "#7ce9b1",
    "rwr": "#cba13a",
    "awr": "#facaee",
    "other": "#ae5ffb",
}
"""The same roles on a dark page."""


def colours(dark: bool) -> dict[str, str]:
    """Return every colour by its role."""
    return DARK if dark else {**INK, **{name: color for name, (color, _) in STYLES.items()}}


def style_of(objective: str) -> str:
    """Return the style of an objective; those of plugins share one."""
    return objective if objective in STYLES else "other"
