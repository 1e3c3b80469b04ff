"""Chat templates rendered as transformers renders them, in a process with limits."""

from suites.rendering.renderer import Refused, Rendered, Renderer
from suites.rendering.templates import ChatTemplates

__all__ = ["ChatTemplates", "Refused", "Rendered", "Renderer"]
