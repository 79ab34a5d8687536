"""What goes wrong with the hub, said so that a person knows what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from components.shared.runtime.errors import ArtifactError, ForgeError, InputError, StoreError

from .address import Address
from .hub_place import endpoint, token


@contextlib.contextmanager
def hub_errors(wanted: Address, kind: Literal["model", "data set"] = "model") -> Iterator[None]:
    """What goes wrong with the hub, as errors that say what to do.

    :param kind: of what is wanted there.
    :raises ForgeError: in place of whatever the hub's client raises.
    """
    from huggingface_hub import errors

    page = f"{endpoint()}/{'datasets/' if kind == 'data set' else ''}{wanted.place}"
    where = f"{page}@{wanted.revision}" if wanted.revision else page
    known = f"HF_TOKEN is {'set' if token() else 'not set'}"
    try:
        yield
    except ForgeError:
        raise
    except errors.GatedRepoError as error:
        raise InputError(
            f"access to {wanted.place} is restricted", where=where, why=f"{_status(error)}; {known}",
            fix=f"ask for access on {page}, then set HF_TOKEN to a token of the account that has it"
            " (in a pod: from a Secret)",
        ) from error  # fmt: skip
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"{wanted.place} has no revision {wanted.revision!r}", where=where, why=_status(error),
            fix=f"use a branch, tag or commit that {page} shows, or leave @{wanted.revision} out",
        ) from error  # fmt: skip
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"the hub has no {kind} {wanted.place!r} that we may see", where=where, why=f"{_status(error)}; {known}",
            fix=f"check the spelling (owner/name); for a private {kind} set HF_TOKEN",
        ) from error  # fmt: skip
    except errors.EntryNotFoundError as error:
        raise ArtifactError(
            "the hub lists a file that it does not give", where=where, why=_first_line(error), fix="try another revision"
        ) from error  # fmt: skip
    except errors.HFValidationError as error:
        raise InputError(
            f"{wanted.place!r} is no name of the hub",
            where="--base-model",
            why=_first_line(error),
            fix="owner/name",
        ) from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        denied = code in (401, 403)
        raise (InputError if denied else StoreError)(
            f"the hub refuses {wanted.place}" if denied else f"the hub does not give the {kind}",
            where=where, why=f"{_status(error)}; {known}",
            fix=f"set HF_TOKEN to a valid token, or unset it for a public {kind}" if denied
            else "try again in a while; HF_ENDPOINT names another hub or a mirror",
            transient=not denied and (code >= 500 or code in (408, 429)),
        ) from error  # fmt: skip
    except (
        Exception
    ) as error:  # the network: the client's own kinds of failures differ from version to version
        raise StoreError(
            f"the {kind} could not be fetched from the hub", where=where,
            why=f"{type(error).__name__}: {_first_line(error)}",
            fix="try again: what has arrived is kept; HF_ENDPOINT names a mirror, HF_HUB_OFFLINE=1 takes the cache alone",
            transient=True,
        ) from error  # fmt: skip


def _status(error: Any) -> str:
    response = getattr(error, "response", None)
    code = f"HTTP {response.status_code}" if response is not None else ""
    message = response.headers.get("X-Error-Message", "") if response is not None else ""
    return ": ".join(filter(None, (code, message))) or _first_line(error)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[
        :300
    ]
