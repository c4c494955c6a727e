"""ELAN: files that pympi-ling writes where it is installed, and by hand."""

from pathlib import Path

import pytest

from slowfast_dist.annotations.formats.elan import write_eaf
from slowfast_dist.annotations.formats.writing import Found, VideoSegments
from slowfast_dist.annotations.importing.reading import Subjects
from slowfast_dist.config.errors import UserError
from tests.helpers.importing import imported

VIDEOS = {"a b.mp4": (10.0, 25.0)}

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/x/a.wav" MIME_TYPE="audio/x-wav"/>
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/x/a%20b.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="500"/>
</HEADER>
<TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1234"/>
<TIME_SLOT TIME_SLOT_ID="ts3"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4000"/>
<TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="4000"/>
</TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="t" TIER_ID="gesture" PARTICIPANT="Kim">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>wave &amp; nod</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
<ANNOTATION_VALUE>nod</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts5">
<ANNOTATION_VALUE>blink</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER>
<TIER LINGUISTIC_TYPE_REF="t" TIER_ID="hand" PARENT_REF="gesture">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a1">
<ANNOTATION_VALUE>left</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a5" ANNOTATION_REF="a5">
<ANNOTATION_VALUE>right</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
</TIER>
<TIER LINGUISTIC_TYPE_REF="t" TIER_ID="empty"/>
</ANNOTATION_DOCUMENT>
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_tier_is_asked_for_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.eaf", EAF)
    with pytest.raises(UserError, match=r"several tiers.*gesture \(3\), hand \(2\).*--tier NAME"):
        imported(path, VIDEOS)
    with pytest.raises(UserError, match="--tier 'Gesture': no tier of that name"):
        imported(path, VIDEOS, tier=("Gesture",))


def test_a_tier_s_annotations_at_the_time_of_the_video(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "x.eaf", EAF), VIDEOS, tier=("gesture",))
    assert found.format == "elan"
    assert found.rows == [("a b.mp4", "wave & nod", "0.500", "1.734")]
    assert found.column("subject") == ["Kim"]
    assert "x.eaf: the offset of its video, 500 ms, is added" in found.said
    text = "\n".join(found.lines)
    assert "1 row dropped: its time slots have no times" in text and "annotation a2" in text
    assert "1 row dropped: it is a moment without length" in text


def test_annotations_without_times_have_those_of_their_parents(tmp_path: Path) -> None:
    found = imported(write(tmp_path / "x.eaf", EAF), VIDEOS, tier=("hand",))
    assert found.rows == [("a b.mp4", "left", "0.500", "1.734")]
    assert "annotation a5" in found.lines[0]  # its own parent


def test_participants_become_part_of_the_label(tmp_path: Path) -> None:
    path = write(tmp_path / "x.eaf", EAF)
    found = imported(path, VIDEOS, tier=("gesture",), subjects=Subjects(use="label"))
    assert found.rows[0][1] == "Kim wave & nod" and found.column("subject") == [""]
    with pytest.raises(UserError, match="its subject is none of --subject"):
        imported(path, VIDEOS, tier=("gesture",), subjects=Subjects(("Lee",)))


@pytest.mark.parametrize("text", [
    '<!DOCTYPE x [<!ENTITY a "b">]><ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>',
    '<!DOCTYPE x SYSTEM "file:///etc/passwd"><ANNOTATION_DOCUMENT/>',
])  # fmt: skip
def test_document_types_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has a document type"):
        imported(write(tmp_path / "x.eaf", text), VIDEOS)


@pytest.mark.parametrize(("text", "message"), [
    ("<ANNOTATION_DOCUMENT><HEADER>", "is no whole XML"),
    ("<ANNOTATION_DOCUMENT>" + "<a>" * 500 + "</a>" * 500 + "</ANNOTATION_DOCUMENT>", "too deep"),
    (EAF.replace('"milliseconds"', '"PAL-frames"'), "TIME_UNITS"),
])  # fmt: skip
def test_broken_files_end_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        imported(write(tmp_path / "x.eaf", text), VIDEOS)


SEGMENTS = VideoSegments(
    "/videos/a b.mp4", 10.0, 25.0, ["nod", "wave & <>"],
    [Found(0.0, 1.234, "wave & <>", 0.9), Found(1.234, 2.5, "nod", 0.8)],
)  # fmt: skip
ROWS = [("a b.mp4", "wave & <>", "0.000", "1.234"), ("a b.mp4", "nod", "1.234", "2.500")]


def test_a_written_file_gives_the_same_segments(tmp_path: Path) -> None:
    assert imported(write(tmp_path / "x.eaf", write_eaf(SEGMENTS)), VIDEOS).rows == ROWS


def test_pympi_reads_what_is_written(tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi", reason="needs pympi-ling")
    document = pympi.Eaf(str(write(tmp_path / "x.eaf", write_eaf(SEGMENTS))))
    tier = document.get_annotation_data_for_tier("slowfast_dist")
    assert tier == [(0, 1234, "wave & <>"), (1234, 2500, "nod")]
    assert document.media_descriptors[0]["MEDIA_URL"] == "file:///videos/a b.mp4"


def test_what_pympi_writes_is_read(tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi", reason="needs pympi-ling")
    document = pympi.Eaf()
    document.add_linked_file("file:///D:/there/a b.mp4", mimetype="video/mp4")
    document.remove_tier("default")
    document.add_tier("act", part="Kim")
    document.add_annotation("act", 40, 1280, "wave")
    document.add_linguistic_type("child", constraints="Symbolic_Association", timealignable=False)
    document.add_tier("hand", ling="child", parent="act")
    document.add_ref_annotation("hand", "act", 100, "left")
    document.to_file(str(tmp_path / "x.eaf"))
    found = imported(tmp_path / "x.eaf", VIDEOS, tier=("act", "hand"))
    assert found.rows == [(VIDEO, label, "0.040", "1.280") for label in ("wave", "left")]
    assert found.column("subject") == ["Kim", ""]


VIDEO = "a b.mp4"
