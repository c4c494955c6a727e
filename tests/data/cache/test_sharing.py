"""What processes of a host have in common, and what is said where they cannot."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.config.training import Config
from slowfast_dist.data.cache.sharing import share_caches
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.system.log import log_to_console
from slowfast_dist.video.cache.store import Written

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="frames are kept on Linux alone")


def test_a_process_opens_what_the_first_one_made_or_does_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_console()
    root = tmp_path / "all"
    make_videos(root, 3, seed=0, size=48, frames=24, classes=("moves up", "moves down"))
    config = replace(Config(), data=replace(Config().data, root=root))
    videos = find_videos(config.data, 0)
    made: list[Any] = []

    def first(work: Callable[[], Any]) -> Any:
        made.append(work())
        return made[0]

    def of_first(_: Callable[[], Any]) -> Any:
        return made[0]

    capsys.readouterr()
    own = share_caches(config, videos, first, list, 0.2)
    other = share_caches(config, videos, of_first, list, 0.2)
    assert own is not None and other is not None and own[0].store is not other[0].store
    own[0].store.add(1, np.array([5, 7]), Written(4096, 64, (1, 0, 0), (10, 20)))
    for cache in other:  # the validation's part is of the same store
        places = cache.store.places(1, np.array([7, 5]))
        assert places is not None and places.tolist() == [4160, 4096]
    assert capsys.readouterr().out.count("decoded frames are kept in memory") == 2
    plan, address = made[0]
    made[0] = plan, replace(address, space=10**6)
    assert share_caches(config, videos, of_first, list, 0.2) is None
    assert (
        "warning: 1 of the processes cannot share the decoded frames of their host (No such file "
        "or directory): they decode each clip anew"
    ) in capsys.readouterr().out
