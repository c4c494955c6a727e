"""Fine-tune SlowFast video action recognition, on a laptop CPU, one GPU or many nodes.

As a library::

    import slowfast_dist

    config = slowfast_dist.load_config("finetune", ["--data.root", "my_videos"])
    result = slowfast_dist.train(config)
    model = slowfast_dist.load(result["output_dir"])
    print(model.predict("video.mp4").label)

`slowfast_dist.library` documents each name. What a name needs is imported when it is first used.
"""

from slowfast_dist import renamed

TYPE_CHECKING = False
"""As `typing` has it, whose import would take longer than all else that happens here."""

__all__ = [
    "Config", "Prediction", "Predictor", "RunError", "Segment", "UserError", "VideoProperties",
    "load", "load_config", "probe", "read_frames", "train",
]  # fmt: skip

renamed.install()

if TYPE_CHECKING:
    from slowfast_dist.library import (
        Config,
        Prediction,
        Predictor,
        RunError,
        Segment,
        UserError,
        VideoProperties,
        load,
        load_config,
        probe,
        read_frames,
        train,
    )
else:  # hidden from type checkers, which would let any misspelled name pass

    def __getattr__(name):
        """Import the library when one of its names is asked for, and keep that name here."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from slowfast_dist import library

        value = globals()[name] = getattr(library, name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
