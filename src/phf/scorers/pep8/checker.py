"""pycodestyle's checker, with each check called only on lines that have what it cannot fire without.

The checks are pycodestyle's own functions, and so are tokens and logical lines; what is left out are calls that would report
nothing. A check that is not known here (a newer pycodestyle's, a plugin's) is called on every line.
"""

import bisect
import re
import tokenize
from collections.abc import Callable, Iterator
from keyword import kwlist
from typing import Any

import pycodestyle

Violation = tuple[int, int, str]
"""Row from 1, column from 0, code."""


class Report:
    """Collects the violations of a checker in a list; prints nothing."""

    def __init__(self, ignore: tuple[str, ...]) -> None:
        self.ignore = ignore
        self.found: list[Violation] = []

    def error(self, row: int, column: int, text: str, check: Any) -> str | None:
        """Take one violation; return its code, or None if the code is ignored."""
        code = text[:4]
        if code.startswith(self.ignore):
            return None
        self.found.append((row, column, code))
        return code

    def init_file(self, filename: str, lines: list[str], expected: Any, line_offset: int) -> None:
        """Do nothing: one report serves one text."""

    def increment_logical_line(self) -> None:
        """Do nothing: lines are not counted."""

    def get_file_results(self) -> int:
        """Return the number of violations."""
        return len(self.found)


class Checker(pycodestyle.Checker):  # type: ignore[misc]
    """Checks one text: `Checker(lines=..., options=..., report=...).check_all()`, once.

    Of the logical line at hand it knows, besides what pycodestyle's checker does, its `rows`, its source (`raw`), and whether the
    source is `plain`: whole, with no comment, no backslash, no white space but spaces inside, and nothing that is no Python.
    """

    rows: int
    raw: str
    plain: bool
    tokens: list[Any]
    blank_lines: int
    blank_before: int

    def __init__(self, lines: list[str], options: Any, report: Report) -> None:
        super().__init__(lines=lines, options=options, report=report)
        self.broken = False
        self.gated = [(_GATES.get(name, _always), name, check, arguments) for name, check, arguments in self._logical_checks]
        self.physical_gate = _PHYSICAL_CHECKS.issuperset(name for name, _, _ in self._physical_checks)

    def generate_tokens(self) -> Iterator[Any]:
        """Yield the tokens, and run the physical checks on each line that ends.

        As pycodestyle does, but what depends on the line alone is done once a line, not once a token.
        """
        line = previous_line = ""
        noqa: Any = ""
        continued = False
        try:
            for token in tokenize.generate_tokens(self.readline):
                if token[2][0] > self.total_lines:
                    return
                if token[4] is not line:
                    line = token[4]
                    noqa = line and pycodestyle.noqa(line)
                    continued = line.endswith("\\\n")
                self.noqa = noqa
                if token[0] in _SPECIAL or continued:
                    self.broken = self.broken or token[0] == tokenize.ERRORTOKEN
                    self.maybe_check_physical(token, previous_line)
                yield token
                previous_line = line
        except (SyntaxError, tokenize.TokenError):
            self.report_invalid_syntax()

    def check_physical(self, line: str) -> None:
        """Run the checks of a physical line, unless it is short, has no tab, and ends in neither white space nor the file."""
        body = line.rstrip("\n\r\x0c")
        if (
            len(body) > self.max_line_length
            or "\t" in body
            or body[-1:] in _TRAILING_SPACE
            or self.line_number == self.total_lines
            or (self.indent_char != " " and body[:1] == " ")
            or not self.physical_gate
        ):
            super().check_physical(line)

    def check_logical(self) -> None:
        """Run on a logical line the checks that could report something. As pycodestyle does, but for the gates."""
        self.report.increment_logical_line()
        mapping = self.build_tokens_line()
        if not mapping:
            return
        row, column = mapping[0][1]
        self.indent_level = pycodestyle.expand_indent(self.lines[row - 1][:column])
        self.blank_before = max(self.blank_before, self.blank_lines)
        first, last = self.tokens[0][2][0], self.tokens[-1][3][0]
        self.rows = last - first + 1
        self.raw = self.lines[first - 1] if self.rows == 1 else "".join(self.lines[first - 1 : last])
        self.plain = (
            not self.broken and self.tokens[-1][0] in pycodestyle.NEWLINE and _NOT_PLAIN(self.raw.strip(" \t\r\n")) is None
        )
        line = self.logical_line
        places: list[int] = []
        for gate, name, check, arguments in self.gated:
            if gate(self, line):
                self.init_checker_state(name, arguments)
                for offset, text in self.run_check(check, arguments) or ():
                    if not isinstance(offset, tuple):
                        places = places or [place for place, _ in mapping]
                        place, (row, column) = mapping[bisect.bisect_left(places, offset)]
                        offset = (row, column + offset - place)
                    self.report_error(*offset, text, check)
        if line:
            self.previous_indent_level = self.indent_level
            self.previous_logical = line
            if not self.indent_level:
                self.previous_unindented_logical_line = line
        self.blank_lines = 0
        self.tokens = []


# Tokens that may end a physical line, or are no Python.
_SPECIAL = {
    getattr(tokenize, name, -1)
    for name in ("NL", "NEWLINE", "STRING", "FSTRING_START", "FSTRING_END", "TSTRING_START", "TSTRING_END", "ERRORTOKEN")
}
_TRAILING_SPACE = (" ", "\t", "\v")
_PHYSICAL_CHECKS = frozenset(
    ("maximum_line_length", "tabs_obsolete", "tabs_or_spaces", "trailing_blank_lines", "trailing_whitespace")
)

