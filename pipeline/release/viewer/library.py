"""MapLibre GL as the package `maplibre` carries it: copied into a release when that is built, never kept here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from pipeline.release.errors import ReleaseError

SCRIPT, STYLE = "maplibre-gl.js", "maplibre-gl.css"
NOTICE = """This folder holds MapLibre GL JS (maplibre-gl.js, maplibre-gl.css), as the Python package maplibre {version}
carries it, under the 3-Clause BSD licence:

Copyright (c) 2023, MapLibre contributors
All rights reserved.

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

  * Redistributions of source code must retain the above copyright notice, this list of conditions and the following
    disclaimer.
  * Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
    disclaimer in the documentation and/or other materials provided with the distribution.
  * Neither the name of MapLibre GL JS nor the names of its contributors may be used to endorse or promote products
    derived from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT OWNER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


def library_files() -> tuple[Path, Path]:
    """Script and style sheet of MapLibre GL; the package is looked up, not imported.

    Raises:
        ReleaseError: The package is not installed, or carries them elsewhere.
    """
    spec = importlib.util.find_spec("maplibre")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        script, style = (Path(place) / "srcjs" / name for name in (SCRIPT, STYLE))
        if script.is_file() and style.is_file():
            return script, style
    raise ReleaseError(
        f"the viewer needs {SCRIPT} of the Python package maplibre, which is not installed: `uv pip install maplibre`"
    )


def notice() -> str:
    """Whose the library is, and its licence."""
    return NOTICE.format(version=importlib.metadata.version("maplibre"))
