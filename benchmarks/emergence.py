"""How well a model binds six modalities, on scenes that it has never seen.

    python -m benchmarks.emergence                      # the bundled model; about 3 minutes on 2 cores
    python -m benchmarks.emergence --model PATH --scenes 300 --json out.json

Prints Markdown and, with --json, writes the same figures. `P@1`: share of queries whose first hit is right.
`R@10`: share with a right one among the first ten. Right means the same subject and the same place; an IMU
recording holds the wearer's motion, which only the place decides, so with IMU on either side the place.
"""

from __future__ import annotations

from benchmarks import command
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.evaluate import MODALITIES, evaluate_scenes


def markdown(result: dict) -> str:
    lines = ["| query \\ answer | " + " | ".join(MODALITIES) + " |", "|---" * 7 + "|"]
    cells = {(r["query"], r["answer"]): r for r in result["matrix"]}
    mark = {"trained": "T", "emergent": "e", "same": "="}
    for a in MODALITIES:
        row = (cells[a, b] for b in MODALITIES)
        lines.append(
            f"| {a} | "
            + " | ".join(f"{c['p_at_1']:.2f} / {c['r_at_10']:.2f} {mark[c['relation']]}" for c in row)
            + " |"
        )
    lines += [
        "",
        f"P@1 / R@10 over {result['scenes']} held-out scenes. T: the pair was trained. e: it never was, it "
        "emerged. =: within one modality, without itself. Chance P@1 is 0.01, with IMU 0.13.",
        "",
        "| composition: picture(S at A) + sound of B | first hit shows S at B |",
        "|---|---|",
        *(f"| {name} | {share:.0%} |" for name, share in result["composition"].items()),
        "",
        f"Pictures compared by their colour histograms alone: P@1 {result['colour_histogram']:.2f}.",
    ]
    return "\n".join(lines)


def run(model: str | None, *, scenes: int, triples: int) -> dict:
    backend = ImageBindBackend.load(model)
    fingerprint = {"model": backend.fingerprint.name, "digest": backend.fingerprint.digest}
    return fingerprint | evaluate_scenes(backend, scenes, triples=triples).figures


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="bundled", help="bundled (the default), imagebind or a folder")
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--triples", type=int, default=300)
    options = parser.parse_args()
    result = run(options.model, scenes=options.scenes, triples=options.triples)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