# In the source of a logical line: what the logical line does not show (comments, continuation), or shows but not as a space.
_NOT_PLAIN = re.compile(r"[^\S \n]|[#\\]").search

# In the logical line, where strings are blanked out. Numbers may end in letters, and a name may follow with nothing between.
_WIDE_SPACE = re.compile(r"[^\S ]|  ").search
_BRACKET_SPACE = re.compile(r"[\[({]\s|\s[\]}),;:]").search
_SPACE_BRACKET = re.compile(r"\s[(\[]").search
_BRACKET = re.compile(r"[()\[\]]").search
_AMBIGUOUS = re.compile(r"(?<![^\W\d])[lOI](?!\w)|\b\d\w*[lOI]\b").search
_KEYWORDS = "|".join(word for word in kwlist if word[0].islower())
_KEYWORD_GLUED = re.compile(rf"(?:(?<![^\W\d])|\b\d\w*)(?:{_KEYWORDS})(?:[^\w\s:]|:=)").search
_OPERATORS = r"(?:\*\*|//|<<|>>|[-+*/%@&|^])=?|[=!<>]=|[=<>]|->|:="
_WELL_SPACED = re.compile(rf"(?:[^-+*/%@&|^=!<>,;:]++|(?<= )(?:{_OPERATORS})(?= )|[,;:](?= |$))*+").fullmatch
_WORD_GLUED = re.compile(r"(?:[^\w\s]|\b\d[\w.]*)(?:and|in|is|or)\b|\b(?:and|in|is|or)[^\w\s]").search
_DEFINITION = ("def", "class", "@", "async")
_BLOCK = ("def", "async", "for", "if", "elif", "else", "try", "except", "finally", "with", "class", "while")


def _always(checker: Checker, line: str) -> bool:
    return True


def _indentation(checker: Checker, line: str) -> bool:
    step = checker.indent_level - checker.previous_indent_level
    expected = 0 < step <= 4 if checker.previous_logical.endswith(":") else step <= 0
    return not expected or checker.indent_level % checker.indent_size != 0


def _blank_lines(checker: Checker, line: str) -> bool:
    after_definition = not checker.indent_level and checker.previous_unindented_logical_line.startswith(_DEFINITION)
    return checker.blank_lines > 0 or after_definition or line.startswith(_DEFINITION)


def _compound_statements(checker: Checker, line: str) -> bool:
    colon = -1 < line.find(":") < len(line) - 1
    return ";" in line or (colon and ("lambda" in line or line.lstrip().startswith(_BLOCK)))


def _module_imports_on_top_of_file(checker: Checker, line: str) -> bool:
    if checker.indent_level or not line:
        return False
    seen = checker._checker_states.get("module_imports_on_top_of_file", {}).get("seen_non_imports", False)
    return not seen or line.startswith(("import ", "from ", "lazy "))


def _named_parameter_equals(checker: Checker, line: str) -> bool:
    before = line[: max(line.rfind("="), 0)]
    return _BRACKET(before) is not None and (
        checker.rows > 1
        or " =" in line
        or "= " in line
        or not checker.plain
        or line.startswith(("def", "async", "class", "type"))
    )


_GATES: dict[str, Callable[[Checker, str], bool]] = {
    "ambiguous_identifier": lambda checker, line: _AMBIGUOUS(line) is not None,
    "bare_except": lambda checker, line: line.startswith("except"),
    "blank_lines": _blank_lines,
    "comparison_negative": lambda checker, line: "not" in line,
    "comparison_to_singleton": lambda checker, line: "==" in line or "!=" in line,
    "comparison_type": lambda checker, line: "type" in line and ("==" in line or "!=" in line),
    "compound_statements": _compound_statements,
    "continued_indentation": lambda checker, line: checker.rows > 1,
    "explicit_line_join": lambda checker, line: checker.rows > 1 and "\\" in checker.raw,
    "extraneous_whitespace": lambda checker, line: line.startswith("@") or _BRACKET_SPACE(line) is not None,
    "imports_on_separate_lines": lambda checker, line: line.startswith("import "),
    "indentation": _indentation,
    "maximum_doc_length": lambda checker, line: checker.max_doc_length is not None,
    "missing_whitespace": lambda checker, line: not checker.plain or _WELL_SPACED(line) is None or _WORD_GLUED(line) is not None,
    "missing_whitespace_after_keyword": lambda checker, line: (
        not checker.plain or "\r" in checker.raw or _KEYWORD_GLUED(line) is not None
    ),
    "module_imports_on_top_of_file": _module_imports_on_top_of_file,
    "python_3000_invalid_escape_sequence": lambda checker, line: "\\" in checker.raw,
    "whitespace_around_keywords": lambda checker, line: _WIDE_SPACE(line) is not None,
    "whitespace_around_named_parameter_equals": _named_parameter_equals,
    "whitespace_around_operator": lambda checker, line: _WIDE_SPACE(line) is not None,
    "whitespace_before_comment": lambda checker, line: "#" in checker.raw,
    "whitespace_before_parameters": lambda checker, line: _SPACE_BRACKET(line) is not None,
}
"""By the name of the check: whether it could report something on a logical line."""
