"""One progress display is enough: lm-eval, datasets and transformers each bring their own."""

from __future__ import annotations

import logging
import os


def hush() -> None:
    """Silence the progress bars and notices of the libraries below, in this process. Call before they are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
