"""One store of decoded frames for all training processes of a host."""

from collections.abc import Callable
from typing import Any

from slowfast_dist.config.training import Config
from slowfast_dist.data.cache.frames import FrameCache
from slowfast_dist.data.cache.plan import CachePlan, make_store, parts_of, plan_cache
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.video.cache.store import FrameStore, StoreAddress


def share_caches(
    config: Config, videos: VideoSet, on_each_host: Callable[[Callable[[], Any]], Any],
    gather: Callable[[list[str]], list[str]], share: float,
) -> tuple[FrameCache, FrameCache] | None:  # fmt: skip
    """Where the frames of the training's and the validation's videos are kept; None: nowhere.

    Collective, as ``on_each_host`` and ``gather`` are: those of `collectives`, of an accelerator.
    ``share`` as in `plan_cache`. Raises UserError as that does.
    """
    train, val = videos.train, videos.val
    own: list[FrameStore] = []

    def make() -> tuple[CachePlan, StoreAddress | None]:
        views = config.evaluation.temporal_views
        shown = videos.segments(), val
        if videos.ways:  # whose rows share their frames
            shown = train.per_file(), val.per_file()
        plan = plan_cache(config.data, *shown, config.epochs, views, share)
        plan, store = make_store(plan, config.data, train, val)
        own.extend([store] if store else [])
        return plan, store.address if store else None

    plan, address = on_each_host(make)
    if plan.line:
        logger.info(plan.line)
    store, why = own[0] if own else None, ""
    if store is None and address is not None:
        try:
            store = FrameStore.open(address)
        except OSError as error:  # as where a process may not look into another one
            why = reason_of(error)
    if lost := [reason for reason in gather([why]) if reason]:
        logger.warning(
            f"{len(lost)} of the processes cannot share the decoded frames of their host "
            f"({lost[0]}): they decode each clip anew"
        )
    return None if store is None else parts_of(store, plan, train, config.epochs)
