"""Encryption at rest: what a store holds is ciphertext, and what a phase sees of it is not.

    streaming   the file format: Tink's AES256-GCM-HKDF streaming, segments of 1 MiB
    key_files   a key-encryption key in a file
    kms         a key-encryption key in AWS KMS, which never leaves it
    key_ring    the key-encryption keys of this process: the newest wraps, all unwrap
    data_keys   one data key for a folder of a store, in a small object beside what it encrypts
    encrypted   the store that encrypts what another one holds
    rotation    what is wrapped by which key, and wrapping all by the newest

Digests in manifests stay over plain bytes: an artifact is the same artifact, wherever it is kept.
"""
