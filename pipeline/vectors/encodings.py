"""In which encoding the text of a source is: what is declared, what fits, and text that was decoded wrongly before."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.vectors.errors import VectorError

CHINESE = 0.8
"""Share of the bytes above 127 that must form common Chinese characters for text to be taken as Chinese."""
SUSPECT = 0.05
"""Share of the values with other letters than ASCII that, decoded wrongly, are warned of."""

_GB_FAMILY = frozenset({"gb2312", "gbk", "cp936", "gb18030", "hz", "euc_cn"})
_WESTERN = frozenset({"iso8859-1", "iso8859-15", "cp1252", "cp437", "cp850", "ascii", "latin_1"})
_LANGUAGE_DRIVERS = {
    0x01: "cp437", 0x02: "cp850", 0x03: "cp1252", 0x13: "cp932", 0x4D: "gb18030", 0x4E: "cp949", 0x4F: "big5hkscs",
    0x57: "cp1252", 0x58: "cp1252", 0x64: "cp852", 0x65: "cp866", 0x78: "big5hkscs", 0x79: "cp949", 0x7A: "gb18030",
    0x7B: "cp932", 0x7C: "cp874", 0xC8: "cp1250", 0xC9: "cp1251", 0xCA: "cp1254", 0xCB: "cp1253",
}  # fmt: skip
"""Byte 29 of a DBF header. Source: the list of language drivers of dBASE, as GDAL's Shapefile driver has it."""
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_LOST = ("\ufffd", "锟斤拷")


def encoding_named(text: str) -> str | None:
    """Python's name of an encoding as files and people write it (``ANSI 936``, ``GBK``, ``88591``, ``UTF8``)."""
    name = text.strip().strip("\ufeff\"'").lower()
    number = re.fullmatch(r"(?:ansi|oem|cp|windows|ibm|ms)?[\s_-]*(\d{3,5})", name)
    if number:
        code = number[1]
        known = {"65001": "utf-8", "54936": "gb18030", "20936": "gb18030", "936": "gb18030", "950": "big5hkscs"}
        name = known.get(code, f"iso8859-{code[4:]}" if code.startswith("8859") else f"cp{code}")
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    if found in _GB_FAMILY:
        return "gb18030"
    return "big5hkscs" if found in {"big5", "cp950"} else found


def encoding_given(text: str) -> str:
    """The encoding that the user names.

    Raises:
        VectorError: no such encoding.
    """
    found = encoding_named(text)
    if found is None:
        raise VectorError(f"--vectors-encoding {text}: no such encoding; write for example gbk, big5 or utf-8")
    return found


def dbf_encoding(path: Path) -> str | None:
    """What the .cpg beside a Shapefile declares, else the language driver of its .dbf; None where neither says."""
    beside = {p.suffix.lower(): p for p in path.parent.glob(f"{_literal(path.stem)}.*")}
    cpg, dbf = beside.get(".cpg"), beside.get(".dbf")
    if cpg is not None and (declared := encoding_named(cpg.read_text(encoding="latin-1")[:64])) is not None:
        return declared
    if dbf is None:
        return None
    with dbf.open("rb") as file:
        header = file.read(32)
    return _LANGUAGE_DRIVERS.get(header[29]) if len(header) == 32 else None


def encoding_of(texts: Iterable[bytes], declared: str | None, where: str) -> tuple[str, str | None]:
    """The encoding in which ``texts`` make sense, and a warning where it is not the one declared.

    Args:
        texts: Values as bytes; the last character of each may be cut.
        declared: What the source says, as `encoding_named` names it.
        where: File and layer, for the message.
    """
    samples = [t for t in set(texts) if not t.isascii()]
    if not samples:
        return declared or "utf-8", None
    shown = "declares no encoding" if declared is None else f"declares {declared}"
    ask = "if that is wrong, say which it is with --vectors-encoding"
    if all(fits(t, "utf-8") for t in samples):
        note = f"{where}: {shown}, but its text is UTF-8 and was read so; {ask}"
        return "utf-8", None if declared in {None, "utf-8"} else note
    vague = declared is None or declared == "utf-8" or declared in _WESTERN
    if not vague and declared is not None and all(fits(t, declared) for t in samples):
        return declared, None
    for encoding, score in (("gb18030", _gb_share(samples)), ("big5hkscs", _big5_share(samples))):
        if score >= CHINESE and all(fits(t, encoding) for t in samples):
            return encoding, f"{where}: {shown}, but its text makes sense as {encoding} and was read so; {ask}"
    if declared in _WESTERN and declared is not None:
        return declared, None
    return "iso8859-1", (
        f"{where}: {shown}, and its text is neither UTF-8 nor Chinese in GBK or Big5; it was read as ISO-8859-1; {ask}"
    )


def fits(text: bytes, encoding: str) -> bool:
    """Whether bytes can be decoded, but for a last character that may be cut."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(text, final=False)
    except UnicodeDecodeError:
        return False
    return True


def decoded(text: bytes, encoding: str) -> str:
    """Text of bytes: a cut last character is left out, bytes that fit nothing become U+FFFD."""
    return codecs.getincrementaldecoder(encoding)("replace").decode(text, final=False)


def mojibake(texts: Sequence[str]) -> str | None:
    """What is wrong with text that was decoded wrongly before it was written, with an example; None where it is not."""
    foreign = [t for t in texts if _NOT_ASCII.search(t)]
    lost = [t for t in foreign if any(mark in t for mark in _LOST)]
    if lost:
        return f"{len(lost)} texts hold characters that were lost in an earlier conversion, such as {lost[0][:60]!r}"
    wrong = [(t, right) for t in foreign if (right := _meant(t)) is not None]
    if len(wrong) < max(1, SUSPECT * len(foreign)):
        return None
    text, right = wrong[0]
    return (
        f"{len(wrong)} texts look decoded in a wrong encoding, such as {text[:60]!r}, which is {right[:60]!r}: write"
        " the file anew from its source with the right encoding"
    )


def _meant(text: str) -> str | None:
    """What a text was before it was decoded wrongly; None where it seems right."""
    for encoding in ("latin-1", "cp1252"):
        try:
            raw = text.encode(encoding)
        except UnicodeEncodeError:
            continue
        if len(re.findall(rb"[\x80-\xff]{2,}", raw)) and fits(raw, "utf-8"):
            return decoded(raw, "utf-8")
        if len(re.findall(rb"[\x80-\xff]", raw)) >= 4 and fits(raw, "gb18030") and _gb_share([raw]) >= CHINESE:
            return decoded(raw, "gb18030")
    try:
        raw = text.encode("gbk")
    except UnicodeEncodeError:
        return None
    right = decoded(raw, "utf-8") if fits(raw, "utf-8") else ""
    return right if len(re.findall("[\u4e00-\u9fff]", right)) >= 2 else None


def _gb_share(samples: Sequence[bytes]) -> float:
    """Share of the bytes above 127 that form characters of GB 2312."""
    high = sum(len(re.findall(rb"[\x80-\xff]", t)) for t in samples)
    pairs = sum(len(re.findall(rb"(?:[\xa1-\xa3\xb0-\xf7][\xa1-\xfe])", t)) for t in samples)
    return 2 * pairs / high if high else 0.0


def _big5_share(samples: Sequence[bytes]) -> float:
    """Share of the two-byte characters that are frequent ones of Big5."""
    leads = [m[0] for t in samples for m in re.findall(rb"[\x81-\xfe][\x40-\x7e\xa1-\xfe]", t)]
    return sum(0xA1 <= lead <= 0xC6 for lead in leads) / len(leads) if leads else 0.0


def _literal(stem: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", stem)
