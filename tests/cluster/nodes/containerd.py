"""A containerd of one node, and the folder of imported images from which each node's is made by hard links."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from images.commands import image_cache
from images.layout import BLOBS as LAYOUT_BLOBS
from images.layout import Layout
from images.recipe import Image
from radiffuse.local_files import folder_lock
from tests.cluster.processes import CommandError, Server, run

NAMESPACE = "k8s.io"
START_SECONDS = 60.0
IMPORT_SECONDS = 900.0
BLOBS = "io.containerd.content.v1.content/blobs/sha256"

UNUSED = [f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")]
CONFIG = """version = 2
root = "{root}"
state = "{state}"
oom_score = 0
disabled_plugins = {disabled}
[grpc]
  address = "{state}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # What a machine does not offer is done without: scores below our own, AppArmor, huge pages.
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"""


class Containerd:
    """One daemon with folders of its own, stopped until `start`."""

    def __init__(self, name: str, root: Path, log_folder: Path, pause: str, cni: Path | None = None) -> None:
        """pause: the name of the image that holds a pod's namespaces; cni: the folder of its network's description."""
        self.root = root
        self.state = Path("/run") / name
        self.state.mkdir(parents=True, exist_ok=True)
        config = self.state / "config.toml"
        # Without a network it only keeps images, and the plugin for kubelets would give each of them a second name.
        disabled = json.dumps([*UNUSED, *(["io.containerd.grpc.v1.cri"] if cni is None else [])])
        text = CONFIG.format(disabled=disabled, root=root, state=self.state, pause=pause, cni=cni)
        config.write_text(text, encoding="utf-8")
        self._server = Server(name, ["containerd", "--config", str(config)], log_folder / f"{name}.log")

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.state / "containerd.sock"

    def start(self) -> None:
        """Start it and wait until it answers; raises ServerError."""
        self._server.start()
        self._server.wait_until_ready(self._answers, START_SECONDS)

    def stop(self) -> None:
        """Stop the daemon; containers run on without it."""
        self._server.stop()

    def ctr(self, *arguments: str) -> list[str]:
        """Lines that `ctr` prints; raises CommandError."""
        return run(["ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *arguments]).splitlines()

    def kill_containers(self) -> None:
        """Kill every process of every container at once, as a power cut would."""
        for container in self.ctr("tasks", "list", "--quiet"):
            run(["ctr", "-a", str(self.socket), "-n", NAMESPACE, "tasks", "kill", "--all", "-s", "SIGKILL", container])

    def hold_only(self, images: Sequence[Image]) -> None:
        """Import images that are missing and remove all others; raises CommandError."""
        for lease in self.ctr("leases", "list", "--quiet"):  # of an import that was killed: it would hold its layers
            self.ctr("leases", "delete", lease)
        held = set(self.ctr("images", "list", "--quiet"))
        for image in images:
            if image.name not in held:
                self._import(image)
        if others := held - {image.name for image in images}:
            self.ctr("images", "remove", "--sync", *others)

    def _import(self, image: Image) -> None:
        known = {path.name for path in (self.root / BLOBS).glob("*")}
        command = ["ctr", "--address", str(self.socket), "--namespace", NAMESPACE]
        command += ["images", "import", "--base-name", image.repository, "-"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdin is not None and process.stdout is not None
        try:
            image.layout.write_archive(process.stdin, known)
            process.stdin.close()
        except BrokenPipeError:
            pass  # what it says is the better message
        said = process.stdout.read().decode(errors="replace")
        if process.wait(IMPORT_SECONDS) != 0 or image.name not in self.ctr("images", "list", "--quiet"):
            raise CommandError(f"containerd did not take {image.name}: {said[-500:]}")

    def _answers(self) -> bool:
        try:
            self.ctr("version")
        except CommandError:
            return False
        return True


def imported(images: Sequence[Image], log_folder: Path) -> Path:
    """A containerd's root that holds these images unpacked, kept in the cache and brought up to date."""
    root = image_cache() / "containerd"
    root.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps(sorted(image.name for image in images))
    record = root.with_name("containerd.json")
    with folder_lock(image_cache()):
        if not record.exists() or record.read_text(encoding="utf-8") != wanted:
            daemon = Containerd("containerd-images", root, log_folder, images[0].name)
            daemon.start()
            try:
                daemon.hold_only(images)
            finally:
                daemon.stop()
            for image in images:
                _share_blobs(image.layout, root / BLOBS)
            record.write_text(wanted, encoding="utf-8")
    return root


def _share_blobs(layout: Layout, folder: Path) -> None:
    """Replace each of the image's blobs by a hard link to the daemon's, so that the disk holds it once."""
    for blob in (layout.folder / LAYOUT_BLOBS).iterdir():
        other = folder / blob.name
        if other.exists() and not blob.samefile(other):
            link = blob.with_suffix(".link")
            link.hardlink_to(other)
            link.replace(blob)


def clone(source: Path, target: Path) -> None:
    """Give another daemon the same images: what is never written again by hard links, the databases as copies."""
    run(["cp", "--archive", "--link", str(source), str(target)], seconds=300)
    for database in source.rglob("*.db"):
        copy = target / database.relative_to(source)
        copy.unlink()
        shutil.copy2(database, copy)
