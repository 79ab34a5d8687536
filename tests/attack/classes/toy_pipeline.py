"""A pipeline of three tasks, of which the second is slow, keeps a checkpoint and writes a folder."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from tests.pipeline.local.toy_pipelines import toy, write

SLOW = """
import signal
kept = pathlib.Path(os.environ["FORGE_CHECKPOINTS"]) / "count"
kept.parent.mkdir(parents=True, exist_ok=True)
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
count = int(kept.read_text()) if kept.exists() else 0
while count < 12:
    time.sleep(.02)
    count += 1
    (kept.parent / "draft").write_text(str(count)); os.replace(kept.parent / "draft", kept)
    if asked: sys.exit(75)
outputs["out"].mkdir()
(outputs["out"] / "a").write_text("slow" + str(count)); (outputs["out"] / "b").write_text("b" * 1000)
"""


COUNT = """
text = "".join(path.read_text() for path in sorted(inputs["before"][0].iterdir()))
say(text)
size = pathlib.Path(given["outputs"]["parameters"]["size"]["outputFile"])
size.parent.mkdir(parents=True, exist_ok=True)
size.write_text(str(len(text)))
"""


@dsl.container_component
def slow(before: Input[Artifact], out: Output[Artifact]):
    """Works for a quarter of a second, from where it was stopped."""
    return toy(SLOW)


@dsl.container_component
def count(before: Input[Artifact], out: Output[Artifact], size: dsl.OutputPath(int)):
    """Writes what it has read, and how long it is."""
    return toy(COUNT)


@dsl.pipeline
def attacked(text: str = "a", number: int = 1):
    """One after the other."""
    first = write(text=text)
    second = slow(before=first.outputs["out"])
    count(before=second.outputs["out"])
