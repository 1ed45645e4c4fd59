"""The image, built by buildah without a daemon and without privileges of a kernel's, in a store of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shipping.product import NAME, ROOT, version

__all__ = ["Images"]

PUBLISHED_BASE = "docker.io/library/debian:bookworm-slim"
MADE_BASE = "localhost/debian:bookworm-slim"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org"
SOURCES = f"""\
deb {MIRROR}/debian {SUITE} main
deb {MIRROR}/debian {SUITE}-updates main
deb {MIRROR}/debian-security {SUITE}-security main
"""
LEAN = """\
path-exclude /usr/share/doc/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""
"""What the published base leaves out too."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Whom this machine trusts: a build behind the company's own proxy must trust it too."""
IN_THE_BUILD = "/run/shipping.pem"


class Images:
    """A store of images in a folder.

    Methods raise `subprocess.CalledProcessError` where a program fails; its standard error says why.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = ["--root", str(folder / "images"), "--runroot", str(folder / "run")]
        self.name = f"localhost/{NAME}:{version()}"

    def base(self) -> str:
        """The name of the base: the published one, or where no registry can be reached one that is made of the same packages."""
        if self._ran("buildah", "pull", "--quiet", PUBLISHED_BASE).returncode == 0:
            return PUBLISHED_BASE
        self._make_base()
        return MADE_BASE

    def build(self, base: str) -> None:
        """Build the image of the Dockerfile on that base."""
        pip = self._folder / "pip.conf"
        pip.write_text(f"[global]\ncert = {IN_THE_BUILD}\n", encoding="utf-8")
        volumes = [f"--volume={AUTHORITIES}:{IN_THE_BUILD}:ro", f"--volume={pip}:/etc/pip.conf:ro"] if AUTHORITIES.is_file() else []
        # Docker's form has the HEALTHCHECK, OCI's doesn't.
        self.buildah("bud", "--format=docker", f"--build-arg=BASE={base}", *volumes, f"--tag={self.name}", str(ROOT))

    def save(self, archive: Path) -> None:
        """Write the image into a file, as `docker load` takes it."""
        archive.unlink(missing_ok=True)
        self.buildah("push", "--quiet", self.name, f"docker-archive:{archive}:{NAME}:{version()}")

    def size(self, image: str) -> int:
        """What an image's layers take, in bytes."""
        return int(self._said("podman", "image", "inspect", "--format={{.Size}}", image))

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """The image's files, to look at."""
        root = Path(self._said("podman", "image", "mount", self.name).strip())
        try:
            yield root
        finally:
            self._said("podman", "image", "umount", self.name)

    def run_command(self, *options: str) -> list[str]:
        """The command line of `podman run` with what every container of the gateway gets: no capability, nothing to write but its state."""
        return [
            *("podman", *self._store, "--runtime=runc", "--cgroup-manager=cgroupfs", "run", "--rm", "--interactive"),
            *("--network=host", "--no-healthcheck"),
            *("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--user=10001:10001"),
            *("--ulimit=nofile=4096:4096", "--ulimit=nproc=1024:1024", "--tmpfs=/tmp"),
            *options,
            self.name,
        ]

    def buildah(self, *arguments: str) -> None:
        """Run buildah with what it prints on the screen."""
        subprocess.run(self._command("buildah", *arguments), env=_variables(), check=True)  # noqa: S603 - our own

    def _make_base(self) -> None:
        folder = self._folder / "base"
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, str(folder), f"{MIRROR}/debian"], check=True)  # noqa: S603, S607
        (folder / "etc/apt/sources.list").write_text(SOURCES, encoding="utf-8")
        (folder / "etc/dpkg/dpkg.cfg.d/lean").write_text(LEAN, encoding="utf-8")
        for left_over in (*folder.glob("var/cache/apt/archives/*.deb"), *folder.glob("var/cache/apt/*.bin")):
            left_over.unlink()
        container = self._said("buildah", "from", "scratch").strip()
        self.buildah("add", "--quiet", container, str(folder), "/")
        self.buildah("commit", "--quiet", "--rm", container, MADE_BASE)

    def _said(self, *command: str) -> str:
        ran = self._ran(*command)
        ran.check_returncode()
        return ran.stdout

    def _ran(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self._command(program, *arguments)
        return subprocess.run(command, env=_variables(), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, *self._store, *arguments]


def _variables() -> Mapping[str, str]:
    return os.environ | {"BUILDAH_ISOLATION": "chroot"}
