"""Files of records, read without holding more than one record where the format allows it; nothing in them is run."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from t2t.core.errors import DataError, one_line
from t2t.core.progress import progress
from t2t.data.csv_files import Dialect, beginning_of
from t2t.data.limits import TableLimits

BLOCK = 1 << 20
# Characters of one record; more is another file by mistake.
LONGEST = 1 << 27
DEEPEST = 100


def json_records(path: Path, limits: TableLimits) -> Iterator[tuple[int, Any]]:
    """(number from 1, record) of a JSON file that is a list, or has a record a line; one record is held at once.

    Raises DataError for what is no JSON, naming the record.
    """
    limits.refuse_bytes(path, _size(path))
    try:
        yield from _records(path)
    except UnicodeDecodeError as error:
        raise DataError(path, f"not UTF-8 text: {error}.") from None


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder()
    with _open(path) as file, progress(f"Reading {path.name}", os.path.getsize(path), "bytes") as advance:
        text, place, number, ended, closing = file.read(BLOCK).lstrip(), 0, 0, False, ""
        advance(len(text.encode("utf-8", "replace")))
        if text.startswith("["):
            place, closing = 1, "]"
        elif text and not text.startswith("{"):
            raise DataError(path, f"not readable as JSON: it begins with {one_line(repr(text[:20]))}.")
        while True:
            place = _behind(text, place)
            if place < len(text) and text[place] == closing:
                if text[place + 1 :].strip() or file.read(BLOCK).strip():
                    raise DataError(
                        f"{path}, record {number}", "not readable as JSON: something stands behind the list's end."
                    )
                return
            try:
                record, end = decoder.raw_decode(text, place)
                # A number or word at the end of what was read may go on.
                whole = ended or end < len(text)
            except RecursionError:
                raise _broken(path, number + 1, "nested too deeply") from None
            except ValueError as error:
                whole = False
                if ended or len(text) - place > LONGEST:
                    if not closing and not text[place:].strip():
                        return
                    raise DataError(
                        f"{path}, record {number + 1}", f"not readable as JSON: {one_line(error, 120)}."
                    ) from None
            if whole:
                number += 1
                yield number, record
                place = end
                continue
            # As much again as is held: a long record is not gone through once a block.
            more = file.read(max(BLOCK, len(text) - place))
            ended = not more
            advance(len(more.encode("utf-8", "replace")))
            text, place = text[place:] + more, 0


def _broken(path: Path, number: int, reason: str) -> DataError:
    return DataError(f"{path}, record {number}", f"not readable as JSON: {reason}.")


def _behind(text: str, place: int) -> int:
    """The place behind blanks and commas."""
    while place < len(text) and text[place] in " \t\r\n,":
        place += 1
    return place


def json_file(path: Path, limits: TableLimits) -> Any:
    """A JSON file as a whole. Raises DataError for what is none."""
    limits.refuse_bytes(path, _size(path))
    try:
        with _open(path) as file, progress(f"Reading {path.name}", 1, "file") as advance:
            content = json.load(file)
            advance(1)
        return content
    except RecursionError:
        raise DataError(path, "not readable as JSON: nested too deeply.") from None
    except ValueError as error:
        raise DataError(path, f"not readable as JSON: {one_line(error, 120)}.") from None


def _open(path: Path) -> Any:
    return open(path, encoding="utf-8-sig", errors="strict")


def _size(path: Path) -> int:
    if not path.is_file():
        raise DataError(path, "no such file.")
    return path.stat().st_size


def csv_rows(path: Path, limits: TableLimits) -> Iterator[tuple[int, dict[str, str]]]:
    """(line of a text editor, cells by column) of a CSV file's rows; blank ones are passed over.

    Raises DataError for one that is no CSV or too large, a column without a name, or twice, and a row with another
    number of cells than the header has.
    """
    _size(path)
    limits.refuse_text(path)
    dialect = Dialect.of(beginning_of(path))
    header: list[str] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for _ in range(dialect.before):
                file.readline()
            reader, line = csv.reader(file, delimiter=dialect.delimiter), 1 + dialect.before
            csv.field_size_limit(limits.line_kilobytes << 10)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    if not header:
                        header = _header(path, cells)
                        line = reader.line_num + 1 + dialect.before
                        continue
                    if any(cell.strip() for cell in cells[len(header) :]) or len(cells) < len(header):
                        raise DataError(path, f"{len(cells)} cells, but the header has {len(header)}.", line)
                    yield line, dict(zip(header, cells, strict=False))
                line = reader.line_num + 1 + dialect.before
    except UnicodeDecodeError as error:
        raise DataError(path, f"not UTF-8 text: {error}.") from None
    except csv.Error as error:
        raise DataError(path, f"not readable as a table: {one_line(error)}.") from None


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    for name in names:
        if not name or names.count(name) > 1:
            what = f"column {name!r} stands twice." if name else "a column without a name."
            raise DataError(path, what)
    return names


class Element:
    """An XML element: tag, attributes, text, children."""

    __slots__ = ("attributes", "children", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]):
        self.tag, self.attributes, self.text = tag, attributes, ""
        self.children: list[Element] = []

    def all(self, tag: str) -> list[Element]:
        return [child for child in self.children if child.tag == tag]

    def at(self, *tags: str) -> str:
        """The text at a path of tags; "" where there is none."""
        found: list[Element] = [self]
        for tag in tags:
            found = [child for element in found for child in element.all(tag)]
        return found[0].text.strip() if found else ""

    def every(self) -> Iterator[Element]:
        """This and all below, in the order of the file."""
        yield self
        for child in self.children:
            yield from child.every()


def xml_file(path: Path, limits: TableLimits) -> Element:
    """An XML file's root. Raises DataError for what is no XML, and for a document type or an entity of its own: one of
    few bytes may stand for more than a memory holds, or for another file."""
    limits.refuse_bytes(path, _size(path))
    root = Element("", {})
    open_elements = [root]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_: object) -> NoReturn:
        raise DataError(path, "has a document type or entities of its own, which are not read; export it without.")

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > DEEPEST:
            raise DataError(f"{path}, line {parser.CurrentLineNumber}", "nested too deeply.")
        element = Element(tag, attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def text(data: str) -> None:
        open_elements[-1].text += data

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.CharacterDataHandler = text
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise DataError(path, f"not readable as XML: {one_line(error, 120)}.") from None
    except (ValueError, LookupError) as error:
        raise DataError(path, f"not readable as XML: {one_line(error, 120)}.") from None
    return root.children[0]
