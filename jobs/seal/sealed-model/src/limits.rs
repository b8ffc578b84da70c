//! The limits of the formats. A file beyond one of them is refused before it costs anything.

/// Longest safetensors header in bytes: the limit of the `safetensors` library, so that what we
/// write opens there.
pub const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Most tensors of one model; the largest published models have some thousands.
pub const TENSORS_MAX: usize = 65_536;

/// Longest tensor name in bytes of UTF-8.
pub const TENSOR_NAME_BYTES_MAX: usize = 512;

/// Most dimensions of a tensor; convolutions over volumes have five.
pub const RANK_MAX: usize = 8;

/// Largest file in bytes: no counter of a tensor's chunks can then wrap.
pub const FILE_BYTES_MAX: u64 = 1 << 48;

/// Most files of one version: a store lists them in one document.
pub const FILES_MAX: usize = 4_096;

/// Smallest chunk of a sealed tensor in bytes: below it the tags outgrow one part in 4,096.
pub const CHUNK_BYTES_MIN: u64 = 64 << 10;

/// Largest chunk of a sealed tensor in bytes: it is held in memory whole.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;

/// Chunk of a sealed tensor where nothing else is asked for, as in CryptoTensors.
pub const CHUNK_BYTES_DEFAULT: u64 = 2 << 20;

/// Chunk of `plain` and `fhe` tensors under their `chunks_root`; part of manifest format 1.
pub const ROOT_CHUNK_BYTES: u64 = 2 << 20;

/// Largest `manifest.json` in bytes: some 200 bytes for each of [`TENSORS_MAX`] tensors.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Largest `model.sig` in bytes: base64 of a statement with some 150 bytes for each of
/// [`FILES_MAX`] files.
pub const SIGNATURE_BYTES_MAX: u64 = 8 << 20;

/// Largest public file (`config.json`, `tokenizer.json` …) in bytes; they are read whole.
pub const PUBLIC_FILE_BYTES_MAX: u64 = 256 << 20;

/// Largest integer that canonical JSON (RFC 8785) holds exactly.
pub const JSON_INTEGER_MAX: u64 = (1 << 53) - 1;
