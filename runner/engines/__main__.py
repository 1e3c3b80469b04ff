"""Entry of the engine child: ``python <path>/runner/engines`` in the engine's own environment.

The package is loaded from beside this file and from nowhere else, so no module of the engine's
environment can be shadowed by ours, nor ours by a foreign ``runner``.
"""

import importlib.util
import sys
from pathlib import Path


def _load_own_package() -> None:
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "runner", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"the engine child's own package is missing beside {root}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["runner"] = module
    spec.loader.exec_module(module)
    # The child's folder itself must not be searched: its files would pass for top-level modules.
    sys.path[:] = [
        p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent
    ]


if __name__ == "__main__":
    _load_own_package()
    from runner.engines.child import main

    sys.exit(main())
