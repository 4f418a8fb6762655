"""Disks that forget what was not synced, for some folders of the lab's machines.

A machine that is killed in the lab leaves what it wrote in the box's memory, and finds it again when it boots: as if
every write had been synced. So a folder is put on a file system of its own (ext4 in a file, a loop device). When the
power fails, the machine is frozen, the *file* is copied, and the machine killed; it boots with the copy. What its
kernel had not written out to the file by then, because nobody called fsync(2), is gone, and the journal is replayed.
The file lies in memory: a sync costs nothing, and nothing of it has to survive the box.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mastio.lab import command
from mastio.lab.machine import Machine
from mastio.lab.provider import Lab

SIZE = "1G"


class Disks:
    """Folders of machines that are on such disks: `{"store": ["/var/vmail"]}`."""

    def __init__(self, site: str, folders: dict[str, Sequence[str]]) -> None:
        self._site, self._folders, self._lab = site, folders, Lab(site)
        self._place = Path(tempfile.mkdtemp(prefix="chaos-", dir="/dev/shm"))

    def _image(self, machine: str, folder: str) -> Path:
        return self._place / f"{machine}{folder.replace('/', '-')}"

    def _mount(self, machine: str) -> None:
        Machine(self._site, machine).mount()
        root = Machine(self._site, machine).root
        for folder in self._folders.get(machine, ()):
            image = self._image(machine, folder)
            command.run(["mount", "-o", "loop", str(image), f"{root}{folder}"], what=machine)

    @contextmanager
    def installed(self) -> Iterator["Disks"]:
        """Moves the folders there, and back in the end. Their machines reboot."""
        try:
            for machine, folders in self._folders.items():
                one = Machine(self._site, machine)
                one.stop()
                one.mount()
                for folder in folders:
                    image = self._image(machine, folder)
                    command.run(["truncate", "-s", SIZE, str(image)])
                    command.run(["mkfs.ext4", "-q", "-d", f"{one.root}{folder}", str(image)])
                self._mount(machine)
                self._lab.boot(machine)
            yield self
        finally:
            for machine, folders in self._folders.items():
                one = Machine(self._site, machine)
                one.stop()
                self._mount(machine)
                for folder in folders:
                    inside, place = Path(f"{one.root}{folder}"), self._place / "back"
                    command.run(["cp", "-a", str(inside), str(place)])
                    command.run(["umount", str(inside)])
                    command.run(["find", str(inside), "-mindepth", "1", "-delete"])
                    command.run(["cp", "-aT", str(place), str(inside)])
                    shutil.rmtree(place)
                self._lab.boot(machine)
            shutil.rmtree(self._place)

    def cut(self, machine: str) -> None:
        """Takes a machine's power away: its disks are what they are at this moment."""
        Machine(self._site, machine).cage.freeze()
        images = [self._image(machine, it) for it in self._folders.get(machine, ())]
        for image in images:
            command.run(["cp", "--sparse=always", str(image), f"{image}.cut"])
        self._lab.cut(machine)
        for image in images:
            Path(f"{image}.cut").rename(image)

    def boot(self, machine: str) -> None:
        """Gives it its power back."""
        self._mount(machine)
        self._lab.boot(machine)
