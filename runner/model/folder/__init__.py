"""Any common form of a model as a complete folder in Hugging Face's layout."""

from runner.model.folder.model_folder import ModelFolder, model_folder

__all__ = ["ModelFolder", "model_folder"]
