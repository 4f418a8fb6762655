"""Whether repositories of archives are as watch left them, read on watch (borg's internals, "Segments")."""

from __future__ import annotations

import glob
import json
import os


def unjudged(folder: str) -> list[str]:
    """What lies in a machine's repository that no judged session brought, in words."""
    found = []
    for path in sorted(glob.glob(f"{folder}/known/*.json")):
        machine = os.path.basename(path).removesuffix(".json")
        with open(path) as file:
            known = json.load(file)
        numbers = [
            int(os.path.basename(it))
            for it in glob.glob(f"{folder}/{machine}/data/*/*")
            if os.path.basename(it).isdigit()
        ]
        if later := [it for it in numbers if it > known["good"]]:
            found.append(f"{machine}: {len(later)} segments that no session of a backup brought")
        try:
            with open(f"{folder}/{machine}/config", errors="replace") as file:
                config = file.read()
        except OSError:
            config = ""
        if config != known["config"]:
            found.append(
                f"{machine}: the repository's key or settings are not those that it was made with"
            )
    return found
