"""Fuse two model files of yours: python examples/two_files.py A.gguf B.gguf "Your question"."""

import sys

import cf_local


def main(files: list[str], question: str) -> None:
    """Print the answer as it is written; [brackets] hold what one model won against the other."""
    with cf_local.load(models=files) as fusion:
        names = [source.info.name for source in fusion.sources]
        print(", ".join(f"{letter} = {name}" for letter, name in zip("AB", names, strict=True)))
        for event in fusion.stream(cf_local.chat(question)):
            if isinstance(event, cf_local.Answer):
                print(f"\n({event.finish_reason}, {event.elapsed_s:.1f} s)")
            elif len(event.candidates) > 1 and len(event.winners) == 1:
                letter = "AB"[names.index(event.winners[0])]
                print(f"[{letter}:{event.text}]", end="", flush=True)
            else:
                print(event.text, end="", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(sys.argv[1:3], sys.argv[3])
    except cf_local.CfLocalError as error:
        sys.exit(f"two_files.py: {error}")
