"""Any common form of a model as a complete folder in Hugging Face's layout."""

from runner.model.folder.cache import default_cache
from runner.model.folder.hub import model_path
from runner.model.folder.model_folder import FoundArtifact, ModelFolder, find_artifact, model_folder

__all__ = [
    "FoundArtifact",
    "ModelFolder",
    "default_cache",
    "find_artifact",
    "model_folder",
    "model_path",
]
