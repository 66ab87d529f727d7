"""Write the tree of docs/architecture.md: every module with the first sentence of its docstring. Run as a script."""

import ast
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs/architecture.md"
START, END = "<!-- tree -->\n", "<!-- /tree -->"


def tree() -> str:
    """Return the tree as a table."""
    root = PROJECT / "src/phf"
    rows = ["| module | what it is |", "|---|---|"]
    for path in sorted(root.rglob("*.py"), key=lambda path: (path.parent.parts, path.name)):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        rows.append(f"| `{path.relative_to(root)}` | {first.replace('|', chr(92) + '|').replace('<', '&lt;')} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text()
    before, rest = text.split(START)
    PAGE.write_text(before + START + "\n" + tree() + "\n" + END + rest.split(END)[1])
