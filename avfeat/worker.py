"""The process that reads clips: ``python -m avfeat.worker FD`` serves one parent over one socket.

A process of its own, so that a file that crashes a decoder, eats all memory or never ends costs one clip and not the
job. Started afresh rather than forked: a face landmarker used after a fork hangs for ever.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from avfeat.errors import AvfeatError, ClipError, CrashError
from avfeat.produce import Broken, Failed, Job, Ready, produce


def serve(connection: Connection, model: Path | None) -> None:
    """Answer jobs with their views until the parent hangs up; ``model`` is the landmarker's file."""
    from avfeat.landmarks import Landmarker
    from avfeat.landmarks_dlib import AnyLandmarker, DlibLandmarker

    landmarkers: dict[str, AnyLandmarker] = {}

    def landmarker(kind: str) -> AnyLandmarker:
        if kind not in landmarkers:
            landmarkers[kind] = DlibLandmarker() if kind == "dlib" else Landmarker(model)
        return landmarkers[kind]

    try:
        connection.send(Ready())
        while True:
            job: Job = connection.recv()
            try:
                for message in produce(job, landmarker):
                    connection.send(message)
            except ClipError as error:
                connection.send(Failed(error))
            except AvfeatError as error:
                connection.send(Broken(error))
            except (BrokenPipeError, ConnectionResetError, EOFError):
                raise
            except Exception as error:
                sentence = (
                    f"{job.clip_id}: reading it failed in a way nobody foresaw ({type(error).__name__}: {error})."
                )
                connection.send(Failed(CrashError(sentence)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        for each in landmarkers.values():
            each.close()


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group; only the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
