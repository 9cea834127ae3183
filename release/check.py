"""Build what would be published and try it as a stranger would: `make release-check`.

Package, npm package, manifests, changelog and tag name one version (release/agreement.py). The source distribution is
built, the wheel from it; both hold what the repository does (release/contents.py), and twine checks them. The README is
rendered as on the package's page. The wheel is installed into a clean environment of each Python that is supported and
here, where a run pauses and completes; the npm package is packed and built into fresh applications; the image is built.
What could not be tried here is said, and is a failure with `--all`. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release.agreement import differences
from release.contents import read_metadata, sdist_faults, wheel_faults

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

TRIAL = """
import agentkit
from agentkit import Agent, AgentKit, ScriptedModel, tool

@tool(decision={"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]})
def refund(cents: int, decision: dict) -> str:
    return f"refunded {cents}: {decision['approved']}"

ask = [{"type": "toolCall", "name": "refund", "arguments": {"cents": 5}}]
kit = AgentKit([Agent("a", ScriptedModel([ask, "done"]), tools=[refund])])
with kit.testing() as testing:
    handle = kit.start("a", "x")
    assert handle.run.status == "paused", handle.run
    kit.resume(handle.id, {"approved": True})
    assert handle.run.status == "completed", handle.run
from agentkit.web import create_app
page = create_app(kit).test_client().get("/")
assert page.status_code == 200 and b"<html" in page.data, page.status
print(agentkit.__version__)
"""


def run(*words: object, cwd: Path = ROOT) -> str:
    """Run a command; its output. Ends the program where it fails."""
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def uv(*words: object, cwd: Path = ROOT) -> str:
    return run(sys.executable, "-m", "uv", *words, cwd=cwd)


def say(text: str) -> None:
    print(text, flush=True)


def stop_for(faults: list[str]) -> None:
    if faults:
        sys.exit("\n".join(["not ready to release:", *(f"- {fault}" for fault in faults)]))


def check_version() -> str:
    """Check that one version is named everywhere; that version."""
    stop_for(differences(ROOT, run("git", "tag", "--points-at", "HEAD").split()))
    version = re.findall(r'^__version__ = "(.+)"$', (ROOT / "agentkit" / "__init__.py").read_text(), re.MULTILINE)[0]
    say(f"version {version} is named everywhere")
    return str(version)


def build(folder: Path, version: str) -> Path:
    """Build both distributions and check what they hold; the wheel, which is made from the source distribution."""
    say("building the source distribution, and the wheel from it")
    tracked = run("git", "ls-files").splitlines()
    uv("build", "--quiet", "--out-dir", folder)
    uv("tool", "run", "--quiet", "twine", "check", "--strict", *sorted(folder.glob("agentkit_celery-*")))
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    faults, readme = read_metadata(wheel, version, PYTHONS)
    stop_for([*faults, *sdist_faults(sdist, tracked), *wheel_faults(wheel, tracked), *readme_faults(readme, folder)])
    say(f"they hold the {len(tracked)} files of the repository, and the package")
    return wheel


def readme_faults(text: str, folder: Path) -> list[str]:
    """Render the README as the package's page does, which twine does not, and follow its links into the repository."""
    source, page = folder / "README.md", folder / "readme.html"
    source.write_text(text)
    uv(
        "run",
        "--quiet",
        "--no-project",
        "--with",
        "readme-renderer[md]",
        "python",
        "-m",
        "readme_renderer",
        source,
        "-o",
        page,
    )
    html = page.read_text()
    faults = [f"the README on the package's page has no {tag}" for tag in ("<table", "<pre", "<h2") if tag not in html]
    for link in re.findall(r'(?:href|src)="([^"#][^"]*)"', html):
        inside = re.match(r"https://\S+?/agentkit-celery/agentkit/(?:(?:blob|tree)/)?main/([^#]*)", link)
        if not link.startswith(("https://", "http://localhost")) or (inside and not (ROOT / inside[1]).exists()):
            faults.append(f"the README on the package's page has a link that leads nowhere: {link}")
    return faults


def find_python(version: str) -> Path | None:
    """Find an interpreter of this minor version, on the PATH or among pyenv's."""
    pyenv = Path.home() / ".pyenv" / "versions"
    found = [*filter(None, [shutil.which(f"python{version}")]), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    works = [path for path in map(Path, found) if subprocess.run([path, "-V"], capture_output=True).returncode == 0]
    return works[-1] if works else None


def try_on(version: str, wheel: Path, folder: Path) -> bool:
    """Install the wheel for one Python and have a run complete there; False where this machine has none."""
    python = find_python(version)
    if python is None:
        say(f"Python {version}: NOT TRIED, this machine has none")
        return False
    venv = folder / f"venv-{version}"
    uv("venv", "--quiet", "--python", python, venv)
    uv("pip", "install", "--quiet", "--python", venv, f"agentkit-celery[fast,prices,server,web] @ file://{wheel}")
    (folder / "trial.py").write_text(TRIAL)
    say(f"Python {version}: {run(venv / 'bin' / 'python', 'trial.py', cwd=folder).strip()} works")
    return True


def try_npm() -> bool:
    """Pack the npm package and build it into fresh applications; False where there is no Node."""
    if shutil.which("npm") is None:
        say("npm package: NOT TRIED, this machine has no Node")
        return False
    say("packing the npm package and building fresh applications with it")
    client = ROOT / "clients" / "react"
    run("npm", "ci", "--ignore-scripts", "--silent", cwd=client)
    if subprocess.run(["npm", "run", "--silent", "apps"], cwd=client).returncode:  # it says what it does meanwhile
        sys.exit("the npm package cannot be built into an application")
    return True


def try_image(version: str) -> bool:
    """Build the image and ask it for its version; False where no Docker daemon answers."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode:
        say("image: NOT TRIED, no Docker daemon answers")
        return False
    image = f"agentkit:{version}"
    run(docker, "build", "--quiet", "-f", "deploy/Dockerfile", "-t", image, ".")
    if version not in run(docker, "run", "--rm", "--read-only", image, "agentkit", "--version"):
        sys.exit(f"the image {image} has another version")
    say(f"image: {image} works")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="fail where something could not be tried on this machine")
    parser.add_argument("--out", type=Path, help="keep the distributions in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        version = check_version()
        wheel = build(folder, version)
        tried = [*(try_on(python, wheel, folder) for python in PYTHONS), try_npm(), try_image(version)]
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("agentkit_celery-*"):
                shutil.copy(path, options.out)
    if options.all and not all(tried):
        sys.exit("not everything could be tried here")
    say("ready to release" if all(tried) else "ready to release, as far as this machine can tell")


if __name__ == "__main__":
    main()
