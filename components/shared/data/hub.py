"""Data sets of a Hugging Face hub, or of the mirror that HF_ENDPOINT names, streamed by `datasets`.

A revision is resolved to its commit first, and every row is taken from that commit. Code of a data set is never run:
`datasets` reads data files alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.shared.base_models.address import Address
from components.shared.base_models.hub_errors import hub_errors
from components.shared.base_models.hub_place import endpoint, token
from components.shared.runtime.errors import InputError
from components.shared.tasks.corpora import CorpusAddress

from .formats import pieces, text_of


class HubDataset:
    """One split of a data set.

    :raises ForgeError: there is no such data set, revision, configuration or split, or the hub does not answer.
    """

    def __init__(self, address: CorpusAddress) -> None:
        from huggingface_hub import HfApi

        self.column, self.split = address.column, address.split
        with _errors(address):
            info = HfApi(endpoint=endpoint(), token=token()).dataset_info(
                address.place, revision=address.revision or None
            )
            self.address = f"{address.place}@{info.sha}"
            self.rows: Any = _streamed(address, str(info.sha))
        self._asked = address

    def listing(self) -> list[str]:
        """The commit, and what is read of it."""
        return [self.address, self._asked.config, self.split, self.column]

    def documents(self, work: Path) -> Iterator[bytes]:
        """Row by row; nothing is kept on this machine."""
        with _errors(self._asked):
            for number, row in enumerate(self.rows, 1):
                yield from pieces(text_of(row, self.column, f"{self.address}, row {number}").strip())


def _streamed(address: CorpusAddress, commit: str) -> Any:
    import datasets

    return datasets.load_dataset(
        address.place,
        address.config or None,
        split=address.split,
        revision=commit,
        streaming=True,
        token=token() or False,
    )


@contextlib.contextmanager
def _errors(address: CorpusAddress) -> Iterator[None]:
    """What goes wrong with the hub, as errors that say what to do."""
    from datasets import exceptions

    wanted = Address("hub", address.place, address.revision)
    with hub_errors(wanted, "data set"):
        try:
            yield
        except exceptions.DatasetNotFoundError as error:
            raise InputError(
                f"the hub has no data set {address.place!r} that we may see",
                where=str(wanted),
                why=str(error).strip(),
                fix="check the spelling (corpus:owner/name); for a private data set set HF_TOKEN",
            ) from error
        except (ValueError, exceptions.DatasetsError) as error:  # no such configuration, split or data file
            raise InputError(
                "the data set cannot be read as it was asked for",
                where=str(wanted),
                why=str(error).strip(),
                fix="corpus:owner/name@revision?config=CONFIG&split=SPLIT&column=COLUMN",
            ) from error
