"""Quantise a captioner once for a whole cluster.

    python jobs/quantise_captioner.py --model google/medgemma-4b-it --target shared/medgemma-nf4

The folder then stands for the model (`captions.model=FOLDER`): smaller, quicker to load, no hub, no token.
"""

import argparse
import logging
from pathlib import Path

from fracray.captions.choose import model_source
from fracray.captions.loading import save_quantised
from fracray.config import CaptionSettings
from fracray.errors import FracrayError


def main() -> None:
    """Read the command line, load, and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="model id, or folder")
    parser.add_argument("--target", type=Path, required=True, help="folder on a disk that all machines share")
    parser.add_argument("--revision", help="revision of a model id")
    parser.add_argument("--quantisation", choices=["nf4", "int8"], default="nf4")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = CaptionSettings(
        model=arguments.model, revision=arguments.revision, quantisation=arguments.quantisation
    )
    try:
        layers = save_quantised(settings, model_source(settings), arguments.target)
    except FracrayError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{arguments.target}: {layers} layers in {arguments.quantisation}")


if __name__ == "__main__":
    main()
