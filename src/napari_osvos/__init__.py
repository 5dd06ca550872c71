"""One painted frame in, a segmented movie out.

The names below are loaded when they are first used, so that ``import napari_osvos`` costs a napari
start-up nothing: it loads neither torch nor Qt nor napari, nor any other library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from .annotations import Annotations
    from .clip import Clip
    from .config import FineTuneConfig, LinkConfig, NetworkConfig, ParentConfig, PredictConfig
    from .evaluation import Scores, evaluate
    from .expected_accuracy import ExpectedAccuracy
    from .exporting import export
    from .finetune import FineTuner
    from .frame_store import FrameStore
    from .io import read_clip, read_labels, write_labels, write_probabilities
    from .lineage import Lineage, Track
    from .parent import ParentNetwork
    from .parent_training import train_parent
    from .pipeline import predict_frames
    from .predict_job import PredictJob
    from .sample_data import simulate_movie
    from .segmenter import Segmenter
    from .suggest import FrameReview, Suggestion, suggest_frames
    from .tracking import TrackedMovie, track

__all__ = [
    "Annotations",
    "Clip",
    "ExpectedAccuracy",
    "FineTuneConfig",
    "FineTuner",
    "FrameReview",
    "FrameStore",
    "Lineage",
    "LinkConfig",
    "NetworkConfig",
    "ParentConfig",
    "ParentNetwork",
    "PredictConfig",
    "PredictJob",
    "Scores",
    "Segmenter",
    "Suggestion",
    "Track",
    "TrackedMovie",
    "__version__",
    "evaluate",
    "export",
    "predict_frames",
    "read_clip",
    "read_labels",
    "simulate_movie",
    "suggest_frames",
    "track",
    "train_parent",
    "write_labels",
    "write_probabilities",
]

_HOMES = {
    "Annotations": "annotations",
    "Clip": "clip",
    "ExpectedAccuracy": "expected_accuracy",
    "FineTuneConfig": "config",
    "FineTuner": "finetune",
    "FrameReview": "suggest",
    "FrameStore": "frame_store",
    "Lineage": "lineage",
    "LinkConfig": "config",
    "NetworkConfig": "config",
    "ParentConfig": "config",
    "ParentNetwork": "parent",
    "PredictConfig": "config",
    "PredictJob": "predict_job",
    "Scores": "evaluation",
    "Segmenter": "segmenter",
    "Suggestion": "suggest",
    "Track": "lineage",
    "TrackedMovie": "tracking",
    "evaluate": "evaluation",
    "export": "exporting",
    "predict_frames": "pipeline",
    "read_clip": "io",
    "read_labels": "io",
    "simulate_movie": "sample_data",
    "suggest_frames": "suggest",
    "track": "tracking",
    "train_parent": "parent_training",
    "write_labels": "io",
    "write_probabilities": "io",
}


def __getattr__(name: str) -> Any:
    """Import the public name from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return __all__
