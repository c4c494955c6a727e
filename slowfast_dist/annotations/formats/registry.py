"""The table of formats, and which of them a file is."""

from collections.abc import Callable
from dataclasses import dataclass

from slowfast_dist.annotations.formats import (
    boris,
    boris_tables,
    cvat,
    dataset_json,
    dataset_tables,
    elan,
    label_studio,
    path_lists,
    tables,
    via,
)
from slowfast_dist.annotations.importing.reading import Reader
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import AnnotationFormat


@dataclass(frozen=True)
class Format:
    """A layout of files: its ``name``, the word of --format, which several layouts may share; what
    it is; whether a file looks like it; and its reader."""

    name: AnnotationFormat
    title: str
    looks_like: Callable[[Source], bool]
    read: Reader
    side_in_name: bool = False
    """Whether the side of the split is in the name of the file."""


FORMATS = (
    Format("elan", "ELAN", elan.is_eaf, elan.read_eaf),
    Format("cvat", "CVAT for video or images", cvat.is_xml, cvat.read_xml),
    Format("boris", "BORIS, a project", boris.is_project, boris.read_project),
    Format("via", "VIA 3, a project", via.is_project, via.read_project),
    Format("activitynet", "ActivityNet", dataset_json.is_activitynet,
           dataset_json.read_activitynet),
    Format("fiftyone", "FiftyOne", dataset_json.is_fiftyone, dataset_json.read_fiftyone),
    Format("ssv2", "Something-Something v2", dataset_json.is_ssv2, dataset_json.read_ssv2, True),
    Format("label-studio", "Label Studio", label_studio.is_export, label_studio.read_export),
    Format("videofolder", "Hugging Face's videofolder", tables.is_videofolder,
           tables.read_videofolder),
    Format("createml", "Create ML, or a list of objects", tables.is_objects, tables.read_objects),
    Format("via", "VIA 3, CSV", via.is_csv, via.read_csv),
    Format("boris", "BORIS, a table of events", boris_tables.is_table, boris_tables.read_table),
    Format("kinetics", "Kinetics", dataset_tables.is_kinetics, dataset_tables.read_kinetics, True),
    Format("epic-kitchens", "EPIC-KITCHENS-100", dataset_tables.is_epic, dataset_tables.read_epic,
           True),
    Format("charades", "Charades", dataset_tables.is_charades, dataset_tables.read_charades, True),
    Format("csv", "a table with columns for video and label", tables.is_table, tables.read_table),
    Format("ucf101", "UCF101", path_lists.is_ucf101, path_lists.read_ucf101, True),
    Format("hmdb51", "HMDB51", path_lists.is_hmdb51, path_lists.read_hmdb51),
    Format("pyslowfast", "PySlowFast, or MMAction2's list of videos", path_lists.is_videos,
           path_lists.read_videos, True),
    Format("mmaction2", "MMAction2, a list of videos", path_lists.is_videos,
           path_lists.read_videos, True),
    Format("mmaction2", "MMAction2, a list of folders of frames", path_lists.is_rawframes,
           path_lists.read_rawframes, True),
)  # fmt: skip
"""In the order in which a file is held against them: what a stricter one is, comes first."""


def find_format(source: Source, name: AnnotationFormat | None) -> Format:
    """The format of a file, of those called ``name`` if there is one. Raises UserError where it is
    none of them."""
    candidates = [one for one in FORMATS if name is None or one.name == name]
    for candidate in candidates:
        if candidate.looks_like(source):
            return candidate
    if not source.head.strip():
        raise source.wrong("is empty")
    first = source.head.strip().splitlines()[0][:80]
    if first.startswith("version https://git-lfs"):
        raise source.wrong("is a pointer of Git LFS in place of the file: git lfs pull")
    if name is not None:
        if len(candidates) == 1:  # the reader says what is missing
            return candidates[0]
        titles = " or ".join(one.title for one in candidates)
        raise source.wrong(f"is not {titles}; it begins with {first!r}")
    names = ", ".join(dict.fromkeys(one.name for one in FORMATS))
    raise UserError(
        f"{source.path}: its format is not known (it begins with {first!r}): give a table whose "
        f"first line names the columns path,label,start,end, or --format, one of {names}"
    )
