"""Package a variant of a study so that it runs without efflab: the model, an example, a script, and where it comes from.

A torch variant becomes a torch.export program (model.pt2), an ONNX variant stays an ONNX graph (model.onnx). The folder
holds also example.npz (inputs of the validation split and the outputs that efflab got), provenance.json (steps, seed,
measured quality with its interval, what the inputs must be, sha256 of each file) and run.py, which needs numpy and
onnxruntime or torch:

    python run.py                        same outputs as efflab got? exit code 0 if so
    python run.py my_inputs.npy          predictions for an array of your own
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "package a variant of a study to run without efflab"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `efflab export`."""
    add = parser.add_argument
    add("study", metavar="STUDY", help="a recipe, a study.json, or a folder that holds one")
    add("variant", metavar="VARIANT", help="a variant or dense model of the study; an unknown one lists them")
    add("--seed", type=int, metavar="N", help="seed of the variant (default: the first that was measured)")
    add("--backend", metavar="LABEL", help="the model as this backend of the study ran it")
    add("--onnx", action="store_true", help="of a torch variant, the ONNX graph that ONNX backends measured")
    add("--out", type=Path, metavar="FOLDER", help="where to write it (default: exports/STUDY/VARIANT)")
    add("--force", action="store_true", help="replace an earlier export in that folder")


def run(args: argparse.Namespace) -> int:
    """Write the package and say what is in it."""
    from efflab.cli.compare import load
    from efflab.foundation.errors import RequestError
    from efflab.packaging.choice import Wanted
    from efflab.packaging.package import default_folder, export_package

    if args.out is not None and args.out == Path():
        raise RequestError("--out must name a folder other than the working directory")
    study = load(args.study)
    folder = args.out or default_folder(study, args.variant)
    wanted = Wanted(args.study, args.variant, args.seed, args.backend, args.onnx)
    about = export_package(study, wanted, folder, args.force)
    inputs = ", ".join(f"{one['name']} {one['dtype']} ({', '.join(map(str, one['shape']))})" for one in about["inputs"])
    print(f"{about['variant']}, seed {about['seed']}, as {about['model']} ({about['numbers']}); takes {inputs}")
    for name, score in about["quality_of_this_seed"].items():
        print(f"  {about['metric']} {score:.4f} on {name}")
    stored, packed = (about["work"] or {}).get("artefact_bytes", 0), about["files"][about["model"]]["bytes"]
    if stored and packed > 1.5 * stored:  # torch.export keeps weights whole, and code beside them
        print(f"  {about['model']} takes {packed:,} bytes; the study counts the {stored:,} of efflab's own store")
    print(f"package: {folder}")
    print(f"check:   python {folder / 'run.py'}")
    return 0
