"""``make demo``: two rendered datasets through the whole path, from pictures and sound to a cross-dataset table.

Everything is kept under demo/out, so a second run does only what is missing.
"""

from avfeat.console import errors_to_exit

if __name__ == "__main__":
    # The processes that render and decode import this file again, so what only this one needs is imported here.
    from demo.steps import main

    with errors_to_exit():
        main()
