"""The format of encrypted files, against Tink's own implementation of it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import tink
from hypothesis import given, settings
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from components.shared.runtime.store.encryption import streaming
from components.shared.runtime.store.encryption.streaming import HEADER, SEGMENT, TAG, NotAuthentic

NAME = b"model.safetensors"
FIRST = SEGMENT - HEADER - TAG
SIZES = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + SEGMENT - TAG, FIRST + SEGMENT - TAG + 1, 3 * SEGMENT]


def tinks(key: bytes) -> streaming_aead.StreamingAead:
    """Tink's primitive for this very key: AES256_GCM_HKDF_1MB, without a prefix."""
    streaming_aead.register()
    parameters = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=parameters, key_value=key)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_id=1,
        status=tink_pb2.ENABLED,
        output_prefix_type=tink_pb2.RAW,
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
            value=value.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


@pytest.mark.parametrize("size", SIZES)
def test_tink_reads_what_we_write(size: int) -> None:
    key, plain = os.urandom(32), os.urandom(size)
    sealed = streaming.encrypted(key, NAME, plain)
    with tinks(key).new_decrypting_stream(io.BytesIO(sealed), NAME) as stream:
        assert stream.read() == plain
    assert len(sealed) == streaming.sealed_bytes(size) and streaming.plain_bytes(len(sealed)) == size


class Kept(io.BytesIO):
    """Bytes that are still there after they were closed."""

    content = b""

    def close(self) -> None:
        self.content = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", SIZES)
def test_we_read_what_tink_writes(size: int) -> None:
    key, plain, sealed = os.urandom(32), os.urandom(size), Kept()
    with tinks(key).new_encrypting_stream(sealed, NAME) as stream:
        stream.write(plain)
    assert streaming.decrypted(key, NAME, sealed.content) == plain


@pytest.fixture(scope="module")
def written() -> tuple[bytes, bytes, bytes]:
    """A key, plain bytes of four segments, and their ciphertext."""
    key, plain = os.urandom(32), os.urandom(3 * SEGMENT + 1000)
    return key, plain, streaming.encrypted(key, NAME, plain)


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 3 * SEGMENT), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(written: tuple[bytes, bytes, bytes], place: int, bit: int) -> None:
    key, _, sealed = written
    changed = bytearray(sealed)
    changed[place] ^= 1 << bit
    with pytest.raises(NotAuthentic):
        streaming.decrypted(key, NAME, bytes(changed))


@pytest.mark.parametrize("kept", [0, 10, HEADER, SEGMENT - 1, SEGMENT, 2 * SEGMENT, 3 * SEGMENT + 500])
def test_no_end_can_be_cut_off(written: tuple[bytes, bytes, bytes], kept: int) -> None:
    key, _, sealed = written
    with pytest.raises(NotAuthentic):
        streaming.decrypted(key, NAME, sealed[:kept])


def test_no_bytes_can_be_added_and_no_segments_swapped(written: tuple[bytes, bytes, bytes]) -> None:
    key, _, sealed = written
    swapped = (
        sealed[:SEGMENT]
        + sealed[2 * SEGMENT : 3 * SEGMENT]
        + sealed[SEGMENT : 2 * SEGMENT]
        + sealed[3 * SEGMENT :]
    )
    for other in (sealed + b"x", swapped):
        with pytest.raises(NotAuthentic):
            streaming.decrypted(key, NAME, other)


def test_another_key_or_another_name_opens_nothing(written: tuple[bytes, bytes, bytes]) -> None:
    key, _, sealed = written
    for other_key, name in ((os.urandom(32), NAME), (key, b"config.json")):
        with pytest.raises(NotAuthentic):
            streaming.decrypted(other_key, name, sealed)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_decrypted_in_its_own_place(size: int, tmp_path: Path) -> None:
    key, plain = os.urandom(32), os.urandom(size)
    (tmp_path / "file").write_bytes(b"before it" + streaming.encrypted(key, NAME, plain))
    streaming.decrypt_in_place(key, NAME, tmp_path / "file", len(b"before it"))
    assert (tmp_path / "file").read_bytes() == plain


def test_a_size_that_no_file_has_is_refused() -> None:
    for size in (0, HEADER + TAG - 1, SEGMENT + 1, SEGMENT + TAG):
        with pytest.raises(NotAuthentic):
            streaming.plain_bytes(size)
