"""`forge encryption …`: what lies encrypted in a store, and the way from one key to the next."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from components.shared.runtime.errors import ConfigError

from ..options import AsJson, say

if TYPE_CHECKING:
    from components.shared.runtime.store.encryption.encrypted import EncryptedStore

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Encryption at rest: what is encrypted in a store, by which key, and the next key.",
)

Address = Annotated[str, typer.Argument(help="s3://bucket/prefix, minio://bucket/prefix or file:///folder.")]


@app.command()
def status(address: Address, as_json: AsJson = False) -> None:
    """What is encrypted below an address, what is not, and which keys wrap the data keys.

    \b
    FORGE_ENCRYPTION_KEY_FILE=key forge encryption status s3://models/forge

    The exit code is 1 when something there is not encrypted.
    """
    from components.shared.runtime.store.encryption import rotation

    store = _opened(address)
    found = rotation.status(store)
    if as_json:
        say(json.dumps({**asdict(found), "newest": store.ring.newest.name}, indent=1))
    else:
        say(f"{found.encrypted:,} objects are encrypted, {len(found.plain):,} are not")
        for key in found.plain[:10]:
            say(f"  not encrypted: {store.address(key)}")
        for name, count in found.wrapped_by.items():
            newest = " (the newest key)" if name == store.ring.newest.name else " (forge encryption rotate)"
            say(f"{count:,} data keys are wrapped by {name}{newest}")
        if found.unused:
            say(f"{len(found.unused):,} data keys open nothing any more")
    raise typer.Exit(1 if found.plain else 0)


@app.command()
def rotate(address: Address) -> None:
    """Wrap every data key by the newest key; what they encrypt is not touched. Runs may go on meanwhile.

    \b
    head -c 32 /dev/urandom > new.key
    FORGE_ENCRYPTION_KEY_FILE=new.key:old.key forge encryption rotate s3://models/forge

    Then every process gets the new key alone.
    """
    from components.shared.runtime.store.encryption import rotation

    store = _opened(address)
    wrapped, already = rotation.rotate(store)
    say(f"{wrapped:,} data keys were wrapped by {store.ring.newest.name}, {already:,} were already")


@app.command()
def encrypt(address: Address) -> None:
    """Encrypt what a store holds that is not encrypted yet, in place. Nobody may write there meanwhile.

    \b
    FORGE_ENCRYPTION_KEY_FILE=key forge encryption encrypt s3://models/forge
    """
    from components.shared.runtime.store.encryption import rotation

    say(f"{rotation.encrypt_plain(_opened(address)):,} objects were encrypted")


def _opened(address: str) -> EncryptedStore:
    from components.shared.runtime.store.encryption.encrypted import EncryptedStore
    from components.shared.runtime.store.encryption.key_ring import KEY_FILE, KMS_KEY_ID
    from components.shared.runtime.store.uri import open_store

    store = open_store(address)
    if not isinstance(store, EncryptedStore):
        raise ConfigError(
            "nothing is encrypted here",
            where=address,
            why="this is a folder of files in place" if "://" not in address else "no encryption key is set",
            fix=f"set {KEY_FILE} or {KMS_KEY_ID}, and give s3://…, minio://… or file:///…",
        )
    return store
