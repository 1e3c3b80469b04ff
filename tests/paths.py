"""Where the tests find what the project ships."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY_CHAT = ROOT / "suites" / "models" / "tiny-chat"
